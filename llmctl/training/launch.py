"""Several processes from one recipe: the stage runs in each, the first one writes the artifact.

The parent starts the processes with torch's own variables (rank, world size, an address on this
machine) and waits. Each runs the whole stage on the same recipe; the trainer shares out the rows
and the work. When one fails, the others are ended, and its error becomes the parent's. A process
of this kind dies with its parent.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from signal import SIGABRT, SIGKILL
from typing import Any, TypeVar

from llmctl import errors, processes, ui
from llmctl.artifact import Artifact
from llmctl.errors import LlmctlError
from llmctl.schema.training import TrainingRecipe

R = TypeVar("R", bound=TrainingRecipe)
INSIDE = "LLMCTL_LAUNCHED"
"""Set in the processes that were started here, to the number of the one that started them."""
FOLDER = "launch"
RESULT = "result.json"
FIELDS = ("metrics", "rows", "model", "extra", "summary", "determinism")
"""What the first process fills in an artifact beside its files."""


def started(recipe: R, artifact: Artifact, work: Callable[[R, Artifact], None]) -> None:
    """The work of a training stage, here or in several processes, once nothing forbids it."""
    from llmctl import licensing, preflight
    from llmctl.training import checkpoints

    kept = checkpoints.told(artifact.scratch / "checkpoints")
    if kept and INSIDE not in os.environ:
        ui.note(f"continuing from {kept}")  # before the libraries are loaded, which takes seconds
    from llmctl.training import config, guard, quiet, tracking

    config.check_machine(recipe)
    if INSIDE not in os.environ:
        licensing.warn(recipe.use, recipe.model, artifact.inputs)
        if short := preflight.shortage(recipe):
            ui.warn(short)
    if wanted(recipe):
        run(recipe, artifact)
        return
    tracking.prepare(recipe, artifact)
    with quiet.libraries(), guard.told(recipe, artifact):
        work(recipe, artifact)


def wanted(recipe: TrainingRecipe) -> bool:
    """Whether the stage has to be started several times; not in the processes themselves."""
    return recipe.launch.processes > 1 and INSIDE not in os.environ


def run(recipe: TrainingRecipe, artifact: Artifact) -> None:
    """Run the recipe's stage in `launch.processes` processes; fills the artifact."""
    from llmctl.training import checkpoints, config

    if config.on_gpu():
        config.check_devices(recipe.launch.processes)
    checkpoints.newest(artifact.scratch / "checkpoints")  # removes what is broken, once
    folder = artifact.scratch / FOLDER
    folder.mkdir(exist_ok=True)
    for old in (*folder.glob("*.json"), *folder.glob("*.log")):
        old.unlink()
    given = {key: {"path": str(i.path), **i.row()} for key, i in artifact.inputs.items()}
    # only what was set: validators tell a value that was given from a default
    asked = recipe.model_dump(mode="json", exclude_unset=True)
    about: dict[str, Any] = {"recipe": asked, "inputs": given}
    about |= {"folder": str(artifact.folder), "forced": artifact.forced}
    (folder / "job.json").write_text(json.dumps(about), encoding="utf-8")
    ui.note(f"{recipe.launch.processes} processes, {recipe.launch.strategy}")
    _wait(_start(folder, recipe.launch.processes), folder)
    found = json.loads((folder / RESULT).read_bytes())
    for name in FIELDS:
        setattr(artifact, name, found[name])
    artifact.summary = [(label, value) for label, value in found["summary"]]
    artifact.dropped = Counter(found["dropped"])


def by_the_first(artifact: Artifact, name: str, work: Callable[[], None]) -> None:
    """Do it in the first of several processes; the others wait until it is done."""
    if INSIDE not in os.environ:
        work()
    elif os.environ["RANK"] == "0":
        work()
        (artifact.scratch / FOLDER / f"{name}.json").touch()
    else:  # when the first fails, the parent ends this one
        done = artifact.folder.parent / f"{name}.json"
        while not done.exists():
            time.sleep(0.1)


