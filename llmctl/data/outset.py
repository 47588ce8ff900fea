"""The first look at rows to learn from: what no run could use is refused before anything heavy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl import shards
from llmctl.data import reading
from llmctl.data.formats.base import UnfitError
from llmctl.errors import InputError, MissingError

if TYPE_CHECKING:
    from llmctl.schema.parts import TrainData

Check = Callable[[dict[str, Any], str], None]
"""Refuses a row, whose place it is told, that cannot be learnt from."""


def look(data: TrainData, check: Check) -> None:
    """Refuse sets without rows, and a first row of no known format or not of the wanted form."""
    mixed = [each.path for each in data.mix]
    for path in (data.train, *mixed):
        format = None if path in mixed else data.format
        begun(path, reading.opened(shards.find(path), format), check)
        if data.validation is None:
            shards.held_out_splits(path)  # refuses a split without one of its shards
    if data.validation is not None:
        begun(data.validation, reading.opened(shards.held_out(data.validation), data.format), check)


def begun(
    name: Path, rows: Iterable[tuple[str, dict[str, Any] | UnfitError]], check: Check
) -> None:
    """Refuse what has no rows, and check the first row that is fit."""
    where = ""
    try:
        for where, row in rows:
            if not isinstance(row, UnfitError):
                check(row, where)
                return
    except MissingError:  # `plan` without what reads these files; a run asks for it first
        return
    if not where:
        raise InputError(f"{name}: has no rows")
