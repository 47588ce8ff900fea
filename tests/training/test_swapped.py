"""Swapped labels are found by a real judge before any objective learns from pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")
from tiny_tokenizer import tiny_llama
from training_runs import recipe, run

from llmctl.errors import InputError

pytestmark = pytest.mark.model
MATCH = {"judge": {"kind": "match", "rule": "contains"}}
OBJECTIVES: list[dict[str, Any]] = [{"kind": "direct"}, {"kind": "reward"}]


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("letters") / "model")


def pairs(folder: Path, *, swapped: bool = False, meta: str | None = "meta") -> Path:
    """Sums and a wrong sum; the right one is in the row's meta, in the row, or nowhere."""
    rows = []
    for number in range(12):
        right, wrong = (
            [{"role": "assistant", "content": f"it is {number + each}"}] for each in (3, 4)
        )
        row: dict[str, Any] = {
            "prompt": [{"role": "user", "content": f"what is {number} + 3?"}],
            "chosen": wrong if swapped else right,
            "rejected": right if swapped else wrong,
        }
        known = {"reference": str(number + 3)}
        if meta is not None:
            row |= {"meta": known} if meta == "meta" else known
        rows.append(row)
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda each: str(each["kind"]))
@pytest.mark.parametrize("meta", ["meta", "row"])
def test_a_judge_with_the_references_refuses_swapped_pairs(
    letters: Path, tmp_path: Path, objective: dict[str, Any], meta: str
) -> None:
    made = recipe(
        "dpo", letters, pairs(tmp_path, swapped=True, meta=meta), objective=objective, checks=MATCH
    )
    with pytest.raises(InputError, match=r"pairs\.jsonl:\d+: the judge prefers the rejected"):
        run(made, tmp_path / "out")


def test_right_labels_and_labels_that_nobody_could_check_are_told(
    letters: Path, tmp_path: Path, capsys: Any
) -> None:
    keys: dict[str, Any] = {"checks": MATCH, "max_steps": 1, "samples": {"rows": 0}}
    found = run(recipe("dpo", letters, pairs(tmp_path), **keys), tmp_path / "right")
    said = dict(found.summary)["labels"]
    assert said.startswith("the judge prefers the rejected answer in 0 of ")
    assert "checks.judge" not in capsys.readouterr().err
    found = run(recipe("dpo", letters, pairs(tmp_path, meta=None), **keys), tmp_path / "unknown")
    assert dict(found.summary)["labels"] == "no pair could be decided"
    warned = capsys.readouterr().err
    assert "checks.judge: no pair could be decided" in warned
    assert "has no reference answer" in warned


def test_a_reward_model_refuses_swapped_pairs(letters: Path, tmp_path: Path) -> None:
    rule = tmp_path / "rule"
    rule.mkdir()

    def write(chosen: str, rejected: str) -> Path:
        rows = [
            {
                "prompt": [{"role": "user", "content": f"say {number}"}],
                "chosen": [{"role": "assistant", "content": chosen * (2 + number % 5)}],
                "rejected": [{"role": "assistant", "content": rejected * (2 + number % 4)}],
            }
            for number in range(24)
        ]
        file = rule / "pairs.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return file

    learns: dict[str, Any] = {"objective": {"kind": "reward"}, "method": "full", "batch_size": 8}
    learns |= {"max_steps": 12, "gradient_accumulation": 1, "learning_rate": 1e-2}
    run(recipe("dpo", letters, write("a", "z"), **learns), rule / "reward")
    judge = {"kind": "reward", "model": str(rule / "reward" / "model"), "device": "cpu"}
    for objective in OBJECTIVES:
        made = recipe(
            "dpo", letters, write("z", "a"), objective=objective,
            checks={"judge": judge, "judge_rows": 16},
        )  # fmt: skip
        with pytest.raises(InputError, match="of 16 pairs: chosen and rejected are swapped"):
            run(made, rule / str(objective["kind"]))


def test_where_nothing_can_be_compared_the_judge_is_refused(letters: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    rows = [
        {
            "prompt": [{"role": "user", "content": f"say {number}"}],
            "completion": [{"role": "assistant", "content": f"it is {number}"}],
            "label": number % 2 == 0,
        }
        for number in range(8)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = recipe("dpo", letters, file, loss="kto", batch_size=2, checks=MATCH)
    with pytest.raises(InputError, match=r"an answer with a label; checks\.judge compares"):
        run(made, tmp_path / "out")
    paid = {"rewards": [{"kind": "regex", "pattern": "a"}]}
    for kind in ("ppo", "grpo", "rloo"):
        with pytest.raises(ValueError, match=f"checks says nothing to objective: {kind}"):
            recipe(
                "dpo", letters, file, objective={"kind": kind, **paid}, batch_size=8, checks=MATCH
            )
    with pytest.raises(ValueError, match=r"objective: reward can use checks\.judge"):
        recipe("dpo", letters, file, objective={"kind": "reward"}, checks={"likelihood": True})
