"""The first rows as the model sees them: which tokens are learnt, context, or special."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import groupby
from typing import Any

from llmctl import ui
from llmctl.errors import LlmctlError
from llmctl.training.data import IGNORED, Tokens

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


def show(rows: Sequence[Tokens], special: Collection[int]) -> list[tuple[str, str]]:
    """Print rows to stderr, in colours in a terminal and with marks elsewhere; returns them."""
    found: list[tuple[str, str]] = []
    for row in rows:
        pieces = classes(row, special)
        share = row.targets / max(len(row.ids), 1)
        title = f"row {row.id}, {len(row.ids)} tokens, {row.targets} learnt ({share:.0%})"
        _print(title, pieces)
        found += [(f"{title}\n", "special"), *pieces, ("\n", "context")]
    return found[1:-1] if len(rows) == 1 else found


def _print(title: str, pieces: Sequence[tuple[str, str]]) -> None:
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


def check_batch(trainer: Any, tokenizer: Any, rows: int = 4) -> None:
    """Refuse a batch whose labels are not those of its rows, as the trainer makes it.

    A collator that hides the padding token in the labels hides the end of turn with it when both
    are one token: the model would never learn to stop, and the loss would look fine.
    """
    dataset = trainer.train_dataset
    chosen = [dataset[number] for number in range(min(rows, len(dataset)))]
    batch = trainer.data_collator(chosen)
    # the first token of a row has no predictor, so a collator may leave it out
    wanted = Counter(label for row in chosen for label in unpredicted(row) if label != IGNORED)
    labels, ids = batch["labels"].flatten().tolist(), batch["input_ids"].flatten().tolist()
    found = Counter(label for label in labels if label != IGNORED)
    if not found:
        raise LlmctlError("the first batch has no token to learn from")
    if any(label not in (IGNORED, token) for label, token in zip(labels, ids, strict=True)):
        raise LlmctlError("the first batch has labels that are not its tokens")
    lost = wanted - found
    if lost:
        token, count = lost.most_common(1)[0]
        same = " (it is the padding token, too)" if token == tokenizer.pad_token_id else ""
        raise LlmctlError(
            f"the first batch hides {count} learnt {tokenizer.convert_ids_to_tokens(token)} from "
            f"the loss{same}: the model would not learn them"
        )


def unpredicted(row: dict[str, Any]) -> list[int]:
    """The labels of a row or a pack without the first of each of its rows."""
    starts, at = set(), 0
    for length in row.get("seq_lengths") or [len(row["labels"])]:
        starts.add(at)
        at += length
    return [label for number, label in enumerate(row["labels"]) if number not in starts]
