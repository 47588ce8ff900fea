"""Self-query: conditions on metadata that a question says in words become a filter.

The model sees the store's fields with their types and some values. What it writes is checked
against them before anything is searched; a filter that fits nothing is dropped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field

from llmctl.errors import LlmctlError
from llmctl.rag.structured import asked as ask
from llmctl.rag.transforms.base import Asked, Tools, Transform

SIGNS = ("=", "!=", "<", "<=", ">", ">=")


class SelfQueryTransform(Transform):
    """`only reports by Lee since 2023` gives author = 'Lee' and date >= 2023."""

    asks_engine: ClassVar[bool] = True

    fields: tuple[str, ...] = Field(
        (), description="Fields that the model may use; all of the store's without it."
    )
    instruction: str = Field(
        "Which conditions on the metadata of documents does the user's question state? Use only "
        "the fields below and only what the question says. No condition is the usual case.",
        min_length=1,
        description="What the model is told.",
    )

    def apply(self, asked: Asked, tools: Tools) -> Asked:
        """One model call; the conditions are joined by `and` with the filter that is there."""
        known = tools.fields()
        usable = {name: known[name] for name in (self.fields or known) if name in known}
        if not usable:
            return asked
        told = "\n".join(f"- {name}: {_described(row)}" for name, row in usable.items())
        answer = ask(
            tools.session,
            self.instruction,
            f"Fields:\n{told}\n\nQuestion: {asked.question}",
            _schema(list(usable)),
        )
        conditions = [
            f"`{each['field']}` {each['sign']} {_value(each['value'], usable[each['field']])}"
            for each in answer["conditions"]
            if each.get("field") in usable and each.get("sign") in SIGNS
        ]
        if not conditions:
            return asked
        filter_ = " and ".join(conditions)
        tools.check_filter(filter_)
        if asked.filter is not None:
            filter_ = f"({asked.filter}) and {filter_}"
        if not tools.some_match(filter_):
            raise LlmctlError(f"no chunk fits {filter_}")
        return replace(asked, filter=filter_)


def _described(row: dict[str, Any]) -> str:
    values = [str(value) for value in row.get("values", ())][:8]
    return str(row["type"]) + (f", such as {', '.join(values)}" if values else "")


def _value(value: Any, row: dict[str, Any]) -> str:
    if row["type"] in ("number", "date", "boolean"):
        return str(value).strip()
    return "'" + str(value).replace("'", "''") + "'"


def _schema(names: list[str]) -> dict[str, Any]:
    condition = {
        "type": "object",
        "properties": {
            "field": {"enum": names},
            "sign": {"enum": list(SIGNS)},
            "value": {"type": "string", "minLength": 1},
        },
        "required": ["field", "sign", "value"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"conditions": {"type": "array", "items": condition, "maxItems": 4}},
        "required": ["conditions"],
        "additionalProperties": False,
    }
