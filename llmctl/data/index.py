"""Kept rows as an earlier run compared them: texts and signatures, read in place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmctl import ui
from llmctl.data.dedupers.base import Signed
from llmctl.data.entries import Entry
from llmctl.data.kernels import Buffer, Ids
from llmctl.data.texts import Texts, Writer, in_place

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.data.verdicts import Verdicts
    from llmctl.schema.dedup import DedupRecipe

NAME = "index/index.json"
COLUMNS = ("texts", "ids")
AT_ONCE = 1 << 14
"""Signatures that are copied together (8 MB)."""


def write(recipe: DedupRecipe, artifact: Artifact, verdicts: Verdicts, place: Ids) -> None:
    """Write index/: what was compared of the kept rows, in the order of kept.jsonl."""
    kept = place[~verdicts.gone[place]]
    entries = verdicts.entries
    for name in COLUMNS:
        writer = Writer(artifact.path(f"index/{name}.bin"))
        for text in getattr(entries, name).some(kept):
            writer.add(text.encode("utf-8", "surrogatepass"))
        np.save(artifact.path(f"index/{name}.npy"), writer.buffer().offsets)
    about: dict[str, Any] = {"rows": len(kept), "text": recipe.text, "settings": None}
    minhash = verdicts.found.get("minhash")
    signed = minhash.signed if minhash is not None else None
    if signed is not None:
        about["settings"] = signed.settings
        at = np.searchsorted(signed.ids, kept)
        np.save(artifact.path("index/units.npy"), signed.counts[at])
        shape = (len(kept), signed.values.shape[1])
        out = np.lib.format.open_memmap(
            artifact.path("index/signatures.npy"), mode="w+", dtype=np.uint32, shape=shape
        )
        for first in range(0, len(kept), AT_ONCE):
            out[first : first + AT_ONCE] = signed.values[at[first : first + AT_ONCE]]
        out.flush()
    artifact.write_json(NAME, about)


def there(folder: Path, recipe: DedupRecipe) -> bool:
    """Whether a folder has an index that this recipe can use in place of its rows."""
    if not (folder / NAME).is_file():
        return False
    about = json.loads((folder / NAME).read_bytes())
    if about["text"] != recipe.text:
        ui.note(f"{folder}: its index compares {about['text']}: its rows are read instead")
        return False
    return True


def rows(folder: Path) -> int:
    """How many rows an index has."""
    return int(json.loads((folder / NAME).read_bytes())["rows"])


def entries(folder: Path, reason: str) -> Iterator[Entry]:
    """The kept rows of an earlier run."""
    texts, ids = (
        Texts(Buffer(in_place(folder / f"index/{name}.bin"), np.load(folder / f"index/{name}.npy")))
        for name in COLUMNS
    )
    for number, (text, name) in enumerate(zip(texts, ids, strict=True), 1):
        yield Entry(name, text, f"kept.jsonl:{number}", reason)


def signed(folder: Path, first: int) -> Signed | None:
    """The signatures of the rows, which are the entries from `first` on; None without any."""
    about = json.loads((folder / NAME).read_bytes())
    if about["settings"] is None:
        return None
    values = np.load(folder / "index/signatures.npy", mmap_mode="r")
    ids = np.arange(first, first + about["rows"])
    return Signed(ids, values, np.load(folder / "index/units.npy"), about["settings"])
