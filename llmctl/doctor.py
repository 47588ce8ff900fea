"""`llmctl doctor`: what this machine has, what each extra lacks, what would go wrong."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from llmctl import ui
from llmctl.digest import cache_folder
from llmctl.errors import install_hint
from llmctl.runner import device_class

DISTRIBUTION = "llmctl-toolkit"
SHOWN = 5
"""Packages that an extra lacks and that are named; --json has all."""


def extras() -> dict[str, dict[str, str | None]]:
    """Extra -> {distribution: installed version or None}, from the package's own metadata."""
    found: dict[str, dict[str, str | None]] = {}
    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return found
    for line in lines:
        match = re.match(r"([A-Za-z0-9_.-]+).*;.*extra\s*==\s*['\"]([^'\"]+)", line)
        if match and match[1] != DISTRIBUTION:
            found.setdefault(match[2], {})[match[1]] = _version(match[1])
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _memory_gb() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError):
        return None


def facts() -> dict[str, Any]:
    """Everything that doctor knows, without importing a heavy library."""
    memory = _memory_gb()
    folder = cache_folder()
    while not folder.exists():
        folder = folder.parent
    return {
        "python": platform.python_version(),
        "python_ok": sys.version_info >= (3, 11),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "memory_gb": round(memory, 1) if memory else None,
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        "cache": str(cache_folder()),
        "cache_writable": os.access(folder, os.W_OK),
        "device": device_class(),
        "tools": {name: shutil.which(name) for name in ("git", "make", "cmake", "g++")},
        "extras": extras(),
    }


def show(as_json: bool) -> int:
    """Print the facts on stdout; returns 0, or 3 when the base itself is not sound."""
    known = facts()
    sound = known["python_ok"] and known["cache_writable"]
    if as_json:
        ui.result(json.dumps(known, indent=1))
        return 0 if sound else 3
    rows = [
        ["python", known["python"], "ok" if known["python_ok"] else "3.11 or newer is needed"],
        ["machine", known["platform"], f"{known['processors']} processors"],
        ["memory", f"{known['memory_gb']} GB", ""],
        ["disk free here", f"{known['disk_free_gb']} GB", ""],
        ["cache", known["cache"], "ok" if known["cache_writable"] else "cannot be written"],
        ["device", known["device"], ""],
    ]
    rows += [["tool", name, path or "not found"] for name, path in known["tools"].items()]
    for extra, packages in sorted(known["extras"].items()):
        lacking = [name for name, found in packages.items() if found is None]
        names = [*lacking[:SHOWN], *([f"{len(lacking) - SHOWN} more"] if lacking[SHOWN:] else [])]
        hint = f"lacks {', '.join(names)}: {install_hint(extra)}" if lacking else "ok"
        rows.append(["extra", extra, hint])
    ui.result_table("", ["what", "found", "remark"], rows)
    return 0 if sound else 3
