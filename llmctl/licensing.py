"""Licences of a base model and of rows, against what a tuned model is to be used for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmctl import licences, modelref, ui
from llmctl.errors import InputError, LlmctlError

SPELLINGS = ("license", "licence")


def of_model(ref: str, manifest: Mapping[str, Any] | None) -> str | None:
    """The licence of a model: from its manifest, else from its card or GGUF header."""
    if manifest is not None and (found := (manifest.get("model") or {}).get("licence")):
        return str(found)
    try:
        found = modelref.identity(modelref.locate(ref)).get("licence")
    except LlmctlError:
        return None
    return str(found) if found else None


def of_rows(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """(licence, id) of rows that state one, at the top or in `meta`."""
    for row in rows:
        meta = row.get("meta")
        for part in (row, meta if isinstance(meta, dict) else {}):
            for key in SPELLINGS:
                if isinstance(part.get(key), str):
                    yield part[key], str(row.get("id", ""))


def of_data(path: Path | None, manifest: Mapping[str, Any] | None) -> dict[str, str]:
    """Licence -> where it was found first, of the rows of an input."""
    from llmctl import rows, shards

    found: dict[str, str] = {}
    extra = (manifest or {}).get("extra") or {}
    for key in SPELLINGS:
        if isinstance(extra.get(key), str):
            found[extra[key]] = "its manifest"
    if path is not None:
        try:
            every = (row for _, row in rows.placed(shards.find(path)))
            for licence, row in of_rows(every):
                found.setdefault(licence, f"row {row}")
        except (InputError, OSError):
            return found  # the stage that reads the rows says what is wrong with them
    return found


def check(use: str | None, model: str, inputs: Mapping[str, Any]) -> list[str]:
    """Lines for what could not be told; raises InputError naming what forbids the use."""
    if use is None:
        return []
    unknown = []
    given = inputs.get("model")
    found: list[tuple[str, str, str | None, str]] = []
    found.append(("model", model, of_model(model, given.manifest if given else None), ""))
    for key, each in inputs.items():
        if key == "adapter.path":
            found.append((key, each.ref, of_model(each.ref, each.manifest), ""))
        if key.startswith("data"):
            stated = of_data(each.path, each.manifest)
            found += [(key, each.ref, licence, place) for licence, place in stated.items()]
            if not stated:
                found.append((key, each.ref, None, ""))
    for key, ref, licence, place in found:
        said = licences.verdict(licence, use)
        where = f" ({place})" if place else ""
        if said == "forbidden":
            raise InputError(
                f"{key}: {ref}: its licence {licence}{where} forbids {use} use; take another or "
                f"drop `use: {use}`"
            )
        if said == "unknown":
            what = f"licence {licence}{where} has terms of its own" if licence else "no licence"
            unknown.append(f"{key}: {ref}: {what}: read whether it allows {use} use")
    return unknown


def warn(use: str | None, model: str, inputs: Mapping[str, Any]) -> None:
    """`check`, with a warning for each thing that could not be told."""
    for line in check(use, model, inputs):
        ui.warn(line)
