"""Tokens of a model as places in a text."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

PIECE = 20_000
"""Characters that are tokenized at once, so that memory does not grow with the text."""


@cache
def tokenizer_of(ref: str) -> Any:
    """The tokenizer of a model reference, without its limit on the length."""
    from tokenizers import Tokenizer

    from llmctl import modelref

    tokenizer = Tokenizer.from_file(str(modelref.hf_folder(ref) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def token_edges(tokenizer: Any, text: str) -> list[int]:
    """Where each token begins, in characters, from 0 to the text's length, without repeats.

    Characters that no token covers belong to the token before them.
    """
    starts: set[int] = set()
    for begin, piece in _pieces(text):
        offsets = tokenizer.encode(piece, add_special_tokens=False).offsets
        starts.update(begin + start for start, end in offsets if end > start)
    return [0, *sorted(starts - {0, len(text)}), len(text)] if text else [0]


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Parts of the text that begin at white space, where tokens begin anyway."""
    begin = 0
    while len(text) - begin > PIECE:
        stop = max(text.rfind(each, begin + PIECE // 2, begin + PIECE) for each in "\n ")
        stop = stop if stop > begin else begin + PIECE
        yield begin, text[begin:stop]
        begin = stop
    yield begin, text[begin:]
