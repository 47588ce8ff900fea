"""The first rows as the model sees them: which tokens are learnt, context, or special."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from transformers import PreTrainedTokenizerBase

from llmctl import ui
from llmctl.errors import LlmctlError
from llmctl.training.data import IGNORED, Tokens
from llmctl.training.preference import LabelledTokens, PairTokens

ROWS = 3
"""Rows of preferences that are shown."""
UNFINISHED = "\ufffd"
"""What a tokenizer writes for a part of a character."""
STYLES = {"trained": "bold green", "context": "dim", "special": "magenta"}


Pieces = list[tuple[str, str]]
"""(text, class) of each token."""


@dataclass(frozen=True)
class Shown:
    """A row token by token: one text without a name, or a prompt and its answers."""

    title: str
    texts: dict[str, Pieces]


def classes(row: Tokens, special: Collection[int]) -> Pieces:
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


def show(rows: Sequence[Tokens], special: Collection[int]) -> list[Shown]:
    """Print rows to stderr, in colours in a terminal and with marks elsewhere; returns them."""
    found = []
    for row in rows:
        share = row.targets / max(len(row.ids), 1)
        title = f"row {row.id}, {len(row.ids)} tokens, {row.targets} learnt ({share:.0%})"
        found.append(Shown(title, {"": classes(row, special)}))
    _print(found)
    return found


def show_answers(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[PairTokens | LabelledTokens], limit: int
) -> list[Shown]:
    """As `show`, of prompts with their answers as the trainer cuts them to `limit` tokens."""
    found = [answered(tokenizer, row, limit) for row in rows[:ROWS]]
    _print(found)
    return found


def answered(
    tokenizer: PreTrainedTokenizerBase, row: PairTokens | LabelledTokens, limit: int
) -> Shown:
    """A prompt, which is context, and its answers, which are learnt: a pair, or a labelled one."""
    if isinstance(row, PairTokens):
        answers = {"chosen": row.chosen, "rejected": row.rejected}
    else:
        answers = {"good answer" if row.good else "bad answer": row.answer}
    special, texts = set(tokenizer.all_special_ids), {}
    kept = {"prompt": row.prompt}
    kept |= {name: ids[: max(limit - len(row.prompt), 0)] for name, ids in answers.items()}
    for name, ids in kept.items():
        trained = [name in answers] * len(ids)
        texts[name] = classes(Tokens(row.id, ids, trained, pieces_of(tokenizer, ids)), special)
    counts = ", ".join(f"{name} {len(kept[name])} learnt" for name in answers)
    what = "pair" if len(answers) > 1 else "row"
    return Shown(f"{what} {row.id}, prompt {len(row.prompt)} tokens, {counts}", texts)


def show_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[tuple[str, list[int]]]
) -> list[Shown]:
    """As `show`, of (id, tokens) of prompts that the model is to answer."""
    special, found = set(tokenizer.all_special_ids), []
    for name, ids in prompts[:ROWS]:
        row = Tokens(name, ids, [False] * len(ids), pieces_of(tokenizer, ids))
        title = f"prompt {name}, {len(ids)} tokens, the model's own answer is learnt"
        found.append(Shown(title, {"": classes(row, special)}))
    _print(found)
    return found


def pieces_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """The text of each token; one that ends inside a character has none, its last has it whole.

    Each is decoded behind the one before it: many tokenizers drop a space that a text begins with.
    """
    found, begin, before = [], 0, ""
    for at in range(len(ids)):
        text = str(tokenizer.decode(ids[begin : at + 1], clean_up_tokenization_spaces=False))
        if text.endswith(UNFINISHED):
            found.append("")
            continue
        found.append(text[len(before) :])
        begin = at
        before = str(tokenizer.decode(ids[at : at + 1], clean_up_tokenization_spaces=False))
    return found


def _print(rows: Sequence[Shown]) -> None:
    if ui.is_quiet():
        return
    for row in rows:
        learnt = any(kind == "trained" for pieces in row.texts.values() for _, kind in pieces)
        if not sys.stderr.isatty():
            said = [f"{_named(name)}{marked(pieces)}" for name, pieces in row.texts.items()]
            mark = " ([[...]] is learnt)" if learnt else ""
            ui.note("\n".join([f"{row.title}{mark}:", *said]))
            continue
        from rich.text import Text

        mark = " (green is learnt)" if learnt else ""
        ui.note(f"{row.title}{mark}:")
        for name, pieces in row.texts.items():
            text = Text(_named(name))
            for piece, kind in pieces:
                text.append(piece, style=STYLES[kind])
            ui.console().print(text, soft_wrap=True)


def _named(name: str) -> str:
    return f"{name}: " if name else ""


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
