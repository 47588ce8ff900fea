"""How words are indexed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmctl.schema.base import Part

Stemmer = Literal[
    "none", "arabic", "armenian", "basque", "catalan", "czech", "danish", "dutch", "english",
    "esperanto", "estonian", "finnish", "french", "german", "greek", "hindi", "hungarian",
    "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian", "persian", "polish",
    "portuguese", "romanian", "russian", "serbian", "spanish", "swedish", "tamil", "turkish",
    "yiddish",
]  # fmt: skip


class Keywords(Part):
    """The keyword index (BM25) that lies beside the vectors."""

    stemmer: Stemmer = Field(
        "english", description="Language whose endings are cut off, so that forms of a word meet."
    )
    stop_words: Literal["english"] | tuple[str, ...] = Field(
        "english", description="Words that are not indexed: a list of your own, or English ones."
    )
    k1: float = Field(
        1.5, ge=0, le=10, description="How much more a word counts when it is said more often."
    )
    b: float = Field(
        0.75, ge=0, le=1, description="How much a long chunk is discounted; 0 is not at all."
    )
