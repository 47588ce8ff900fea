"""What happens to any training, as one line with what to do: the disk is full, memory runs out.

Every library says it in its own words and from anywhere in a stage: while a model is loaded, rows
are measured, a step is made, a checkpoint, an adapter or a model is written.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from llmctl import preflight
from llmctl.artifact import Artifact
from llmctl.errors import LlmctlError
from llmctl.schema.training import TrainingRecipe
from llmctl.training import checkpoints

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WRITING = (
    "inline_container",
    "PytorchStreamWriter",
    "unexpected pos",
    "basic_ios::clear",
    "iostream error",
    "No space left on device",
    "File too large",
    "Disk quota exceeded",
)
"""What torch, safetensors and the system say of a file that was not written to its end."""
OUT = ("out of memory", "not enough memory", "can't allocate memory", "Cannot allocate memory")
"""How torch's allocators tell of it in a RuntimeError, on a GPU and on a CPU."""


@contextmanager
def told(recipe: TrainingRecipe, artifact: Artifact) -> Iterator[None]:
    """Around the work of a stage."""
    try:
        yield
    except LlmctlError:
        raise
    except Exception as error:  # torch, safetensors and tokenizers each raise their own
        if ran_out_of_memory(error):
            raise LlmctlError(out_of_memory(recipe)) from None
        if was_not_written(error):
            raise LlmctlError(not_written(error, artifact)) from None
        raise


def was_not_written(error: Exception) -> bool:
    """Whether an error is about a file that the disk had no room for."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    return any(text in str(error) for text in WRITING)


def not_written(error: Exception, artifact: Artifact) -> str:
    """The line for it: where, which checkpoints are left, and what to do."""
    where = getattr(error, "filename", None) or artifact.folder
    folder = artifact.scratch / "checkpoints"
    whole = [path.name for path in checkpoints.found(folder) if checkpoints.broken(path) is None]
    kept = f"whole checkpoints: {', '.join(reversed(whole))}" if whole else "no checkpoint is whole"
    return (
        f"{where}: a file could not be written to its end, the disk is full or a limit of file "
        f"size is reached; {kept}; free some space and run again to continue"
    )


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error is about memory that could not be had."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT)


def out_of_memory(recipe: TrainingRecipe) -> str:
    """The line for a run that memory was too small for: the estimate, and what helps."""
    said = "; or ".join(written(each) for each in islice(preflight.allowed_changes(recipe), 3))
    known = preflight.memory(recipe)
    size = f" (estimated at {preflight.gigabytes(known.peak)})" if known else ""
    helps = f"what helps, cheapest first: {said}" if said else "only a smaller model would help"
    return f"memory ran out{size}; {helps}"


def written(keys: dict[str, Any]) -> str:
    """Keys as a recipe has them, in one line."""
    return ", ".join(f"{key}: {json.dumps(value)}" for key, value in keys.items())
