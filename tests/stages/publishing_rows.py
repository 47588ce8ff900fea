"""Where the keys of card, export and push land; part of reach_build_dataset.py."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import yaml

from llmctl.artifact import Artifact, Input
from llmctl.data.material import Row
from llmctl.errors import InputError
from llmctl.records import pair

TURNS = {name: [{"role": "user", "content": name}] for name in ("prompt", "chosen", "rejected")}
PAIR: Row = pair(TURNS["prompt"], TURNS["chosen"], TURNS["rejected"], {"uri": "u"})  # type: ignore[arg-type]
KINDS: dict[str, dict[str, Any]] = {"push": {"repo": "me/set"}}


def handed_on(built: SimpleNamespace) -> Path:
    """The folder of an artifact of one pair, and what was uploaded."""
    from llmctl.stages.build_dataset import hand_on

    folder = Path(tempfile.mkdtemp())
    inputs = {"source": Input("source", "in", None, "0" * 64)}
    recipe = built.recipe.model_copy(update={"push": None})
    hand_on(recipe, Artifact(folder, inputs), {"train": [PAIR]}, [], None)
    return folder


def front(name: str) -> Any:
    def told(built: SimpleNamespace) -> Any:
        text = (handed_on(built) / "README.md").read_text()
        return yaml.safe_load(text.split("---\n")[1])[name]

    return told


def described(built: SimpleNamespace) -> bool:
    return "\n\nWarm pumps.\n\n" in (handed_on(built) / "README.md").read_text()


def exported(built: SimpleNamespace) -> str:
    (path,) = (handed_on(built) / "export").iterdir()
    return path.name


def shape(built: SimpleNamespace) -> list[str]:
    return sorted(yaml.safe_load((handed_on(built) / "export" / "train.jsonl").read_text()))


def left_out(built: SimpleNamespace) -> bool:
    """Whether a pair that Alpaca cannot hold is left out; without it the run would stop."""
    from llmctl.data.formats.base import Format

    alpaca = {"format": Format.of("alpaca")}
    export = built.recipe.export.model_copy(update=alpaca)
    recipe = built.recipe.model_copy(update={"export": export})
    try:
        return (handed_on(SimpleNamespace(recipe=recipe)) / "export" / "left_out.jsonl").is_file()
    except InputError:
        return False


def uploaded(name: str) -> Any:
    """What the Hub's client is told."""

    def told(built: SimpleNamespace) -> Any:
        from llmctl.data import hub

        env = {"MY_TOKEN": "mine", "HF_TOKEN": "theirs"}
        with mock.patch.dict("os.environ", env), mock.patch("huggingface_hub.HfApi") as client:
            hub.upload(built.recipe.push, Path("."))
        found = {"token": client.call_args.kwargs["token"]}
        created = client.return_value.create_repo.call_args
        return {**found, **created.kwargs, "repo": created.args[0]}[name]

    return told


ROWS: dict[str, Any] = {
    "card.title": ("Pumps", front("pretty_name")),
    "card.description": ("Warm pumps.", described, True),
    "card.license": ("mit", front("license")),
    "card.language": (["en"], front("language")),
    "card.tags": (["pumps"], lambda built: front("tags")(built)[-1], "pumps"),
    "export.format": ("pair", shape, ["chosen", "prompt", "rejected"]),
    "export.file": ("json", exported, "train.json"),
    "export.skip_unheld": (True, left_out, True),
    "push.repo": ("you/other", uploaded("repo")),
    "push.private": (False, uploaded("private")),
    "push.token_env": ("MY_TOKEN", uploaded("token"), "mine"),
}
