"""Functions that a reward of kind python may name."""

from __future__ import annotations

from typing import Any


def words(answer: str, row: dict[str, Any]) -> float:
    return len(answer.split())


def letters(answer: str, row: dict[str, Any]) -> float:
    return len(answer)
