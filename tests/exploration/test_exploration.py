"""What is told of a dataset is true: counts by hand, measures by definition, any row shown."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from hypothesis import given
from hypothesis import strategies as st

from llmctl import rows
from llmctl.data.judging import judged
from llmctl.errors import InputError
from llmctl.exploration import instructions, mentions, page, richness
from llmctl.exploration.profile import Profile, figures, profile
from llmctl.exploration.sample import Sample
from llmctl.exploration.topics import topics
from llmctl.exploration.views import View, parts, texts_of, view_of, views
from llmctl.report.html import Report
from llmctl.schema.judging import Judging


def example(question: str, answer: str, **more: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": said, **more}


def test_mtld_counts_the_words_that_a_factor_lasts() -> None:
    # ten types in turn: 10/14 is the first ratio at or below 0.72, so each factor lasts 14 words;
    # 100 words are 7 factors and two words with no repeat, which add nothing
    assert richness.mtld(list("abcdefghij") * 10) == pytest.approx(100 / 7)
    # one word alone: a factor is two words
    assert richness.mtld(["a"] * 100) == pytest.approx(2.0)
    assert richness.mtld(["a"] * 49) is None


def test_distinct_is_the_share_of_different_ngrams() -> None:
    words = list("ab") * 30
    assert richness.distinct(words, 1) == pytest.approx(2 / 60)
    assert richness.distinct(words, 2) == pytest.approx(2 / 59)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write a short story about a dog.", ("write", "story")),
        ("Please classify the sentiment of the following tweet.", ("classify", "sentiment")),
        ("Can you give me three tips for better sleep?", ("give", "tips")),
        ("I have two texts.\nSummarize the second text in one line.", ("summarize", "text")),
        ("What is the capital of France?", ("what", "capital")),
        ("Bonjour à tous.", None),
        ("", None),
    ],
)
def test_the_verb_and_noun_of_an_instruction(text: str, expected: tuple[str, str] | None) -> None:
    assert instructions.asked(text) == expected


@given(st.text(max_size=200))
def test_any_text_can_be_read(text: str) -> None:
    instructions.asked(text)
    assert all(richness.words(text))


def test_a_term_counts_once_a_row() -> None:
    groups, terms = Counter[str](), Counter[str]()
    mentions.counted({"she", "her", "king"}, groups, terms)
    mentions.counted({"she"}, groups, terms)
    assert groups == {"women": 2, "men": 1}
    assert terms == {"she": 2, "her": 1, "king": 1}


def test_the_score_of_a_row_is_what_judges_of_build_dataset_write(tmp_path: Path) -> None:
    keys = {"judge": {"kind": "match", "rule": "f1"}, "unmeasured": "keep", "max_unmeasured": 1.0}
    settings = [Judging.model_validate({**keys, "name": name}) for name in ("one", "two")]
    given = [
        {**example("q", "warm water", id=str(n)), "source": {}, "meta": meta}
        for n, meta in enumerate([{"reference": "warm air"}, {}])
    ]
    scores = [view_of(row, "train").score for row in judged(settings, given, None, [])]  # type: ignore[arg-type]
    assert scores == [0.5, None]
    sides = {side: [{"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
    pair = {"id": "p", "prompt": [], **sides, "source": {}, "meta": {}}
    rule = Judging.model_validate({"judge": {"kind": "rule", "filter": "refusal"}})
    [compared] = judged([rule], [pair], None, [])
    assert view_of(compared, "train").score == 0.5  # type: ignore[arg-type]


SAID = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (example("q", "a"), {"user": "q", "assistant": "a"}),
        ({"prompt": "p", "chosen": "c", "rejected": "r"},) * 2,
        ({"text": "t", "title": "not read"}, {"text": "t"}),
        ({"instruction": "i", "input": "x", "output": "o"}, {"user": "i\n\nx", "assistant": "o"}),
        ({"conversations": SAID, "tools": "[]"}, {"user": "q", "assistant": "a"}),
        (
            {"conversations": SAID[:1], "chosen": SAID[1], "rejected": SAID[0]},
            {"prompt": "q", "chosen": "a", "rejected": "q"},
        ),
        (
            {"instruction": "i", "completions": [{"response": "a"}, {"response": "b"}]},
            {"prompt": "i", "assistant": "a\nb"},
        ),
        ({"prompt": "p", "completion": "c", "label": False}, {"prompt": "p", "bad": "c"}),
        ({"question": "q", "answer": "a", "n": 3}, {"user": "q", "assistant": "a"}),
        ({"headline": "h", "id": "1"}, {"headline": "h"}),
        ({"n": 3}, {}),
    ],
)
def test_rows_of_any_form_are_seen(row: dict[str, Any], expected: dict[str, str]) -> None:
    assert texts_of(row) == expected


def seen(split: str, question: str, answer: str = "a", score: float | None = None) -> View:
    return View(question, split, {"user": question, "assistant": answer}, "", score)


def test_repeats_and_leaks_are_counted_by_hand() -> None:
    sample = Sample(10, 1)
    for view in [
        seen("train", "What is it?"),
        seen("train", "what  IS it?"),  # equal but for case and space
        seen("train", "What is it?", "another answer"),
        seen("test", "What is it?", "held out"),
        seen("test", "Something else?"),
    ]:
        sample.take(view)
    assert sample.rows == {"train": 3, "test": 2}
    assert (sample.equal_rows, sample.equal_instructions) == (1, 2)
    assert sample.leaked["test"] == 1


def test_every_row_is_drawn_alike() -> None:
    drawn = Counter[str]()
    for seed in range(400):
        sample = Sample(5, seed)
        for n in range(20):
            sample.take(seen("train", str(n)))
        assert len(sample.views) == 5
        drawn.update(view.id for view in sample.views)
    assert all(60 <= drawn[str(n)] <= 140 for n in range(20))  # 100 expected, 4.6 standard errors


def test_best_and_worst_are_those_of_all_rows() -> None:
    sample = Sample(3, 1)
    for n in range(3000):
        sample.take(seen("train", str(n), score=float((n * 7919) % 3000)))
    assert [view.score for view in sample.worst] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert [view.score for view in sample.best] == list(range(2992, 3000))
    assert len(sample.scores) == 3000


def test_topics_are_found_again() -> None:
    said = ["the cat chased a mouse around the garden", "bank interest rates rose again today"]
    bags = [Counter(richness.words(f"{said[n % 2]} {n}")) for n in range(60)]
    found = topics([""] * 60, bags, 2, seed=3)
    assert [topic.size for topic in found] == [30, 30]
    words = [set(topic.keywords) for topic in found]
    assert {"cat", "mouse"} <= words[0] | words[1] and {"bank", "rates"} <= words[0] | words[1]
    assert not words[0] & words[1]


def profiled(found: list[View]) -> Profile:
    return profile(iter(found), size=100, seed=5)


def test_the_page_shows_hostile_rows_as_text_and_is_the_same_each_time() -> None:
    hostile = "<script>alert(1)</script> Write a poem about </pre> the sea. <|im_end|>"
    each = [seen("train", f"{hostile} {n}", "word " * n, score=n / 10) for n in range(1, 30)]
    pages = []
    for _ in range(2):
        report = Report("explore")
        found = profiled(each)
        page.write_sections(report, found)
        pages.append(report.html())
        assert found.marks == {"<|im_end|>": 29}
        json.dumps(figures(found))
    assert pages[0] == pages[1]
    assert "<script>" not in pages[0] and "&lt;script&gt;" in pages[0]


def test_a_dataset_of_one_row_and_of_empty_texts() -> None:
    for some in ([seen("train", "Hi?")], [View("1", "t", {"text": ""}, "", None)] * 3):
        report = Report("explore")
        page.write_sections(report, profiled(some))
        assert "Lengths" in report.html()


def test_a_folder_without_rows_and_a_row_without_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no rows"):
        parts(tmp_path)
    file = tmp_path / "x.jsonl"
    rows.write_jsonl(file, [{"text": "a"}, {"n": 1}])
    with pytest.raises(InputError, match=r"x\.jsonl:2: no field holds text \(fields: n\)"):
        list(views("x", [file]))


def test_explore_an_artifact_from_the_shell(llmctl: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    made = [example(f"Name the capital of country {n}.", f"City {n}.") for n in range(40)]
    rows.write_jsonl(data / "train.jsonl", [made[0], *made])
    rows.write_jsonl(data / "test.jsonl", made[:3])
    result = llmctl("explore", data, "--out", tmp_path / "page" / "x.html")
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{tmp_path}/page/x.html\n"
    assert "equal rows" in result.stderr and "name capital" in result.stderr
    assert "Random rows" in (tmp_path / "page" / "x.html").read_text()
    result = llmctl("explore", data, "--json", "--out", tmp_path / "x.html", "-q")
    told = json.loads(result.stdout)
    assert told["rows"] == {"train": 41, "test": 3}
    assert told["held_out_in_train"]["test"] == 3 and told["equal_rows"] == 4
    assert told["lengths"]["user"]["p50"] == 6


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nothing.jsonl"], "nothing.jsonl: no such file or folder\n"),
        (["recipes/samples/chat.jsonl", "--tokenizer", "nowhere"], "nowhere: no such model"),
        (["recipes/samples/chat.jsonl", "--embedder", "onx"], "did you mean 'onnx'?"),
    ],
)
def test_mistakes_are_one_line(
    llmctl: Run, tmp_path: Path, arguments: list[str], line: str
) -> None:
    result = llmctl("explore", *arguments, "--out", tmp_path / "x.html")
    assert result.returncode == 2 and line in result.stderr
    assert len(result.stderr.splitlines()) == 1 and not (tmp_path / "x.html").exists()
