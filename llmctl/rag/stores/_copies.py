"""Copies of a store that may be written to.

Opening a database writes into its folder (journals, migrations, positions), and an artifact may
not change. So questions go to a copy under the cache, keyed by the digest of the folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

from llmctl import digest


def private_copy(folder: Path) -> Path:
    """A copy of the store under the cache; made once per content."""
    copy = digest.cache_folder() / "stores" / digest.of_path(folder)
    if not copy.is_dir():
        copy.parent.mkdir(parents=True, exist_ok=True)
        with copy.with_name(copy.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be copying the same store
            if not copy.is_dir():
                partial = copy.with_name(copy.name + ".partial")
                shutil.rmtree(partial, ignore_errors=True)
                shutil.copytree(folder, partial)
                os.replace(partial, copy)
    return copy
