"""What stores on a server share: a collection for each snapshot, named in the store's folder.

The folder is switched by the artifact's rename, so a reader sees the old collection or the new
one, never half of one. What earlier and killed runs left is removed after the switch.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from llmctl.environment import variable
from llmctl.errors import InputError, LlmctlError

NAMED = "collection.json"
PREFIX = r"^[a-zA-Z0-9][a-zA-Z0-9_-]{0,60}$"


def fresh(prefix: str, owner: str) -> str:
    """The name of a new collection of this artifact."""
    return f"{prefix}-{owner}-{uuid.uuid4().hex[:12]}"


def name_it(folder: Path, collection: str) -> None:
    """Note the collection that holds the snapshot."""
    (folder / NAMED).write_text(json.dumps({"collection": collection}) + "\n")


def named(folder: Path) -> str:
    """The collection that holds the snapshot."""
    return str(json.loads((folder / NAMED).read_text())["collection"])


def gone(folder: Path, collection: str) -> InputError:
    """Somebody has removed the collection."""
    return InputError(
        f"{folder}: the server has no collection {collection} any more; run `llmctl ingest --force`"
    )


def left_over(folder: Path, prefix: str, owner: str, names: Iterable[str]) -> Iterator[str]:
    """The collections of this owner that the folder does not name."""
    kept = named(folder)
    for each in names:
        if each.startswith(f"{prefix}-{owner}-") and each != kept:
            yield each


def secret(key: str, name: str | None) -> str | None:
    """The value of the environment variable that a recipe's key names."""
    return None if name is None else variable(f"store.{key}", name)


def unusable(what: str, where: str, error: Exception) -> LlmctlError:
    """A server that does not answer, or not as it should: one line."""
    told = (str(error).splitlines() or [""])[0] or type(error).__name__
    return LlmctlError(f"store: the {what} server at {where} cannot be used: {told}")
