"""Units -> rows and vectors: unchanged ones are taken over, the others are parsed and embedded.

Nothing is held but the documents of one group, so memory does not grow with the source.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl.rag import identity, vectors
from llmctl.rag.collection import CHUNKS, FILES, UNITS, Kept, Part, Writer
from llmctl.rag.cutting import cut, embedded_text
from llmctl.rag.embedders.base import begun
from llmctl.rag.reading import Dropped, documents_of, units
from llmctl.rag.sources.base import Unit
from llmctl.schema.ingest import IngestRecipe

if TYPE_CHECKING:
    import numpy as np

    from llmctl.rag.embedders.base import Live

FIRST, GROUP = 128, 1024
"""Chunks that are embedded and kept together: seconds of work, enough to sort by length.

The first group is small and each after it twice as large: soon there is something to see and keep.
"""
WAITING = 4 << 20
"""Bytes of rows after which a group is written though it has few chunks."""


class Lazy:
    """An embedder that is loaded at its first use: a run with nothing left to embed needs none."""

    def __init__(self, recipe: IngestRecipe, folder: Path, old: Kept | None) -> None:
        self.recipe, self.folder, self.old = recipe, folder, old
        self.stack = ExitStack()
        self.live: Live | None = None

    def __enter__(self) -> Lazy:
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()
        if (
            error[0] is None
            and self.old is not None
            and not (self.folder / identity.NAME).is_file()
        ):
            before = self.old.folder / identity.NAME
            if before.is_file():
                shutil.copyfile(before, self.folder / identity.NAME)

    def get(self) -> Live:
        """The loaded embedder; its vectors may stand beside those that are there already."""
        if self.live is None:
            live = self.stack.enter_context(self.recipe.embedder.open())
            what = self.recipe.embedder.kind
            identity.check(self.folder, live, what, f"remove {self.folder} and run again")
            if self.old is not None:
                identity.check(self.old.folder, live, what)
            identity.note(self.folder, self.recipe.embedder, live)
            self.live = live
        return self.live


@dataclass
class New:
    """A part that has to be embedded, but for the texts that are known."""

    part: Part
    texts: list[str] = field(default_factory=list)
    known: dict[bytes, tuple[int, bool]] = field(default_factory=dict)
    """Text -> row of the snapshot before, and whether it is longer than the embedder reads."""
    size: int = 0


def fill(
    recipe: IngestRecipe,
    folder: Path,
    scratch: Path,
    old: Kept | None,
    told: Callable[[int], None],
) -> None:
    """Write FILES, units.jsonl and vectors.npy into `folder`; `told` hears of chunks as they come.

    `old` is a snapshot whose rows may be taken over. What an earlier, killed call wrote stays.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with Lazy(recipe, folder, old) as live, Writer(folder) as out:
        filling = _Filling(recipe, live, out, old, told)
        seen: set[int] = set()
        for number, unit in enumerate(units(recipe, scratch)):
            key = hash(unit.uri)
            filling.take(unit, f"{unit.uri}#again-{number}" if key in seen else "")
            seen.add(key)
        filling.end()


def anew(folder: Path, scratch: Path) -> None:
    """A forced run goes on with what a forced run left, not with rows that were taken over."""
    begun = scratch / "forced"
    if not begun.is_file():
        for name in (*(f"{each}.jsonl" for each in FILES), UNITS, vectors.NAME, identity.NAME):
            (folder / name).unlink(missing_ok=True)
        begun.touch()


def mark(unit: Unit) -> str:
    """Changes when the unit's rows would: its content, its name, what is known about it."""
    about = [unit.uri, unit.name, unit.meta, unit.sha256]
    if unit.error is not None:
        about += [unit.error.reason, unit.error.detail]
    return hashlib.sha256(json.dumps(about, default=str).encode()).hexdigest()[:32]


