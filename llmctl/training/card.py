"""The model card: README.md beside the weights, with the front matter that the hub reads."""

from __future__ import annotations

from typing import Any

import yaml

from llmctl import licensing, modelref
from llmctl.artifact import Artifact
from llmctl.schema.training import TrainingRecipe

FOLDERS = {
    "model/config.json": "transformers",
    "model/modules.json": "sentence-transformers",
    "adapter/adapter_config.json": "peft",
}
"""A file that is there when its folder has weights -> the library that opens them."""


def write(recipe: TrainingRecipe, artifact: Artifact, library: str = "", does: str = "") -> None:
    """Write a card beside each kind of weights; the artifact's model gets the base's licence.

    `library` opens the weights, when it is none of FOLDERS; `does` is the hub's name of the task.
    """
    licence = licensing.of_model(recipe.model, artifact.manifest_of("model"))
    if artifact.model is not None:
        artifact.model["licence"] = licence
    for name, opened_by in FOLDERS.items():
        path = artifact.folder / name
        if path.is_file():
            text = text_of(recipe, artifact, licence, library or opened_by, does)
            artifact.write_text(f"{path.parent.name}/README.md", text)


def text_of(
    recipe: TrainingRecipe, artifact: Artifact, licence: str | None, library: str, does: str
) -> str:
    """The card of the weights that `library` opens."""
    stage = str(getattr(recipe, "stage", ""))
    front: dict[str, Any] = {"library_name": library, "pipeline_tag": does or "text-generation"}
    if licence:
        front["license"] = licence
    if modelref.HUB_ID.fullmatch(recipe.model):  # the hub links nothing else
        front["base_model"] = recipe.model
        front["base_model_relation"] = "adapter" if library == "peft" else "finetune"
    front["tags"] = ["llmctl", *([] if does else ["trl"]), stage, recipe.method]
    lines = [
        f"# {recipe.model}, tuned with `llmctl {stage}`",
        "",
        f"The base model is `{recipe.model}`; its licence is {licence or 'not known'}. "
        f"Method: {recipe.method}.",
        "",
        "## Trained on",
        "",
        *(
            f"- {key}: `{each.ref}` (sha256 {each.digest[:12]})"
            for key, each in artifact.inputs.items()
            if key.startswith("data")
        ),
        "",
        "## Measured",
        "",
        "| figure | value |",
        "|---|---|",
        *(f"| {name} | {_shown(value)} |" for name, value in artifact.metrics.items()),
        "",
        "Held-out figures come with `_se`, one standard error; `eval_rows` is their n.",
        "",
        "## Intended use",
        "",
        f"The recipe states: {recipe.use} use." if recipe.use else "The recipe states no use.",
        "Nothing beyond the figures above was measured here: not safety, not bias, not other "
        "languages or subjects than those of the rows. Whoever publishes this model adds what it "
        "is for and what it must not be used for.",
    ]
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n" + "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
