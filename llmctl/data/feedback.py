"""Thumbs, comments and corrections that `serve` kept, as candidates with votes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from llmctl.errors import InputError
from llmctl.records import Dropped, Message, candidates, flat

QUERY = """
SELECT t.id, t.model, t.messages, t.answer, f.rating, f.comment, f.correction
FROM feedback f JOIN traces t ON t.id = f.request_id
ORDER BY t.started, t.id, f.at
"""
DATABASE = "traces.sqlite"


def database_of(source: Path) -> Path | None:
    """The database of a serve artifact, or the file itself; None for every other source."""
    inside = source / DATABASE
    if inside.is_file():
        return inside
    return source if source.suffix == ".sqlite" and source.is_file() else None


def rows(path: Path) -> Iterator[dict[str, Any] | Dropped]:
    """One row for each prompt that was rated: its answers with their thumbs, and corrections.

    A correction beats the answer that it corrects, and an answer with more thumbs up than down
    beats one of the same prompt with more thumbs down.
    """
    prompts: dict[str, list[dict[str, Any]]] = {}
    turns: dict[str, list[Message]] = {}
    without = 0
    for key, model, messages, answer, rating, comment, correction in _rated(path):
        if not messages or not answer:
            without += 1
            yield Dropped(key, "no_content", "serve kept no text: its trace_content was off")
            continue
        asked = json.loads(messages)
        name = flat(asked)
        turns[name] = asked
        known = prompts.setdefault(name, [])
        found = next((a for a in known if a.get("request") == key), None)
        if found is None:
            found = {"content": answer, "model": model, "request": key, "up": 0, "down": 0}
            known.append(found)
        found["up" if rating > 0 else "down"] += 1
        if comment:
            found.setdefault("comments", []).append(comment)
        if correction and correction.strip():
            known.append({"content": correction, "correction": True, "corrects": key})
    if without and not prompts:
        raise InputError(
            f"{path}: has thumbs but no texts; run serve with `trace_content: true` to keep them"
        )
    for number, (name, answers) in enumerate(prompts.items(), 1):
        first = next(a["request"] for a in answers if "request" in a)
        # "row": the turns of one talk are rows of their own, and begun() keeps them together
        source = {"uri": path.name, "document": first, "row": number}
        row: dict[str, Any] = {**candidates(turns[name], answers, source, {"feedback": True})}
        votes = list(_votes(answers))
        yield {**row, "votes": votes} if votes else row


def _rated(path: Path) -> Iterator[tuple[Any, ...]]:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            yield from database.execute(QUERY)
    except sqlite3.Error as error:
        raise InputError(f"{path}: is no database of serve: {error}") from None


def _votes(answers: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    place = {a["request"]: number for number, a in enumerate(answers) if "request" in a}
    for number, each in enumerate(answers):
        if each.get("correction"):
            yield {"between": [place[each["corrects"]], number], "winner": number}
    liked = [n for n, a in enumerate(answers) if a.get("up", 0) > a.get("down", 0)]
    disliked = [n for n, a in enumerate(answers) if a.get("up", 0) < a.get("down", 0)]
    for good in liked:
        for bad in disliked:
            yield {"between": sorted([good, bad]), "winner": good}
