"""Rows and models that are nearly right: each gets one line or a warning, none goes by unseen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from training_runs import CHAT, log, recipe, run

from llmctl.artifact import Artifact
from llmctl.errors import InputError
from llmctl.training import causal

pytestmark = pytest.mark.model

CHATTED = {
    "messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
}
NONE = {"rows": 0}


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], r"rows.jsonl: .*(no rows|empty)"),
        ([{"text": "a word " * 400}] * 5, r"no row has a token to learn from \(\d too_long\)"),
        ([CHATTED, {"prompt": "a", "chosen": "b"}], r"rows.jsonl:2"),
        ([CHATTED, {"messages": "not a list"}], r"rows.jsonl:2"),
        ([CHATTED, {"other": 1}], r"rows.jsonl:2"),
        ([{"text": "a"}, {"text": None}], r"rows.jsonl:2: `text` is null, text is needed"),
    ],
)
def test_rows_that_cannot_be_learnt_from_are_one_line(
    tiny_model: Path, tmp_path: Path, rows: list[Any], said: str
) -> None:
    file = written(tmp_path / "rows.jsonl", *rows)
    with pytest.raises(InputError, match=said) as error:
        causal.tune(recipe("sft", tiny_model, file), Artifact(tmp_path / "out"))
    assert "\n" not in str(error.value)


def test_one_row_is_enough_and_its_effect_is_not_claimed(
    tiny_model: Path, tmp_path: Path, capsys: Any
) -> None:
    file = written(tmp_path / "rows.jsonl", CHATTED)
    artifact = run(recipe("sft", tiny_model, file, max_steps=1, samples=NONE), tmp_path / "out")
    assert artifact.metrics["train_rows"] == 1 and "eval_loss_after" not in artifact.metrics
    assert "the effect of the training was not measured" in capsys.readouterr().err


def test_a_model_without_a_padding_token_trains_as_one_with(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Padded batches: what is padding has no loss, whatever token stands there."""
    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare)
    for name, keys in (("tokenizer_config.json", ["pad_token"]), ("config.json", ["pad_token_id"])):
        settings = json.loads((bare / name).read_text())
        (bare / name).write_text(json.dumps({k: v for k, v in settings.items() if k not in keys}))
    keys: dict[str, Any] = {"packing": False, "batch_size": 2, "max_steps": 1, "samples": NONE}
    one = run(recipe("sft", tiny_model, CHAT, **keys), tmp_path / "a")
    other = run(recipe("sft", bare, CHAT, **keys), tmp_path / "b")
    assert log(one)[0]["loss"] == pytest.approx(log(other)[0]["loss"], abs=1e-6)
