"""Judges in build-dataset: what rows keep, what leaves, and what is told about the judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from stub import StubEngine

from llmctl import rows
from llmctl.artifact import read_manifest
from llmctl.data.judging import Judged, judged
from llmctl.errors import InconclusiveError, InputError
from llmctl.evaluation import judging as figures
from llmctl.judges.base import Contest, Judgement, Preference
from llmctl.records import Dropped
from llmctl.runner import Options, run
from llmctl.schema.build_dataset import BuildDatasetRecipe
from llmctl.schema.judging import Judging


def example(number: int, answer: str, **meta: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": f"What is {number}?"},
             {"role": "assistant", "content": answer}]  # fmt: skip
    return {
        "id": f"r{number}",
        "messages": turns,
        "source": {"document": f"d{number}"},
        "meta": meta,
    }


def judged_by(rows: list[dict[str, Any]], **setting: Any) -> tuple[list[Any], list[Judged]]:
    told: list[Judged] = []
    return list(judged([Judging.model_validate(setting)], rows, None, told)), told


def length_judge(**keys: Any) -> dict[str, Any]:
    """Scores the number of words, up to 5; says nothing of an answer `silent`."""

    def say(request: Any) -> Any:
        answer = request.messages[0]["content"].split("<answer>\n")[1].split("\n</answer>")[0]
        return "?" if answer == "silent" else {"reason": "counted", "score": len(answer.split())}

    return {"kind": "rubric", "engine": StubEngine(say=say), **keys}


def test_rows_keep_what_was_said_and_low_ones_leave() -> None:
    answers = ["one", "one two", "one two three", "one two three four", "silent"]
    found, told = judged_by(
        [example(n, a) for n, a in enumerate(answers)], judge=length_judge(), min=2, name="words"
    )
    assert [each.reason if isinstance(each, Dropped) else each["id"] for each in found] == [
        "judged_low", "unmeasured", "r1", "r2", "r3",
    ]  # fmt: skip
    assert found[0].detail == "words: 1 < 2"
    assert found[2]["meta"]["judgements"] == [{"judge": "words", "score": 2.0, "reason": "counted"}]
    numbers = told[0].figures
    assert (numbers["judged"], numbers["unmeasured"]) == (4, 1)
    assert numbers["length_correlation"] == pytest.approx(1)
    assert numbers["mean"] == 2.5 and "fleiss_kappa" not in numbers


def test_unmeasured_rows_can_stay_and_too_many_end_the_run() -> None:
    answers = [example(0, "one"), example(1, "silent")]
    found, _ = judged_by(answers, judge=length_judge(), unmeasured="keep", max_unmeasured=0.5)
    assert found[1]["meta"]["judgements"][0]["score"] is None
    with pytest.raises(InconclusiveError, match=r"1 of 2 rows were not judged .*not in form"):
        judged_by(answers, judge=length_judge())


def test_pairs_are_compared() -> None:
    def pair(number: int, chosen: str, rejected: str) -> dict[str, Any]:
        return {
            "id": f"p{number}", "prompt": [{"role": "user", "content": "?"}], "meta": {},
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}], "source": {},
        }  # fmt: skip

    pairs = [pair(0, "a b c", "a"), pair(1, "a", "a b"), pair(2, "a", "b")]
    found, told = judged_by(pairs, judge=length_judge(), min=0.5)
    assert [isinstance(each, Dropped) for each in found] == [True, False, False]
    assert found[0].id == "p1" and found[1]["meta"]["judgements"][0]["winner"] == "first"
    assert told[0].figures["longer_wins"] == 1.0 and told[0].figures["ties"] == pytest.approx(1 / 3)
    _, told = judged_by(pairs, judge={"kind": "pairwise", "engine": "echo"})
    assert told[0].figures["position_consistency"] == 0.0 and told[0].figures["ties"] == 1.0


def test_every_form_of_row_is_judged_or_refused_in_words() -> None:
    asked, said = [{"role": "user", "content": "?"}], [{"role": "assistant", "content": "one two"}]
    labelled = {"id": "l", "prompt": asked, "completion": said, "label": True}
    text = {"id": "t", "text": "one two three"}
    for row, score in ((labelled, 2.0), (text, 3.0)):
        [found], _ = judged_by([row], judge=length_judge())
        assert found["meta"]["judgements"][0]["score"] == score
    several = {"id": "c", "prompt": asked, "answers": [{"content": "a"}, {"content": "b"}]}
    with pytest.raises(InputError, match="candidates have several answers"):
        judged_by([several], judge=length_judge())


def test_a_judge_is_compared_with_people(tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    answers = [("one", 1), ("one two", 2), ("one two three", 2), ("silent", 4)]
    rows.write_jsonl(labels, [{**example(n, a), "label": v} for n, (a, v) in enumerate(answers)])
    _, told = judged_by([example(9, "one")], judge=length_judge(), labels=str(labels))
    found = told[0].calibration
    assert (found["labelled"], found["unmeasured"]) == (4, 1)
    assert found["accuracy"] == pytest.approx(2 / 3)
    # p_o = 2/3; p_e = 1/9 + 2/9 = 1/3 (people 1,2,2; judge 1,2,3)
    assert found["cohen_kappa"] == pytest.approx(0.5)
    rows.write_jsonl(labels, [{**example(0, "one"), "label": "good"}])
    with pytest.raises(InputError, match=r"labels.jsonl:1: `label` is a number"):
        judged_by([example(9, "one")], judge=length_judge(), labels=str(labels))


def test_figures_of_a_jury_and_of_position() -> None:
    found = figures.of_scores(
        ["a", "b"], [Judgement(1, votes=(1, 1, 1)), Judgement(2, votes=(1, 2, 2))]
    )
    assert found["fleiss_kappa"] == pytest.approx(0.25)
    contests = [Contest("c", [], "long answer", "short")] * 4
    said = [Preference("first", "", True), Preference("tie", "", False),
            Preference("second", "", True), Preference(None, "silent")]  # fmt: skip
    found = figures.of_preferences(contests, said)
    assert found["position_consistency"] == pytest.approx(2 / 3)
    assert found["longer_wins"] == 0.5 and found["first_wins"] == 0.5
    assert found["unmeasured_reasons"] == {"silent": 1}


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    given = [example(n, " ".join(["word"] * (1 + n % 5)), reference="word") for n in range(20)]
    rows.write_jsonl(path, given)
    return path


def test_a_recipe_judges_selects_and_tells(tmp_path: Path, chats: Path) -> None:
    recipe = {
        "stage": "build-dataset", "source": str(chats), "out": str(tmp_path / "out"), "filters": [],
        "judges": [
            {"judge": {"kind": "match", "rule": "f1"}, "name": "f1", "min": 0.45},
            {"judge": {"kind": "jury", "judges": ["match", {"kind": "match", "rule": "contains"}]}},
        ],
        "select": [{"kind": "quality", "by": "judge:f1", "count": 8}],
    }  # fmt: skip
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe))
    run("build-dataset", path, Options())
    out = tmp_path / "out"
    manifest = read_manifest(out)
    assert manifest is not None
    assert manifest["dropped"] == {"judged_low": 8, "quality": 4}
    assert manifest["metrics"]["judges"]["f1"]["judged"] == 20
    assert manifest["metrics"]["judges"]["jury"]["judged"] == 12
    page = (out / "report.html").read_text()
    assert "Judge f1" in page and "lowest and highest" in page
    for name in ("train", "validation", "test"):
        for row in rows.read(out / f"{name}.jsonl"):
            assert [word["judge"] for word in row["meta"]["judgements"]] == ["f1", "jury"]


def test_a_plan_counts_what_judges_ask(tmp_path: Path, chats: Path) -> None:
    """20 rows, a jury of two rubrics and a match: 40 calls."""
    rubric = {"kind": "rubric", "engine": "echo"}
    jury = {"kind": "jury", "judges": [rubric, {**rubric, "rubric": "Short."}, "match"]}
    recipe = {"stage": "build-dataset", "source": str(chats), "out": "o",
              "judges": [{"judge": jury}]}  # fmt: skip
    lines = BuildDatasetRecipe.model_validate(recipe).estimate()
    assert lines["calls"].startswith("about 40 of the builders and judges")
    assert lines["tokens"].endswith("at most 8,000 of replies")
    best = {"kind": "best_worst", "judge": jury}
    steps = [{"kind": "candidates", "engines": ["echo"], "samples": 1}, best]
    asked = {**recipe, "builders": steps, "judges": []}
    # 20 answers beside the given ones, then each of two answers scored by two rubrics
    lines = BuildDatasetRecipe.model_validate(asked).estimate()
    assert lines["calls"].startswith("about 100 of the builders")
    recipe["judges"] = [{"judge": "match"}]
    assert BuildDatasetRecipe.model_validate(recipe).estimate() == {}


def test_two_judges_of_one_name_are_refused(tmp_path: Path, chats: Path) -> None:
    judge = {"judge": {"kind": "match"}}
    recipe = {"stage": "build-dataset", "source": str(chats), "out": "o", "judges": [judge, judge]}
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps(recipe))
    with pytest.raises(Exception, match="two judges are named 'match'; give them a `name`"):
        run("build-dataset", path, Options())
