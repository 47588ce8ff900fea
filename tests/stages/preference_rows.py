"""Where each key of the builders of preferences lands; part of reach_build_dataset.py."""

from __future__ import annotations

import json
import tempfile
from types import SimpleNamespace
from typing import Any
from unittest import mock

from llmctl.data.material import Material
from llmctl.engines.base import Reply, Request
from llmctl.engines.echo import EchoSession
from llmctl.records import Dropped, candidates, example

ASKED = [{"role": "user", "content": "Is it warm?"}]
EXAMPLE = example(
    [*ASKED, {"role": "assistant", "content": "given"}],  # type: ignore[list-item]
    {"uri": "u"},
    {"reference": "1"},  # in what the first model answers
)
ANSWERS = [{"content": "yes"}, {"content": "no"}]
CANDIDATES = {
    **candidates(ASKED, ANSWERS, {"uri": "u"}, {"reference": "yes"}),  # type: ignore[arg-type]
    "votes": [
        {"between": [0, 1], "winner": 0},
        {"between": [0, 1], "winner": 0},
        {"between": [0, 1], "winner": 1},
    ],
}
ECHO = {"kind": "echo"}
MATCH = {"kind": "match"}
KINDS: dict[str, dict[str, Any]] = {
    "builders[candidates]": {"engines": [ECHO]},
    "builders[best_worst]": {"judge": MATCH},
    "builders[best]": {"judge": MATCH},
    "builders[strong_weak]": {
        "strong": {**ECHO, "prefix": "good "},
        "weak": ECHO,
        "judge": {**MATCH, "rule": "contains"},
    },
}


def run(built: SimpleNamespace, row: dict[str, Any]) -> tuple[list[Request], list[Any]]:
    """(what models are asked, what the builder makes) of one row."""
    requests: list[Request] = []

    def answer(self: EchoSession, request: Request) -> Reply:
        requests.append(request)
        return Reply(f"{self.prefix}{len(requests)}", 1, 1, "stop")

    with mock.patch.object(EchoSession, "answer", answer):
        made = list(built.recipe.builders[0].build(Material(rows=[row], seed=3)))
    return requests, made


def request(name: str) -> Any:
    return lambda built: getattr(run(built, EXAMPLE)[0][0], name)


def asked(built: SimpleNamespace) -> int:
    return len(run(built, EXAMPLE)[0])


def contents(built: SimpleNamespace) -> list[str]:
    return [each["content"] for each in run(built, EXAMPLE)[1][0]["answers"]]


def reason(row: dict[str, Any]) -> Any:
    """Why the row leaves; the form of what is made of it when it stays."""

    def told(built: SimpleNamespace) -> str:
        (each,) = run(built, row)[1]
        return each.reason if isinstance(each, Dropped) else "made"

    return told


def side(name: str) -> Any:
    return lambda built: run(built, EXAMPLE)[1][0][name][0]["content"]


def votes(*winners: int) -> str:
    """A file of votes on CANDIDATES."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", delete=False) as file:
        for winner in winners:
            vote = {"id": CANDIDATES["id"], "between": [0, 1], "winner": winner}
            file.write(json.dumps(vote) + "\n")
    return file.name


def with_votes(built: SimpleNamespace) -> str:
    return str(run(built, CANDIDATES)[1][0]["chosen"][0]["content"])


ROWS: dict[str, Any] = {
    "builders[candidates].engines": ([ECHO, ECHO, ECHO], asked, 6),
    "builders[candidates].samples": (5, asked),
    "builders[candidates].temperature": (0.3, request("temperature")),
    "builders[candidates].max_tokens": (33, request("max_tokens")),
    "builders[candidates].keep_given": (False, contents, ["1", "2"]),
    "builders[best_worst].judge": (
        {"kind": "match", "rule": "contains"},
        lambda built: built.recipe.builders[0].judge.rule,
        "contains",
    ),
    "builders[best_worst].min_margin": (1.0, reason(CANDIDATES), "low_margin"),
    "builders[best].judge": (
        {"kind": "match", "rule": "contains"},
        lambda built: built.recipe.builders[0].judge.rule,
        "contains",
    ),
    "builders[best].min_score": (2.0, reason(CANDIDATES), "judged_low"),
    "builders[strong_weak].strong": ({**ECHO, "prefix": "best "}, side("chosen"), "best 1"),
    "builders[strong_weak].weak": ({**ECHO, "prefix": "bad "}, side("rejected"), "bad 2"),
    "builders[strong_weak].temperature": (0.3, request("temperature")),
    "builders[strong_weak].max_tokens": (33, request("max_tokens")),
    "builders[strong_weak].judge": (MATCH, reason(EXAMPLE), "tie"),
    "builders[strong_weak].min_margin": (1.5, reason(EXAMPLE), "low_margin"),
    "builders[votes].votes": (votes(1, 1), with_votes, "no"),
    "builders[votes].min_votes": (4, reason(CANDIDATES), "too_few_votes"),
    "builders[votes].min_margin": (0.4, reason(CANDIDATES), "low_margin"),
}
