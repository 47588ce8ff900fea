"""The starting model's log-probabilities: computed once, kept in the artifact, found again.

`reference.json` holds them with a key of everything that they depend on. A run that is continued
finds it in its own folder, one with other settings of the training in the artifact before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from datasets import Dataset, Features, Value, concatenate_datasets, load_from_disk
from trl.trainer.utils import hash_module

from llmctl import ui
from llmctl.artifact import Artifact
from llmctl.schema.dpo import DpoRecipe
from llmctl.training import config

FILE = "reference.json"
Columns = dict[str, list[float]]
SETTINGS = ("max_length", "ld_alpha", "batch_size")
"""Keys that change them: what is cut, which tokens count, and what is padded together."""


def key_of(recipe: DpoRecipe, policy: Any, rows: Sequence[dict[str, Any]]) -> str:
    """What the log-probabilities of these rows depend on, as one digest."""
    about = {name: getattr(recipe, name) for name in SETTINGS}
    about |= {"model": hash_module(policy), "processes": recipe.launch.processes}
    about |= {"precision": config.precision_of(recipe), "gpu": config.on_gpu()}
    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for row in rows:
        found.update(json.dumps(row, sort_keys=True).encode())
    return found.hexdigest()


def known(recipe: DpoRecipe, artifact: Artifact, key: str) -> Columns | None:
    """What an earlier run computed under this key; every process gets what the first one finds."""
    places = [artifact.folder] if artifact.forced else [artifact.folder, recipe.out]
    found = next((each for place in places if (each := _read(place / FILE, key))), None)
    shared = [found]
    broadcast_object_list(shared, from_process=0)
    if shared[0] is not None:
        ui.note("the reference's log-probabilities of an earlier run are used")
        keep(artifact, key, shared[0])
    return shared[0]


def _read(file: Path, key: str) -> Columns | None:
    try:
        kept = json.loads(file.read_bytes())
        return dict(kept["columns"]) if kept["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def beside(rows: Sequence[dict[str, Any]], columns: Columns) -> Dataset:
    """The rows with the log-probabilities that are known."""
    features = Features(dict.fromkeys(columns, Value("float32")))
    parts = [Dataset.from_list(list(rows)), Dataset.from_dict(columns, features=features)]
    return concatenate_datasets(parts, axis=1)


def stored(rows: Sequence[dict[str, Any]], folder: Path, args: Any) -> Dataset:
    """The rows as files; TRL lets the first process write what it computes beside them."""
    with args.main_process_first():
        if not (folder / "state.json").is_file():
            Dataset.from_list(list(rows)).save_to_disk(str(folder))
    return load_from_disk(str(folder))


def computed(dataset: Dataset, row: dict[str, Any]) -> Columns:
    """What the trainer has added to its rows, one of which was `row`."""
    return {name: list(dataset[name]) for name in dataset.column_names if name not in row}


def keep(artifact: Artifact, key: str, columns: Columns) -> None:
    """Write them; of several processes, the first one's folder is the artifact."""
    waiting = artifact.path(f"{FILE}.partial")
    waiting.write_text(json.dumps({"key": key, "columns": columns}), encoding="utf-8")
    waiting.replace(artifact.path(FILE))
