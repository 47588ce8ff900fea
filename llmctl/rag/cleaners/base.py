"""The promise of a cleaner: text in, text out, and how many characters went; twice is as once."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from llmctl.plugins import Backend


@dataclass(frozen=True)
class Cleaned:
    """The text, how many characters were taken out or replaced, and why to drop the document."""

    text: str
    removed: int = 0
    reason: str | None = None
    detail: str = ""


class Cleaner(Backend):
    """Makes one kind of repair and counts it; cleaning twice changes nothing more."""

    @abstractmethod
    def clean(self, text: str) -> Cleaned:
        """The repaired text; a `reason` drops the document."""
