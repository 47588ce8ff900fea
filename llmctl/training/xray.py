"""The first row as the model sees it: which tokens are learnt, which are context, which special."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from itertools import groupby

from llmctl import ui
from llmctl.training.data import Tokens

STYLES = {"trained": "bold green", "context": "dim", "special": "magenta"}


def classes(row: Tokens, special: Collection[int]) -> list[tuple[str, str]]:
    """(text, `trained` | `context` | `special`) of each token; a learnt special one is trained."""
    return [
        (piece, "trained" if trained else "special" if token in special else "context")
        for piece, token, trained in zip(row.pieces, row.ids, row.trained, strict=True)
    ]


def marked(pieces: Sequence[tuple[str, str]]) -> str:
    """Plain text with [[...]] around what is learnt."""
    runs = groupby(pieces, key=lambda piece: piece[1] == "trained")
    texts = ((trained, "".join(text for text, _ in run)) for trained, run in runs)
    return "".join(f"[[{text}]]" if trained else text for trained, text in texts)


def show(title: str, pieces: Sequence[tuple[str, str]]) -> None:
    """Print a row to stderr: in colours in a terminal, with marks elsewhere."""
    if ui.is_quiet():
        return
    if not sys.stderr.isatty():
        ui.note(f"{title} ([[...]] is learnt):\n{marked(pieces)}")
        return
    from rich.text import Text

    text = Text()
    for piece, name in pieces:
        text.append(piece, style=STYLES[name])
    ui.note(f"{title} (green is learnt):")
    ui.console().print(text, soft_wrap=True)
