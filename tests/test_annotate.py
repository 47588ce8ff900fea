"""build-dataset annotate, in a real terminal and from a pipe."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Run

from llmctl import annotate, rows
from llmctl.runner import Options, run


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    path = tmp_path / "queue.jsonl"
    rows.write_jsonl(
        path,
        [{"prompt": f"Question {n}?", "answers": [f"good {n}", f"bad {n}"]} for n in range(6)],
    )
    return path


class Terminal:
    """The command in a pseudo-terminal: what it shows is read, keys are pressed."""

    def __init__(self, *arguments: str | Path) -> None:
        self.main, other = pty.openpty()
        command = [sys.executable, "-m", "llmctl", "build-dataset", "annotate"]
        self.process = subprocess.Popen(
            [*command, *map(str, arguments)], stdin=other, stdout=other, stderr=other
        )
        os.close(other)
        self.shown = ""

    def until(self, text: str, since: int) -> int:
        """Read until `text` is shown after position `since`; returns where it ends."""
        while text not in self.shown[since:]:
            try:
                ready, _, _ = select.select([self.main], [], [], 60)
                part = os.read(self.main, 65536) if ready else b""
            except OSError:  # the other end is closed
                part = b""
            assert part, f"{text!r} was not shown:\n{self.shown}"
            self.shown += part.decode()
        return self.shown.index(text, since) + len(text)

    def press(self, key: str) -> None:
        os.write(self.main, key.encode())

    def close(self) -> int:
        code = self.process.wait(30)
        os.close(self.main)
        return code


def better(shown: str) -> str:
    """The key of the good answer on the last screen."""
    return "a" if shown.rindex("good") < shown.rindex("bad") else "b"


def votes(path: Path) -> list[dict[str, Any]]:
    return list(rows.read(path))


def test_keys_in_a_terminal_survive_a_kill(queue: Path, tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    terminal = Terminal(queue, "--votes", path, "--annotator", "ann")
    at = 0
    for number in range(1, 4):
        at = terminal.until(f"{number} of 6", at)
        at = terminal.until("quit): ", at)
        terminal.press("x")  # means nothing, so the question is asked again
        at = terminal.until("quit): ", at)
        terminal.press("t" if number == 2 else better(terminal.shown))
    at = terminal.until("4 of 6", at)
    terminal.process.kill()
    assert terminal.close() == -signal.SIGKILL
    before = path.read_bytes()
    assert [each["winner"] for each in votes(path)] == [0, None, 0]
    with path.open("ab") as file:
        file.write(b'{"id":"half a vo')  # as a full disk or a crash of the machine leaves it
    terminal = Terminal(queue, "--votes", path, "--annotator", "ann")
    at = terminal.until("3 of 6 were answered by ann before", 0)
    at = terminal.until("4 of 6", at)
    terminal.until("quit): ", at)
    terminal.press("q")
    at = terminal.until("3 left", at)
    assert terminal.close() == 0
    assert path.read_bytes() == before


def test_lines_of_a_pipe_and_the_order_of_answers(llmctl: Run, queue: Path, tmp_path: Path) -> None:
    def answer(seed: int, lines: str) -> list[dict[str, Any]]:
        path = tmp_path / f"{seed}.jsonl"
        arguments = ["build-dataset", "annotate", queue, "--votes", path, "--seed", str(seed)]
        done = subprocess.run(
            [sys.executable, "-m", "llmctl", *map(str, arguments)],
            input=lines, capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, f"{path}\n"), done.stderr
        return votes(path)

    first = answer(3, "a\n" * 6)
    assert {each["shown"][0] for each in first} == {0, 1}  # neither answer is always A
    assert all(each["winner"] == each["shown"][0] for each in first)
    assert [e["shown"] for e in first] == [e["shown"] for e in answer(3, "")]
    assert [e["shown"] for e in first] != [e["shown"] for e in answer(2, "s\n" * 6)]
    assert all(each["skipped"] and each["winner"] is None for each in votes(tmp_path / "2.jsonl"))


def test_two_sessions_and_foreign_votes_are_refused(
    queue: Path, tmp_path: Path, llmctl: Run
) -> None:
    path = tmp_path / "votes.jsonl"
    with annotate.opened(path):
        done = llmctl("build-dataset", "annotate", queue, "--votes", path)
    assert (done.returncode, done.stderr) == (2, f"{path}: another session is writing it\n")
    rows.write_jsonl(path, [{"id": "elsewhere", "between": [0, 1], "winner": 0}])
    done = llmctl("build-dataset", "annotate", queue, "--votes", path)
    assert done.returncode == 2 and f"{path}:1: is a vote on row 'elsewhere'" in done.stderr
    done = llmctl("build-dataset", "annotate", tmp_path / "none")
    assert done.returncode == 2 and "no such file" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_answer_cannot_steer_the_terminal() -> None:
    assert annotate.harmless("a\x1b[2Jb\u202ec\td\n") == "a�[2Jb�c\td\n"


def test_no_answer_is_shown_twice(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    rows.write_jsonl(
        path, [{"prompt": "q", "answers": list("abcde")}, {"prompt": "r", "answers": ["a"]}]
    )
    found = list(annotate.questions_of(path, 1))
    shown = [number for each in found for number in each.shown]
    assert len(found) == 2 and len(set(shown)) == 4


def test_from_sampled_answers_over_votes_to_pairs(tmp_path: Path) -> None:
    """The whole way: a model writes candidates, a person votes, pairs are trained on."""
    source = tmp_path / "asked.jsonl"
    rows.write_jsonl(
        source,
        [{"prompt": f"What is {n}?", "completion": f"It is the number {n}."} for n in range(5)],
    )
    base = {"stage": "build-dataset", "filters": []}
    maker = {"kind": "candidates", "engines": [{"kind": "echo"}], "samples": 1}
    queue = tmp_path / "queue"
    first = {**base, "source": str(source), "out": str(queue), "builders": [maker]}
    (tmp_path / "queue.yaml").write_text(yaml.safe_dump(first))
    run("build-dataset", tmp_path / "queue.yaml", Options())
    assert len(list(rows.read(queue / "queue.jsonl"))) == 5
    assert not (queue / "train.jsonl").exists()
    path = tmp_path / "votes.jsonl"
    with annotate.opened(path) as out:
        for question in annotate.questions_of(queue / "queue.jsonl", 1):
            said = [question.row["answers"][n]["content"] for n in question.shown]
            pressed = "a" if said[0].startswith("It is") else "b"
            annotate.keep(out, annotate.record(question, pressed, "ann"))
    voted = {**base, "source": str(queue), "out": str(tmp_path / "pairs"),
             "builders": [{"kind": "votes", "votes": str(path)}]}  # fmt: skip
    (tmp_path / "pairs.yaml").write_text(yaml.safe_dump(voted))
    run("build-dataset", tmp_path / "pairs.yaml", Options())
    pairs = [
        r for n in ("train", "validation", "test") for r in rows.read(tmp_path / f"pairs/{n}.jsonl")
    ]
    assert len(pairs) == 5
    assert all(each["chosen"][0]["content"].startswith("It is the number") for each in pairs)
    manifest = json.loads((tmp_path / "pairs" / "manifest.json").read_text())
    assert manifest["metrics"]["length_pairs"] == 5 and manifest["metrics"]["length_longer"] == 1.0
