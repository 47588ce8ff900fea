"""A Ray cluster: texts are signed and pairs compared on its machines, with equal results.

Ray Data moves the parts, runs them where there is room, and runs a part again when the worker that
had it is gone. Rows are read, and decisions taken, where the command runs: that process holds the
keys of the bands (8 bytes per band and row) and 512 bytes of signature per row.
"""

from __future__ import annotations

import os
import pickle
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from pydantic import Field

from llmctl.data.runners.base import Runner
from llmctl.errors import MissingError
from llmctl.processes import processors

WAVE = 1 << 28
T = TypeVar("T")
S = TypeVar("S")


class RayRunner(Runner):
    """Work in parts on Ray Data."""

    needs: ClassVar[dict[str, str]] = {"ray": "ray"}
    remote: ClassVar[bool] = True

    address: str | None = Field(
        None,
        description="Address of a running cluster, such as ray://host:10001 or auto; null starts "
        "one on this machine for the run.",
    )
    workers: int | None = Field(
        None, ge=1, description="Parts that run at once; null leaves it to the cluster."
    )

    def options(self) -> dict[str, Any]:
        """Keywords of `ray.init`."""
        quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
        if self.address is not None:
            return {"address": self.address, "log_to_driver": False}
        return {**quiet, "num_cpus": self.workers or processors()}

    def _answers(self) -> None:
        """Ray itself waits minutes for a cluster that is not there."""
        found = re.fullmatch(r"(?:ray://)?\[?([^/\]]+)\]?:(\d+)", self.address or "")
        if found is None:
            return
        try:
            socket.create_connection((found[1], int(found[2])), timeout=5).close()
        except (OSError, OverflowError) as error:
            raise MissingError(
                f"runner: nothing answers at {self.address} ({error}); "
                "start a cluster with `ray start --head`"
            ) from None

    @contextmanager
    def started(self) -> Iterator[object]:
        """Connect; a cluster that was started for the run ends with it."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry, ever
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        import ray

        self._answers()
        own = not ray.is_initialized()
        if own:
            try:
                ray.init(**self.options())
            except (ConnectionError, RuntimeError, ValueError) as error:
                first = str(error).strip().splitlines()[0]
                raise MissingError(
                    f"runner: no Ray cluster at {self.address or 'this machine'}: {first}; "
                    "start one with `ray start --head`"
                ) from None
        data = ray.data.DataContext.get_current()
        data.enable_progress_bars = False
        data.execution_options.preserve_order = True
        data.print_on_execution_start = False
        try:
            yield ray
        finally:
            if own:
                ray.shutdown()

    def parts(self, work: Callable[[T], S], items: Iterable[T], threads: int) -> Iterator[S]:
        """work(item) of each item on the cluster, in order, WAVE bytes of items at a time."""
        import ray

        task = ray.put(work)

        def run(batch: dict[str, Any]) -> dict[str, Any]:
            made = [pickle.dumps(ray.get(task)(pickle.loads(part))) for part in batch["part"]]
            return {"part": made}

        limit: dict[str, Any] = {"concurrency": self.workers} if self.workers else {}
        for wave in _waves(pickle.dumps(item) for item in items):
            rows = ray.data.from_items([{"part": part} for part in wave],
                                       override_num_blocks=len(wave))  # fmt: skip
            for row in rows.map_batches(run, batch_size=1, **limit).iter_rows():
                yield pickle.loads(row["part"])


def _waves(parts: Iterable[bytes]) -> Iterator[list[bytes]]:
    wave, size = list[bytes](), 0
    for part in parts:
        wave.append(part)
        size += len(part)
        if size >= WAVE:
            yield wave
            wave, size = [], 0
    if wave:
        yield wave
