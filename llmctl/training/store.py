"""Tokens on disk: an Arrow file that is written row by row and read through memory mapping."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llmctl.training.data import Tokens

BATCH = 1000
"""Rows that are in memory while they are written."""
SHOWN = 3
"""First rows that stay in memory for the X-ray and for checks."""


class Stored:
    """The rows of a run; the first few as Tokens, all of them in an Arrow file."""

    def __init__(self, path: Path, rows: Iterable[Tokens]) -> None:
        import pyarrow as pa

        self.path = path
        self.first: list[Tokens] = []
        self.count = self.targets = self.tokens = self.longest = 0
        schema = pa.schema([(name, pa.list_(pa.int32())) for name in ("input_ids", "labels")])
        waiting: list[Tokens] = []

        def flush() -> None:
            columns = [[row.ids for row in waiting], [row.labels for row in waiting]]
            arrays = [pa.array(each, pa.list_(pa.int32())) for each in columns]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            waiting.clear()

        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for row in rows:
                if len(self.first) < SHOWN:
                    self.first.append(row)
                self.count += 1
                self.targets += row.targets
                self.tokens += len(row.ids)
                self.longest = max(self.longest, len(row.ids))
                waiting.append(row)
                if len(waiting) == BATCH:
                    flush()
            if waiting:
                flush()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Tokens:
        """One of the first rows."""
        return self.first[number]

    def dataset(self) -> Any:
        """The rows as a dataset that is read from the file."""
        from datasets import Dataset

        return Dataset.from_file(str(self.path))
