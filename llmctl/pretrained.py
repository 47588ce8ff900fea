"""Models and tokenizers of folders, through transformers: what is wrong with a folder is one line.

A weight that the files lack would be drawn at random, and the model would talk nonsense.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmctl.errors import InputError, LlmctlError

NAMED = 3
"""Weights that a message names."""
LONGEST = 200
"""Characters of a library's own words."""


def tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder."""
    from transformers import AutoTokenizer

    try:
        with told(folder):
            return AutoTokenizer.from_pretrained(folder)
    except InputError:
        if any(folder.glob("tokenizer.*")) or any(folder.glob("vocab.*")):
            raise
        raise InputError(
            f"{folder}: has no tokenizer.json; save the model's tokenizer into the folder, too"
        ) from None


def model(kind: Any, folder: Path, **options: Any) -> Any:
    """A model of a class of transformers, with every weight that it has from the folder's files."""
    with told(folder):
        loaded = kind.from_pretrained(folder, output_loading_info=True, **options)
    found, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:
        more = ", …" if len(missing) > NAMED else ""
        raise InputError(
            f"{folder}: has no weights for {', '.join(missing[:NAMED])}{more} of a "
            f"{type(found).__name__}, as its config.json says it is"
        )
    return found


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Turn what a library says of a damaged folder into one line."""
    try:
        yield
    except Exception as error:
        if not _of_the_folder(error):
            raise
        said = " ".join(str(error).split())[:LONGEST]
        raise InputError(f"{folder}: cannot be loaded: {said}") from error


def _of_the_folder(error: Exception) -> bool:
    """Whether the files are to blame, not the machine's memory, disk or packages."""
    if isinstance(error, LlmctlError | MemoryError | ImportError):
        return False
    if isinstance(error, OSError):  # transformers has such errors of its own, without a number
        return error.errno is None
    if isinstance(error, RuntimeError):
        return "mismatch" in str(error)
    return True