def text_mark(text: str) -> bytes:
    """16 bytes that stand for an embedded text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


class _Filling:
    def __init__(
        self,
        recipe: IngestRecipe,
        live: Lazy,
        out: Writer,
        old: Kept | None,
        told: Callable[[int], None],
    ) -> None:
        self.recipe, self.live, self.out, self.old, self.told = recipe, live, out, old, told
        self.waiting: list[New | tuple[int, int]] = []
        self.chunks = self.size = 0
        self.group = min(FIRST, GROUP)
        self.embedding: list[New | tuple[int, int]] = []
        self.made: Callable[[], Iterator[np.ndarray | None]] = lambda: iter(())
        """Gives the vectors of each New in `embedding`, while the next ones are read."""
        self.at = 0
        self.resumed: Iterator[dict[str, Any]] = out.found.parts(0, len(out.found))
        self.following = next(self.resumed, None)

    def take(self, unit: Unit, again: str) -> None:
        """The next unit; `again` is its name when its uri was there before."""
        digest = mark(unit)
        done = self._resumed(again or unit.uri, digest)
        if done < 0:
            return
        if again:
            part = Part(again, digest, error=True, last=True)
            dropped = Dropped(unit.uri, "same_uri", "another unit has this uri", decided=True)
            part.add("dropped", dropped.row())
            self._wait(New(part))
        elif not done and (found := self._unchanged(unit.uri, digest)):
            self._carry(*found)
        else:
            self._read(unit, digest, done)

    def _resumed(self, uri: str, digest: str) -> int:
        """How many items of a unit a killed run wrote; -1 when it wrote the whole unit."""
        items = 0
        while (row := self.following) is not None:
            if row["uri"] != uri or row["digest"] != digest:
                self._stop_resuming()
                return items
            items += row["items"]
            self.at += 1
            self.told(row["rows"][CHUNKS])
            self.following = next(self.resumed, None)
            if row["last"]:
                return -1
        return items

    def _stop_resuming(self) -> None:
        self.resumed = iter(())
        self.following = None
        self.out.cut_back(self.at)

    def _unchanged(self, uri: str, digest: str) -> tuple[int, int] | None:
        if self.old is None or uri not in self.old.unit:
            return None
        first, last = self.old.unit[uri]
        row = next(self.old.parts(last - 1, last))
        return (first, last) if row["digest"] == digest and not row["error"] else None

    def _carry(self, first: int, last: int) -> None:
        before = self.waiting[-1] if self.waiting else None
        if isinstance(before, tuple) and before[1] == first:
            self.waiting[-1] = (before[0], last)  # neighbours are copied in one go
        else:
            self.waiting.append((first, last))

    def _read(self, unit: Unit, digest: str, done: int) -> None:
        known = self._known(unit.uri)
        embed = self.live.get().texts if self.recipe.chunker.embeds else None
        names: set[str] = set()
        removed: Counter[str] = Counter()

        def empty() -> New:
            return New(Part(unit.uri, digest, error=unit.error is not None), known=known)

        new = empty()
        for number, item in enumerate(documents_of(self.recipe, unit, removed)):
            if not isinstance(item, Dropped) and item["uri"] in names:
                item = Dropped(item["uri"], "same_uri", "another document of the file has this uri")
            names.add(item.uri if isinstance(item, Dropped) else item["uri"])
            if number < done:
                removed.clear()
                continue
            part = new.part
            part.items += 1
            if isinstance(item, Dropped):
                part.add("dropped", item.row())
                part.error |= item.reason == "unreadable"
            else:
                part.characters += len(item["text"])
                found = cut(self.recipe, item, embed)
                part.add("documents", item)
                for parent in found.parents:
                    part.add("parents", parent)
                for chunk in found.chunks:
                    part.add("chunks", chunk)
                    new.texts.append(embedded_text(chunk, self.recipe))
                new.size += len(item["text"])
            if len(new.texts) >= GROUP or new.size >= WAITING:  # by the unit alone: always the same
                part.removed = dict(removed)
                removed.clear()
                self._wait(new)
                new = empty()
        new.part.removed, new.part.last = dict(removed), True
        self._wait(new)

    def _known(self, uri: str) -> dict[bytes, tuple[int, bool]]:
        """The chunks that the unit had before it changed."""
        if self.old is None or uri not in self.old.unit:
            return {}
        first, last = self.old.unit[uri]
        at = self.old.rows[CHUNKS]
        cut = {
            at[first + i] + place
            for i, part in enumerate(self.old.parts(first, last))
            for place in part["cut"]
        }
        chunks: Any = self.old.read("chunks", first, last)
        return {
            text_mark(embedded_text(chunk, self.recipe)): (row, row in cut)
            for row, chunk in enumerate(chunks, at[first])
        }

    def _wait(self, new: New) -> None:
        self.waiting.append(new)
        self.chunks += len(new.texts)
        self.size += new.size
        if self.chunks >= self.group or self.size >= WAITING:
            self._turn()

    def _turn(self) -> None:
        """Begin to embed what waits, and write what was begun before it."""
        made = self._begun()
        if self.live.live is not None:
            self.recipe.store.prepare()
        self._write()
        self.embedding, self.made = self.waiting, made
        self.waiting, self.chunks, self.size = [], 0, 0
        self.group = min(2 * self.group, GROUP)
        if not hasattr(self.live.live, "begun"):
            self._write()  # the vectors are there, and may have cost money

    def _write(self) -> None:
        made = self.made()
        for each in self.embedding:
            if isinstance(each, New):
                self.out.add(each.part, next(made))
                self.told(len(each.texts))
            elif self.old is not None:
                self.out.carry(self.old, *each)
                self.told(self.old.rows[CHUNKS][each[1]] - self.old.rows[CHUNKS][each[0]])
        self.embedding = []

    def _begun(self) -> Callable[[], Iterator[np.ndarray | None]]:
        """Gives the vectors of each New that waits, in turn; all are embedded together."""
        new = [each for each in self.waiting if isinstance(each, New)]
        found = [[each.known.get(text_mark(t)) for t in each.texts] for each in new]
        texts = [
            (text, each.part, place)
            for each, rows in zip(new, found, strict=True)
            for place, (text, row) in enumerate(zip(each.texts, rows, strict=True))
            if row is None
        ]
        made: Callable[[], Any] = list
        if texts:
            live = self.live.get()
            made = begun(live, [text for text, _, _ in texts])
            for index in live.cut:
                _, part, place = texts[index]
                part.cut.append(place)

        def given() -> Iterator[np.ndarray | None]:
            fresh, at = made(), 0
            for each, rows in zip(new, found, strict=True):
                each.part.cut += [place for place, row in enumerate(rows) if row and row[1]]
                each.part.cut.sort()
                count = rows.count(None)
                places = [None if row is None else row[0] for row in rows]
                yield self._joined(places, fresh[at : at + count]) if rows else None
                at += count

        return given

    def _joined(self, rows: Sequence[int | None], made: np.ndarray) -> np.ndarray:
        """Old vectors where there is a row, the new ones in the gaps."""
        import numpy as np

        if self.old is None or (None in rows and len(made) == len(rows)):
            return made
        old = vectors.mapped(self.old.folder / vectors.NAME)
        found = np.empty((len(rows), old.shape[1]), dtype=np.float32)
        following = iter(made)
        for place, row in enumerate(rows):
            found[place] = next(following) if row is None else old[row]
        return found

    def end(self) -> None:
        """Write what waits, and forget what a killed run had behind the last unit."""
        if self.following is not None:
            self._stop_resuming()
        self._turn()
        self._write()
