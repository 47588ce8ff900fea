"""What may be asked of a document's metadata."""

from __future__ import annotations

import datetime
from typing import Literal

from pydantic import Field

from llmctl.schema.base import Part

Scalar = bool | int | float | datetime.date | str
FieldType = Literal["string", "number", "date", "boolean", "list"]


class Tag(Part):
    """Fields that are set on every document whose path fits."""

    pattern: str = Field(
        min_length=1, description="Shell pattern on the path below `source`; * also crosses /."
    )
    set: dict[str, Scalar | list[Scalar]] = Field(
        min_length=1, description="Field -> value; the last tag that fits wins."
    )


class Metadata(Part):
    """Facts about a document that a search can filter by."""

    tags: tuple[Tag, ...] = Field((), description="Fields set by the document's path.")
    fields: tuple[str, ...] | None = Field(
        None, description="Fields of the documents that are kept; null keeps all."
    )
    types: dict[str, FieldType] = Field(
        default_factory=dict,
        description="Field -> its type, where the values alone do not tell; a value that does "
        "not fit is left out and counted.",
    )
    external_id: str | None = Field(
        None,
        min_length=1,
        description="Field that holds the document's id where it comes from; kept as external_id.",
    )
