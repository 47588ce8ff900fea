"""Any row as it is looked at: who says what, where it came from, how it was judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmctl import rows, shards
from llmctl.data import reading
from llmctl.errors import InputError

WHOLE = ("kept", "queue", "chunks", "documents", "examples", "pairs")
"""Names of the one file of a folder that has no splits, in the order of preference."""
LABELLED = {True: "good", False: "bad"}
"""Label of a single answer -> its role, so that good answers stand beside bad ones."""
ASKED = ("instruction", "prompt", "question", "query", "problem", "input", "context")
ANSWERED = ("output", "completion", "response", "answer", "solution", "canonical_solution")


@dataclass(frozen=True)
class View:
    """One row: `texts` maps a role to all that it says."""

    id: str
    split: str
    texts: dict[str, str]
    source: str
    score: float | None

    @property
    def instruction(self) -> str:
        """What is asked."""
        return self.texts.get("user") or self.texts.get("prompt") or ""

    @property
    def answer(self) -> str:
        """What is learnt: the answer, the better answer of a pair, or the text itself."""
        for role in ("assistant", "chosen", *LABELLED.values(), "text"):
            if role in self.texts:
                return self.texts[role]
        return ""

    @property
    def whole(self) -> str:
        """Everything that is said."""
        return "\n".join(self.texts.values())


def parts(data: Path) -> dict[str, list[Path]]:
    """Split -> files of a folder, of one file of rows, or of a pattern."""
    if not data.is_dir():
        return {data.name.partition(".")[0]: shards.find(data)}
    for names in (shards.SPLITS, *((name,) for name in WHOLE)):
        if found := {name: files for name in names if (files := shards.of_split(data, name))}:
            return found
    named = ", ".join((*shards.SPLITS, *WHOLE))
    raise InputError(f"{data}: has no rows ({named}, each .jsonl)")


def views(split: str, files: Iterable[Path]) -> Iterator[View]:
    """The rows of a set; a row without any text is an error that names its place."""
    for where, row in rows.placed(files):
        found = view_of(row, split, where.rpartition("/")[2])
        if not found.texts:
            fields = ", ".join(row) or "none"
            raise InputError(f"{where}: no field holds text (fields: {fields})")
        yield found


def view_of(row: Mapping[str, Any], split: str, name: str = "") -> View:
    """One row; `name` is its place, and used when it has no id."""
    texts = texts_of(row, name)
    return View(str(row.get("id") or name), split, texts, source_of(row), score_of(row))


def texts_of(row: Mapping[str, Any], where: str = "") -> dict[str, str]:
    """Role -> text of a conversation, a pair, a text, a question with its answer, or any fields.

    What another tool wrote is read as `build-dataset` reads it; all completions of UltraFeedback
    are looked at, not only the two that make a pair.
    """
    if isinstance(row.get("completions"), list):
        said = [each.get("response") for each in row["completions"] if isinstance(each, Mapping)]
        answers = "\n".join(str(one) for one in said if one)
        return {"prompt": _flat(row.get("instruction", "")), "assistant": answers}
    if not reading.is_own(row) and "answers" not in row:
        row = reading.converted(row, where) or row
    if isinstance(row.get("messages"), list):
        return _said(row["messages"])
    if "chosen" in row and "rejected" in row:
        return {key: _flat(row[key]) for key in ("prompt", "chosen", "rejected") if key in row}
    if isinstance(row.get("answers"), list):
        each = [a.get("content") if isinstance(a, Mapping) else a for a in row["answers"]]
        return {"prompt": _flat(row.get("prompt")), "assistant": "\n".join(map(str, each))}
    if isinstance(row.get("completion"), list):
        label = row.get("label")
        role = LABELLED[label] if isinstance(label, bool) else "assistant"
        return {"prompt": _flat(row.get("prompt")), role: _flat(row["completion"])}
    if isinstance(row.get("text"), str):
        return {"text": row["text"]}
    strings = {key: value for key, value in row.items() if isinstance(value, str)}
    asked = [strings[key] for key in ASKED if strings.get(key)]
    answered = [strings[key] for key in ANSWERED if strings.get(key)]
    if asked and answered:
        return {"user": "\n".join(asked), "assistant": "\n".join(answered)}
    return {key: value for key, value in strings.items() if key != "id"}


def _said(messages: list[Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for message in messages:
        if isinstance(message, dict) and isinstance(message.get("content"), str):
            role = str(message.get("role"))
            found[role] = f"{found[role]}\n{message['content']}" if role in found else (
                message["content"]
            )  # fmt: skip
    return found


def _flat(value: Any) -> str:
    return "\n".join(_said(value).values()) if isinstance(value, list) else str(value)


def source_of(row: Mapping[str, Any]) -> str:
    """The document, file or collection that a row names; empty when it names none."""
    source = row.get("source")
    if isinstance(source, Mapping):
        return str(source.get("uri") or source.get("document") or "")
    return str(source or "")


def score_of(row: Mapping[str, Any]) -> float | None:
    """The mean of the judgements in `meta`, else `meta.score`; None when nothing was judged."""
    meta = row.get("meta")
    if not isinstance(meta, Mapping):
        return None
    judged = meta.get("judgements") or [{"score": meta.get("score")}]
    each = [j.get("score") for j in judged if isinstance(j, Mapping)]
    scores = [float(s) for s in each if isinstance(s, int | float) and not isinstance(s, bool)]
    return sum(scores) / len(scores) if scores else None
