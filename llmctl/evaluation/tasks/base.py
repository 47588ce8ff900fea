"""The promise of a task: items from a file, and numbers for each item."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from llmctl import rows, shards
from llmctl.errors import InputError
from llmctl.plugins import Backend
from llmctl.records import row_id

if TYPE_CHECKING:
    from llmctl.report.html import Report


@dataclass(frozen=True)
class Item:
    """One thing to ask; items of one `cluster` (a source document) are not independent."""

    id: str
    where: str
    data: dict[str, Any]
    cluster: str | None = None


@dataclass(frozen=True)
class Scored:
    """Numbers of one item; `unmeasured` says why there are none."""

    values: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    """What a value is the mean of (tokens, bytes); 1 where it is not named."""
    shown: dict[str, Any] = field(default_factory=dict)
    """For samples.jsonl: what the model answered."""
    unmeasured: str | None = None


class Task(Backend):
    """A list of items and how each one is scored."""

    metrics: ClassVar[tuple[str, ...]] = ()
    """Names of the numbers; empty when they are known only after the run."""
    lower_is_better: ClassVar[frozenset[str]] = frozenset()
    shares: ClassVar[frozenset[str]] = frozenset()
    """Metrics whose values lie between 0 and 1."""
    needs_model: ClassVar[bool] = True
    """Whether `score` asks the recipe's model; else its session is None."""

    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="Name in results and gates; without it the kind.",
    )

    @property
    def title(self) -> str:
        """The task's name in the results."""
        return self.name or self.kind

    @property
    def asks_model(self) -> bool:
        """Whether this task, as the recipe has it, asks the recipe's model."""
        return self.needs_model

    def bounds(self, metric: str) -> tuple[float, float] | None:
        """Where a metric's values lie, and so its interval; None when that is anywhere."""
        return (0.0, 1.0) if metric in self.shares else None

    def inputs(self) -> dict[str, Path | str]:
        """Own key -> file or folder that the task reads."""
        return {"data": self.data} if hasattr(self, "data") else {}

    def revisions(self) -> dict[str, str]:
        """Own key -> version of something that is no file, for the recipe's key."""
        return {}

    @abstractmethod
    def items(self, work: Path, limit: int | None, seed: int) -> list[Item]:
        """What to ask: all, or `limit` of them drawn with the seed; the same for every model."""

    def report(self, report: Report, scored: Sequence[Scored], confidence: float) -> None:
        """What the task adds to report.html about the model's results; nothing unless it wants."""

    def figures(self, scored: Sequence[Scored], work: Path, confidence: float) -> dict[str, Any]:
        """Numbers about all items at once that are no mean of theirs; none unless it has some."""
        return {}

    def figures_line(self, found: dict[str, Any]) -> str:
        """The figures in a few words; nothing unless it has some."""
        return ""

    @abstractmethod
    def score(self, session: Any, items: Sequence[Item], work: Path) -> Iterator[Scored]:
        """A result for each item, in order; `session` is a TransformersSession."""


def rows_of(path: Path, split: str = "test") -> list[Item]:
    """The rows of a file, or of a split of an artifact folder, as items."""
    files, found = shards.find(path, split), []
    shards.tell_part(files)
    for where, row in rows.placed(files):
        identity = str(row.get("id") or row_id(rows.dumps(row)))
        source = row.get("source")
        cluster = source.get("document") or source.get("uri") if isinstance(source, dict) else None
        found.append(Item(identity, where, row, cluster and str(cluster)))
    if not found:
        raise InputError(f"{path}: has no rows to measure with")
    return found


def is_plain(value: Any) -> bool:
    """Whether a value of a row is a text or a number, so that it can be asked or answered."""
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def draw(items: Sequence[Any], limit: int | None, seed: int) -> list[Any]:
    """At most `limit` items, drawn with the seed, in their own order."""
    from random import Random

    if limit is None or len(items) <= limit:
        return list(items)
    return [items[i] for i in sorted(Random(seed).sample(range(len(items)), limit))]


def nll(session: Any, rows: Sequence[tuple[list[int], list[bool]]]) -> list[tuple[float, int]]:
    """(-log-probability in nats, targets) of each (ids, is a target) row."""
    from llmctl.training.measure import score_alike

    return [(-total, count) for total, count in score_alike(session.model, rows)]


def too_long(session: Any, length: int) -> str | None:
    """Why a row cannot be measured: it is longer than the model's positions."""
    most = getattr(session.model.config, "max_position_embeddings", None)
    if most is not None and length > most:
        return f"{length} tokens, the model has {most} positions"
    return None
