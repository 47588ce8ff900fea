"""Any file of rows as rows of ours: the format is told by the rows themselves or by the recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import llmctl.data.formats
from llmctl import rows
from llmctl.data.formats.base import Format, UnfitError
from llmctl.errors import InputError
from llmctl.plugins import backend, kinds
from llmctl.records import form_of


@dataclass
class Reading:
    """What is known of files once their rows have been read."""

    kind: str = ""
    """The format, also when it was detected."""
    form: str = ""
    """What the rows are; see FORMS."""
    detected: bool = False
    rows: int = 0
    unfit: Counter[str] = field(default_factory=Counter)
    """Reasons of rows that nothing can be learnt from."""

    def __str__(self) -> str:
        if not self.rows:
            return "has no rows"
        how = "detected" if self.detected else "as the recipe says"
        return f"{self.rows} rows in the format {self.kind} ({how}), {self.form}"

    def dump(self) -> dict[str, Any]:
        """For a manifest."""
        return {"format": self.kind, "detected": self.detected, "form": self.form}


def read(
    files: Path | Sequence[Path],
    format: Format | None = None,
    *,
    forms: Sequence[str] = (),
    reading: Reading | None = None,
) -> Iterator[tuple[str, dict[str, Any] | UnfitError]]:
    """(file:line, row of ours) of every row, or why nothing can be learnt from it.

    Without `format` every row has to be of the one format that the first row is of. `forms` are
    those of FORMS that the caller can use; all when empty.
    """
    told = reading if reading is not None else Reading()
    told.detected = format is None
    for where, row in rows.placed([files] if isinstance(files, Path) else files):
        if format is None:
            format = detect(row, where)
        elif told.detected:
            _same(format, row, where)
        told.kind = format.kind
        told.rows += 1
        try:
            found = format.read(row, where)
        except UnfitError as error:
            told.unfit[error.reason] += 1
            yield where, error
            continue
        form = form_of(found)
        if told.form and form != told.form:
            raise InputError(f"{where}: is of the form {form}, the rows before it are {told.form}")
        if forms and form not in forms:
            raise InputError(f"{where}: {_wanted(format.kind, form, forms)}")
        told.form = form
        yield where, found


def opened(
    files: Sequence[Path], format: Format | None = None, reading: Reading | None = None
) -> Iterator[tuple[str, dict[str, Any] | UnfitError]]:
    """As `read`; rows in our own form are left as they are, for the caller to check."""
    _, first = next(rows.placed(files), ("", {"text": ""}))
    if format is None and is_own(first):
        yield from rows.placed(files)
    else:
        yield from read(files, format, reading=reading)


def is_own(row: Mapping[str, Any]) -> bool:
    """Whether a row is in llmctl's own form, which needs no reading: messages are lists."""
    names = ("messages", "prompt", "completion", "chosen", "rejected")
    found = [row[name] for name in names if name in row]
    told = "label" in row and "messages" in row
    return ("text" in row or bool(found)) and all(isinstance(f, list) for f in found) and not told


def detect(row: Mapping[str, Any], where: str) -> Format:
    """The one format that a row has the keys of."""
    found = claimants(row)
    if len(found) == 1:
        return Format.of(found[0])
    if not found:
        keys = ", ".join(map(str, row)) or "nothing"
        empty = [str(key) for key, value in row.items() if value is None]
        if empty and claimants({key: "" if key in empty else row[key] for key in row}):
            raise InputError(f"{where}: `{empty[0]}` is null, text is needed")
        raise InputError(
            f"{where}: no known format has the keys of this row ({keys}); name what they are: "
            f"`format: {_columns(row)}`"
        )
    raise InputError(
        f"{where}: could be {' or '.join(found)}; say which: "
        + " or ".join(f"`format: {kind}`" for kind in found)
    )


def converted(row: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    """A row by itself as one of ours; None when its format is not known or holds nothing fit."""
    found = claimants(row)
    try:
        return Format.of(found[0]).read(row, where) if len(found) == 1 else None
    except UnfitError:
        return None


def claimants(row: Mapping[str, Any]) -> list[str]:
    """The kinds whose keys a row has."""
    return [kind for kind, each in _classes() if each.claims(row)]


@cache
def _classes() -> list[tuple[str, type[Format]]]:
    """Every format of the room, looked up once."""
    room = llmctl.data.formats
    found = [(kind, backend(room, kind)) for kind in kinds(room)]
    return [(kind, each) for kind, each in found if issubclass(each, Format)]


def _same(format: Format, row: Mapping[str, Any], where: str) -> None:
    """Refuse a row that is not of the format that was detected."""
    found = claimants(row)
    if found == [format.kind]:
        return
    now = " or ".join(found) or f"of no known format ({', '.join(map(str, row)) or 'no keys'})"
    raise InputError(
        f"{where}: is {now}, the rows before it are {format.kind} ({format.shape}); "
        f"repair it, give each format a file of its own, or write `format: {format.kind}`"
    )


GUESSES = {
    "user": ("question", "query", "prompt", "instruction", "input", "problem"),
    "assistant": ("answer", "response", "output", "completion", "reply", "solution"),
    "chosen": ("chosen", "better", "preferred"),
    "rejected": ("rejected", "worse"),
    "field": ("content", "document", "body"),
}
"""Names that columns often have; only used to word a hint."""


def _columns(row: Mapping[str, Any]) -> str:
    """A `format` to write for a row of unknown columns."""
    names = {str(key).lower(): str(key) for key in row}
    found = {
        role: next((names[guess] for guess in guesses if guess in names), "…")
        for role, guesses in GUESSES.items()
    }
    if found["chosen"] != "…" or found["rejected"] != "…":
        kind, roles = "pair_columns", ["user", "chosen", "rejected"]
    elif found["field"] != "…" and found["user"] == "…":
        kind, roles = "text", ["field"]
    else:
        kind, roles = "columns", ["user", "assistant"]
    return f"{{kind: {kind}, " + ", ".join(f"{role}: {found[role]}" for role in roles) + "}"


def _wanted(kind: str, form: str, forms: Sequence[str]) -> str:
    what = {
        "examples": "conversations",
        "pairs": "pairs of a better and a worse answer",
        "texts": "raw texts",
        "labelled": "answers labelled as good or bad",
        "candidates": "several answers to one prompt",
    }
    return (
        f"the rows are {what[form]} ({kind}), "
        f"needed are {' or '.join(what[each] for each in forms)}"
    )