def measured_once(artifact: Artifact, name: str, work: Callable[[], Any]) -> Any:
    """What `work` measures, as JSON: the first process does it, the others read it.

    A run that goes on reads it too.
    """
    from llmctl.training import measure

    kept = _of_the_first(artifact, name)

    def once() -> None:
        if measure.remembered(kept) is None:
            measure.remember(kept, work())

    by_the_first(artifact, name, once)
    return measure.remembered(kept)


def measured_together(artifact: Artifact, name: str, work: Callable[[], Any]) -> Any:
    """As `measured_once`, where each process has to take part: they have the model together.

    What the first one kept counts for all. If each looked for its own, then after a kill between
    two of them some would wait for others that have theirs.
    """
    from llmctl.training import measure

    kept = _of_the_first(artifact, name)
    found = measure.remembered(kept)
    if found is None:
        found = work()
        if is_first():
            measure.remember(kept, found)
    return found


def is_first() -> bool:
    """Whether this process writes the artifact: the only one, or the first of several."""
    return os.environ.get("RANK", "0") == "0"


def _of_the_first(artifact: Artifact, name: str) -> Path:
    """The file in which the first process keeps what was measured."""
    place = artifact.scratch if is_first() else artifact.folder.parents[1]
    return place / f"{name}.json"


def _start(folder: Path, count: int) -> list[subprocess.Popen[bytes]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = max((os.cpu_count() or 1) // count, 1)
    beside = Path(sys.executable).parent  # pip's ninja, with which DeepSpeed compiles
    started = []
    for rank in range(count):
        variables = {
            "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count,
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, INSIDE: os.getpid(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
            "PATH": f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }  # fmt: skip
        with (folder / f"rank-{rank}.log").open("ab") as log:  # as worker.py does
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "llmctl.training.worker", str(folder)],
                    env=os.environ | {key: str(value) for key, value in variables.items()},
                    stdout=log if rank else sys.stderr.fileno(),
                    stderr=log if rank else sys.stderr.fileno(),
                    start_new_session=True,  # Ctrl-C is for the parent, which ends the others
                )
            )
    return started


def _wait(started: list[subprocess.Popen[bytes]], folder: Path) -> None:
    ended: dict[int, int] = {}
    """Exit codes of the processes that ended by themselves, by rank."""
    try:
        while len(ended) < len(started) and not any(ended.values()):
            time.sleep(0.05)
            codes = enumerate(each.poll() for each in started)
            ended = {rank: code for rank, code in codes if code is not None}
    finally:
        for each in started:
            if each.poll() is None:
                each.kill()
            each.wait()
    if any(ended.values()):
        rank = _first(ended)
        raise error_of(folder, rank, ended[rank])


def _first(ended: dict[int, int]) -> int:
    """Whose end was the cause: one that was killed; the others fail, or abort, as they miss it."""
    failed = [rank for rank, code in ended.items() if code]
    return min(failed, key=lambda rank: (ended[rank] > 0 or ended[rank] == -SIGABRT, rank))


def error_of(folder: Path, rank: int, code: int) -> LlmctlError:
    """The error that a process left; without one, how it ended and where its output lies."""
    for path in sorted(folder.glob("error-*.json")):
        told = json.loads(path.read_bytes())
        cls = getattr(errors, told["kind"], LlmctlError)
        found: LlmctlError = cls(told["message"])
        return found
    log = folder / f"rank-{rank}.log"
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    last = text.strip().rpartition("\n")[2][:300]
    how = f"was ended by {processes.signal_name(-code)}" if code < 0 else "ended"
    if code == -SIGKILL:
        how += ", as the system does when memory runs out"
    elif last:
        how += f": {last}"
    # the first one writes where its parent does, but for a traceback
    where = f"in {log}" if rank or text else "above"
    return LlmctlError(f"process {rank} of the training {how}; its output is {where}")
