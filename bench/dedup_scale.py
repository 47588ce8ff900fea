"""The dedup stage, file to kept file, on growing corpora and with little memory.

    python bench/dedup_scale.py SMALL.jsonl LARGE.jsonl

Each run is a process of its own: CPU seconds, wall seconds, and the peak of its anonymous memory
(what it holds itself; pages of files that it reads in place can be taken back at any time). The
large corpus runs with memory_mb at the default and at a quarter of its size; all results of one
corpus have to be the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def run(data: Path, out: Path, **keys: object) -> dict[str, object]:
    recipe = out.with_suffix(".yaml")
    recipe.write_text(json.dumps({"stage": "dedup", "data": str(data), "out": str(out), **keys}))
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "llmctl", "dedup", str(recipe), "-q"],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    anonymous = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            anonymous = max(anonymous, int(status.partition("RssAnon:")[2].split()[0]))
        except (OSError, IndexError):
            pass
        time.sleep(0.05)
    assert process.returncode == 0
    manifest = json.loads((out / "manifest.json").read_text())
    digest = hashlib.sha256((out / "kept.jsonl").read_bytes()).hexdigest()[:12]
    return {
        "rows": manifest["metrics"]["rows"],
        "kept": manifest["metrics"]["kept"],
        "wall": time.perf_counter() - start,
        "anonymous_mb": anonymous / 1024,
        "kept_sha256": digest,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("small", type=Path)
    parser.add_argument("large", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    size = args.large.stat().st_size // 2**20
    print("| corpus | memory_mb | CPU s | wall s | anonymous MB | rows | kept | kept.jsonl |")
    print("|---|---:|---:|---:|---:|---:|---:|---|")
    plans = [(args.small, 4096), (args.small, 256), (args.large, 4096), (args.large, size // 4)]
    with tempfile.TemporaryDirectory() as work:
        for number, (data, memory) in enumerate(plans):
            before = os.times()
            found = run(data, Path(work) / f"out{number}", memory_mb=memory, threads=args.threads)
            after = os.times()
            cpu = after.children_user + after.children_system
            cpu -= before.children_user + before.children_system
            print(
                f"| {data.stat().st_size / 2**20:.0f} MB | {memory} | {cpu:.1f} "
                f"| {found['wall']:.1f} | {found['anonymous_mb']:.0f} | {found['rows']} "
                f"| {found['kept']} | {found['kept_sha256']} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
