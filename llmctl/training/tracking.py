"""Trackers beside metrics.jsonl: where each of them writes, and that none reports about you.

The trainer's own integrations do the work; they are set by variables, which a user's own go before.
"""

from __future__ import annotations

import os

from llmctl.artifact import TRACKED, Artifact
from llmctl.schema.loop import LoopKeys

SILENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "DO_NOT_TRACK": "1",
}
"""What the trackers would tell their makers."""
OFFLINE = {"WANDB_MODE": "offline", "COMET_START_ONLINE": "0"}
"""Kept on this machine, to be sent later with the tracker's own command."""


def prepare(recipe: LoopKeys, artifact: Artifact) -> None:
    """Set the trackers' variables; they write into the artifact's folder `tracking`."""
    if not recipe.tracking:
        return
    folder = artifact.folder / TRACKED
    folder.mkdir(parents=True, exist_ok=True)
    place = folder.resolve()
    variables = SILENT | {
        "TENSORBOARD_LOGGING_DIR": str(place / "tensorboard"),
        "WANDB_DIR": str(place),
        "WANDB_PROJECT": "llmctl",
        "COMET_PROJECT_NAME": "llmctl",
        "COMET_OFFLINE_DIRECTORY": str(place / "comet"),
        "COMET_LOGGING_CONSOLE": "ERROR",  # sixty lines that repeat the recipe and the manifest
        "MLFLOW_TRACKING_URI": f"sqlite:///{place / 'mlflow.db'}",
        "MLFLOW_EXPERIMENT_NAME": "llmctl",
        "TRACKIO_DIR": str(place / "trackio"),
    }
    if os.environ.get("LLMCTL_OFFLINE"):
        variables |= OFFLINE
    for name, value in variables.items():
        os.environ.setdefault(name, value)
