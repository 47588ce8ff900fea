"""A classifier that `sft` trained on an embedding model: milliseconds a row, nothing is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from llmctl.data import classifier
from llmctl.data.filters.base import text_of
from llmctl.judges.base import Answered, Judge, Judgement, LiveJudge
from llmctl.judges.rule import as_row
from llmctl.schema.parts import ModelRef


class ClassifierJudge(Judge):
    """The score that was learnt, or the probability of one label."""

    needs: ClassVar[dict[str, str]] = {"sentence-transformers": "train"}

    model: ModelRef = Field(description="Artifact of sft with task classifier.")
    label: str | None = Field(
        None, description="Label whose probability is the score; none for a head with a score."
    )

    def model_inputs(self) -> dict[str, Path | str]:
        """The classifier."""
        return {"model": self.model}

    @contextmanager
    def open(self, cache: Path | None = None) -> Iterator[LiveJudge]:
        """Load the embedding model and the head."""
        with classifier.opened(self.model) as live:
            yield LiveClassifier(live, live.head.index(self.label))


class LiveClassifier(LiveJudge):
    """A loaded classifier."""

    def __init__(self, live: classifier.Classifier, output: int) -> None:
        super().__init__()
        self.live, self.output = live, output

    def score(self, items: Iterable[Answered]) -> Iterator[Judgement]:
        """See LiveJudge."""
        rest = iter(items)
        within = self.live.head.within
        while batch := list(islice(rest, classifier.BATCH)):
            texts = [text_of(as_row(item), within) for item in batch]
            for value in self.live(texts)[:, self.output]:
                yield Judgement(float(value))
