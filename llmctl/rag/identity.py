"""Who made an artifact's vectors: embedder.json, and the refusal of another embedder.

A model in a folder is known by its digest, which the manifest has. A model behind an address is
known by its name alone, and a server may give another model the same name; so the vector of one
fixed sentence is kept, and compared before vectors of the two could be mixed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl.errors import InputError

if TYPE_CHECKING:
    from llmctl.rag.embedders.base import Embedder, Live

NAME = "embedder.json"
PROBE = "Seven old pumps stood behind the house, and 42 filters lay beside them."
NEAR = 0.99
"""Smallest cosine of two vectors of PROBE by one model: servers round in their own ways."""


def note(folder: Path, embedder: Embedder, live: Live) -> None:
    """Write what the vectors in this folder are made with."""
    about: dict[str, Any] = {
        "kind": embedder.kind,
        "models": embedder.models(),
        "dimensions": live.dimensions,
        "prompts": live.prompts._asdict(),
    }
    if embedder.remote:
        about["probe"] = [round(float(each), 5) for each in live.texts([PROBE])[0]]
    (folder / NAME).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def check(folder: Path, live: Live, what: str, remedy: str = "run `llmctl ingest --force`") -> None:
    """Refuse an embedder whose vector of PROBE is another than the one in the folder."""
    import numpy as np

    file = folder / NAME
    about = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if "probe" not in about:
        return
    was, now = np.asarray(about["probe"]), live.texts([PROBE])[0]
    near = float(was @ now) if len(was) == len(now) else 0.0
    if near < NEAR:
        raise InputError(
            f"{folder}: was embedded with another model than {what} is now (cosine {near:.2f} "
            f"for one sentence); {remedy}"
        )
