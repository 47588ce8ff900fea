"""Parts that several recipes share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

ModelRef = Annotated[
    str,
    Field(
        min_length=1,
        description="hub id | folder | .gguf file | pkg:NAME (weights inside an installed "
        "package) | another stage's artifact folder",
    ),
]
