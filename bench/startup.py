"""How long `llmctl --help` takes, as a ratio to `python -c pass` and to `trl --help`.

    python bench/startup.py [ROUNDS]

The commands take turns, so a noisy neighbour meets all of them; medians are printed.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 15
BIN = Path(sys.executable).parent


def milliseconds(command: list[str]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    """Print a table in Markdown."""
    commands = {"python -c pass": [sys.executable, "-c", "pass"]}
    for arguments in (["--help"], ["sft", "--help"]):
        name = f"llmctl {' '.join(arguments)}"
        commands[name] = [sys.executable, "-m", "llmctl", *arguments]
    if (BIN / "trl").exists() or shutil.which("trl"):
        commands["trl --help"] = [str(BIN / "trl"), "--help"]
    for command in commands.values():
        milliseconds(command)  # warm the disk cache
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            times[name].append(milliseconds(command))
    bare = statistics.median(times["python -c pass"])
    print("| command | median ms | ratio to python -c pass |\n|---|---:|---:|")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"| `{name}` | {median:.0f} | {median / bare:.1f} |")


if __name__ == "__main__":
    main()
