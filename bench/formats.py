"""Real files in other tools' formats: detected, read, written, and read again to the same content.

    python bench/formats.py FOLDER [FILE ...]

FOLDER has the files of bench/RESULTS.md, section "Formats"; more FILEs of any format can follow.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import llmctl.data.formats
from llmctl.data import reading
from llmctl.data.formats.base import Format, UnfitError
from llmctl.errors import InputError
from llmctl.plugins import kinds

FILES = (
    "formats/alpaca_en_demo.json.gz",
    "formats/glaive_toolcall_en_demo.json.gz",
    "formats/dpo_en_demo.json.gz",
    "formats/kto_en_demo.json.gz",
    "formats/c4_demo.jsonl.gz",
    "hh_rlhf/test.jsonl.gz",
)


def content(row: dict[str, Any]) -> dict[str, Any]:
    """What a row teaches."""
    names = ("messages", "prompt", "chosen", "rejected", "text", "completion", "tools")
    return {name: row[name] for name in names if name in row}


def main() -> None:
    """One line for each file, and one for each format that can hold its rows."""
    folder, *others = map(Path, sys.argv[1:])
    for path in [*(folder / name for name in FILES), *others]:
        reader = reading.Reading()
        start = time.process_time()
        every = list(reading.read(path, reading=reader))
        seconds = time.process_time() - start
        good = [(where, row) for where, row in every if not isinstance(row, UnfitError)]
        print(f"{path.name}: {reader}, {dict(reader.unfit)}, {len(every) / seconds:,.0f} rows/s")
        for kind in kinds(llmctl.data.formats):
            if kind in ("columns", "pair_columns"):
                continue
            format, held, same = Format.of(kind), 0, 0
            for where, row in good:
                try:
                    written = format.write(row, where)
                except InputError:
                    continue
                held += 1
                again = format.read(written, where)
                same += content(again) == content(row)
            if held:
                print(f"  {kind}: holds {held} of {len(good)}, {same} read again the same")


if __name__ == "__main__":
    main()
