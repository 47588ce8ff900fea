"""build-dataset annotate: a person says which of two answers is better, in the terminal.

Answers stand in an order that the seed draws for each row, so that no side is favoured. Each vote
is on disk before the next question is shown; a session that ends in any way goes on where it was.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from getpass import getuser
from pathlib import Path
from random import Random
from typing import Any

from llmctl import rows, ui
from llmctl.data import reading
from llmctl.data.formats.base import UnfitError
from llmctl.data.material import QUEUE, placed
from llmctl.errors import InputError

VERDICTS = {"a": "A is better", "b": "B is better", "t": "tie", "s": "skip"}
ASK = "better? a, b, t (tie), s (skip), q (quit): "


@dataclass(frozen=True)
class Question:
    """Two answers of one row; `shown` are their numbers in the order A, B."""

    row: dict[str, Any]
    shown: tuple[int, int]

    @property
    def key(self) -> tuple[str, int, int]:
        """What a vote is about, whatever the order."""
        one, other = sorted(self.shown)
        return str(self.row["id"]), one, other


def show(queue: Path, votes: Path, *, annotator: str | None, seed: int, as_json: bool) -> None:
    """Ask until the queue is empty or somebody quits; prints the file of votes."""
    questions = list(questions_of(queue / QUEUE if queue.is_dir() else queue, seed))
    who = annotator or getuser()
    said = Counter[str]()
    with opened(votes) as out, single_keys():
        done = answered(votes, questions, who)
        waiting = [each for each in questions if each.key not in done]
        if done:
            ui.note(f"{votes}: {len(done)} of {len(questions)} were answered by {who} before")
        for number, question in enumerate(waiting, len(done) + 1):
            print(text_of(question, number, len(questions)), file=sys.stderr)
            pressed = key()
            if pressed == "q":
                break
            said[pressed] += 1
            keep(out, record(question, pressed, who))
    counts = {words: said[pressed] for pressed, words in VERDICTS.items()}
    left = len(waiting) - said.total()
    if as_json:
        ui.result(json.dumps({"votes": str(votes), **counts, "left": left}))
        return
    told = ", ".join(f"{words} {count}" for words, count in counts.items())
    ui.note(f"{told}; {left} left")
    ui.result(str(votes))


def questions_of(file: Path, seed: int) -> Iterator[Question]:
    """Each row's answers, two by two in an order of the seed's; no answer is shown twice."""
    if not file.is_file():
        raise InputError(f"{file}: no such file; a recipe that ends with candidates writes a queue")
    found = 0
    for where, row in reading.read(file, forms=("candidates",)):
        if isinstance(row, UnfitError):
            continue
        whole = placed(row, file.name, int(where.rpartition(":")[2]))
        order = list(range(len(whole["answers"])))
        Random(f"{seed}\0{whole['id']}").shuffle(order)
        for one, other in zip(order[::2], order[1::2], strict=False):
            found += 1
            yield Question(whole, (one, other))
    if not found:
        raise InputError(f"{file}: has no row with two answers to compare")


def text_of(question: Question, number: int, total: int) -> str:
    """What the person sees."""
    turns = [f"[{m['role']}]\n{m['content']}" for m in question.row["prompt"]]
    sides = [question.row["answers"][n]["content"] for n in question.shown]
    parts = [f"\n===== {number} of {total} =====", *turns]
    parts += [f"----- {name} -----\n{side}" for name, side in zip("AB", sides, strict=True)]
    return harmless("\n\n".join(parts)) + "\n"


def harmless(text: str) -> str:
    """Without control characters: an answer must not be able to steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def key() -> str:
    """The next key that means something; the end of the input is `q`."""
    while True:
        print(ASK, end="", file=sys.stderr, flush=True)
        pressed = _pressed()
        print("", file=sys.stderr)
        if pressed in ("", "\x04"):
            return "q"
        if pressed.lower() in (*VERDICTS, "q"):
            return pressed.lower()


@contextmanager
def single_keys() -> Iterator[None]:
    """A terminal gives each key at once; Ctrl-C still interrupts, and keys typed ahead are kept."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    try:
        tty.setcbreak(handle, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


def _pressed() -> str:
    """One key of a terminal, or the first letter of a line elsewhere; empty at the end."""
    if sys.stdin.isatty():
        return os.read(sys.stdin.fileno(), 1).decode("utf-8", "replace")
    line = sys.stdin.readline()
    return line.strip()[:1] or "?" if line else ""


def record(question: Question, pressed: str, who: str) -> dict[str, Any]:
    """The vote as it is kept."""
    side = "ab".find(pressed)
    return {
        "id": question.row["id"],
        "between": sorted(question.shown),
        "winner": question.shown[side] if side >= 0 else None,
        "skipped": pressed == "s",
        "shown": list(question.shown),
        "annotator": who,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def answered(votes: Path, questions: Sequence[Question], who: str) -> set[tuple[str, int, int]]:
    """What this person has answered; votes of another queue are refused."""
    known = {each.row["id"] for each in questions}
    found = set()
    for line, each in rows.numbered(votes):
        if each.get("id") not in known:
            raise InputError(
                f"{votes}:{line}: is a vote on row '{each.get('id')}', which the queue does not "
                "have; give another file with --votes"
            )
        between = each.get("between")
        if each.get("annotator") == who and isinstance(between, list) and len(between) == 2:
            found.add((str(each["id"]), *sorted(between)))
    return found


@contextmanager
def opened(votes: Path) -> Iterator[int]:
    """The file to append to, held by one process; half a line that a kill left is taken away."""
    if not votes.name.endswith(".jsonl"):
        raise InputError(f"{votes}: votes are written as .jsonl")
    votes.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(votes, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{votes}: another session is writing it") from None
        whole = votes.read_bytes()
        if whole and not whole.endswith(b"\n"):
            os.ftruncate(handle, whole.rfind(b"\n") + 1)
        yield handle
    finally:
        os.close(handle)


def keep(handle: int, vote: dict[str, Any]) -> None:
    """Write one vote; it survives a kill from here on."""
    os.write(handle, rows.dumps(vote).encode() + b"\n")
    os.fsync(handle)
