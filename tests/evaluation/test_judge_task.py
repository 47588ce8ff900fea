"""The eval task `judge`: answers scored and compared, and what is told about the judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from stub import StubEngine

from llmctl import rows
from llmctl.artifact import read_manifest
from llmctl.errors import InputError, RecipeError
from llmctl.evaluation.length_control import controlled
from llmctl.evaluation.tasks.base import Item
from llmctl.evaluation.tasks.judge import JudgeTask, questions
from llmctl.runner import Options, run

BENCH = [
    {"question_id": 81, "turns": ["Name a tree.", "Name another."], "reference": ["oak", "elm"]},
    {"question_id": 82, "turns": ["Name a river.", "And a lake."]},
]


def asked(row: dict[str, Any]) -> list[Item]:
    return list(questions(Item("x", "f:1", row)))


def test_every_question_of_a_conversation_is_an_item() -> None:
    first, second = asked(BENCH[0])
    assert (first.id, second.id, second.cluster) == ("81:1", "81:2", "81")
    assert second.data["asked"] == [
        {"role": "user", "content": "Name a tree."},
        {"role": "assistant", "of": "81:1"},
        {"role": "user", "content": "Name another."},
    ]
    assert [first.data["right"], second.data["right"]] == ["oak", "elm"]


def test_rows_of_other_forms_are_read() -> None:
    chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    [item] = asked({"uid": "u", "messages": chat})
    assert item.id == "u" and item.data["right"] == "!" and len(item.data["asked"]) == 1
    [item] = asked({"prompt": "?", "answer": ["a", "b"]})
    assert item.id == "x" and item.data["right"] == "a"
    with pytest.raises(InputError, match="f:1: needs `prompt`"):
        asked({"text": "?"})


def recipe(tmp_path: Path, task: dict[str, Any], **keys: Any) -> Path:
    path = tmp_path / "r.yaml"
    whole = {"stage": "eval", "out": str(tmp_path / "out"), "tasks": [{"kind": "judge", **task}]}
    path.write_text(yaml.safe_dump({**whole, **keys}))
    return path


def measured(tmp_path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    return results["tasks"]["judge"], list(rows.read(tmp_path / "out" / "samples.jsonl"))


def test_answers_that_are_there_are_scored_without_a_model(tmp_path: Path) -> None:
    data, answers = tmp_path / "data.jsonl", tmp_path / "answers.jsonl"
    rows.write_jsonl(data, [{"id": n, "prompt": f"{n}?", "answer": "yes"} for n in range(12)])
    rows.write_jsonl(
        answers, [{"id": n, "answer": "yes" if n % 3 else "no, not at all"} for n in range(11)]
    )
    task = {"data": str(data), "answers": str(answers), "judge": "match"}
    run("eval", recipe(tmp_path, task, max_unmeasured=0.1), Options())
    found, samples = measured(tmp_path)
    assert found["metrics"]["score"]["model"]["value"] == pytest.approx(7 / 11)
    assert found["unmeasured"] == 1 and found["figures"]["unmeasured"] == 1
    assert found["figures"]["length_correlation"] == pytest.approx(-1)
    assert "has no answer with this id" in samples[11]["model"]["unmeasured"]
    strict = run("eval", recipe(tmp_path, task), Options())
    assert strict["failed"]["exit_code"] == 5
    assert "1 of 12 items are unmeasured" in strict["failed"]["message"]


def test_two_files_of_answers_are_compared(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    rows.write_jsonl(data, BENCH)
    ids = ["81:1", "81:2", "82:1", "82:2"]
    rows.write_jsonl(tmp_path / "a.jsonl", [{"id": i, "answer": "oak"} for i in ids])
    rows.write_jsonl(
        tmp_path / "b.jsonl", [{"id": i, "answer": "x" * n} for n, i in enumerate(ids)]
    )
    task = {
        "data": str(data), "answers": str(tmp_path / "a.jsonl"),
        "opponent": str(tmp_path / "b.jsonl"), "judge": {"kind": "pairwise", "engine": "echo"},
    }  # fmt: skip
    run("eval", recipe(tmp_path, task, max_unmeasured=0.3), Options())
    found, samples = measured(tmp_path)
    assert found["metrics"]["win_rate"]["model"]["value"] == 0.5
    assert found["figures"]["ties"] == 1.0 and found["figures"]["position_consistency"] == 0.0
    assert samples[0]["model"]["unmeasured"] == "there is no answer to compare with"


@pytest.mark.model
def test_a_model_against_its_baseline_and_against_itself(tmp_path: Path, tiny_model: Path) -> None:
    data = tmp_path / "data.jsonl"
    rows.write_jsonl(data, BENCH)
    task = {"data": str(data), "against": "baseline", "judge": {"kind": "match", "rule": "f1"},
            "max_tokens": 4}  # fmt: skip
    model = {"model": str(tiny_model), "baseline": str(tiny_model)}
    run("eval", recipe(tmp_path, task, **model, max_unmeasured=0.6), Options())
    found, samples = measured(tmp_path)
    assert found["metrics"]["win_rate"]["model"]["value"] == 0.5
    assert found["metrics"]["win_rate"]["difference"]["value"] == 0.0
    assert found["unmeasured"] == 2  # the second row has no reference
    assert all("answer" in each["baseline"] for each in samples)
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None and manifest["metrics"]["judge.ties"] == 1.0


@pytest.mark.model
def test_a_conversation_goes_on_from_the_model_s_own_answers(
    tmp_path: Path, tiny_model: Path
) -> None:
    """The second turn is asked, and judged, after the first answer; labels measure the judge."""
    from llmctl.engines.transformers import TransformersEngine

    prompts: list[str] = []

    def say(request: Any) -> Any:
        prompts.append(request.messages[0]["content"])
        return {"reason": "fine", "score": 4}

    labels = tmp_path / "labels.jsonl"
    chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    rows.write_jsonl(labels, [{"messages": chat, "label": 4}, {"messages": chat, "label": 1}])
    data = tmp_path / "data.jsonl"
    rows.write_jsonl(data, BENCH[:1])
    judge = {"kind": "rubric", "engine": StubEngine(say=say)}
    task = JudgeTask.model_validate(
        {"data": str(data), "judge": judge, "max_tokens": 5, "labels": str(labels)}
    )
    items = task.items(tmp_path, None, 0)
    with TransformersEngine(model=str(tiny_model)).start() as session:
        scored = list(task.score(session, items, tmp_path))
        answers = (tmp_path / "answers.jsonl").read_text()
        again = list(task.score(None, items, tmp_path))  # nothing is asked of the model again
    assert (tmp_path / "answers.jsonl").read_text() == answers
    assert [each.values for each in scored] == [{"score": 4.0}] * 2 == [e.values for e in again]
    first = scored[0].shown["answer"]
    assert any(f"assistant: {first}" in text and "Name another." in text for text in prompts)
    figures = task.figures(scored, tmp_path, 0.95)
    assert figures["calibration"]["accuracy"] == 0.5 and figures["answers_cut_off"] == 2


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"against": "reference", "opponent": "a.jsonl"}, "give either `against` or `opponent`"),
        ({"judge": {"kind": "pairwise", "engine": "echo"}}, "pairwise compares answers"),
        ({"against": "baseline", "answers": "a.jsonl"}, "come from no model"),
    ],
)
def test_contradictions_are_refused(keys: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        JudgeTask.model_validate({"data": "d.jsonl", "judge": "match", **keys})


def test_a_baseline_is_needed_to_compare_with(tmp_path: Path) -> None:
    task = {"data": "d.jsonl", "judge": "match", "against": "baseline"}
    with pytest.raises(RecipeError, match="judge: `against: baseline` needs a `baseline`"):
        run("eval", recipe(tmp_path, task, model="m/m"), Options())


def test_what_only_length_wins_is_taken_out() -> None:
    """Wins drawn by length alone: the raw rate is far from one half, the controlled one is not."""
    random = np.random.default_rng(0)
    longer = random.normal(60, 60, 2000)
    chance = 1 / (1 + np.exp(-2 * np.tanh(longer / longer.std())))
    points = (random.random(2000) < chance).astype(float)
    found = controlled(points.tolist(), longer.tolist(), 0.95)
    assert found is not None and points.mean() > 0.65
    rate, low, high = found
    assert low < 0.5 < high and abs(rate - 0.5) < 0.05 and high - low < 0.12


def test_without_a_bias_of_length_the_win_rate_stays() -> None:
    random = np.random.default_rng(1)
    points = (random.random(2000) < 0.7).astype(float)
    found = controlled(points.tolist(), random.normal(0, 60, 2000).tolist(), 0.95)
    assert found is not None and found[0] == pytest.approx(points.mean(), abs=0.01)
    assert controlled([1.0] * 5, [1.0] * 5, 0.95) is None
    everything = controlled([1.0] * 20, [float(n) for n in range(20)], 0.95)
    assert everything is not None and everything[0] > 0.9
