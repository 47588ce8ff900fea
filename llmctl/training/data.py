"""Rows -> tokens with our own loss mask, and which rows are learnt from and which are measured.

The mask is found in the rendered text: an assistant's turn is what the template adds after the
generation prompt of the messages before it, up to and with the end-of-turn token. Nothing depends
on `{% generation %}` marks, which many templates lack, nor on the padding token, which is often the
same as the end of turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from transformers import PreTrainedTokenizerBase

from llmctl import rows as files
from llmctl import ui
from llmctl.artifact import Artifact
from llmctl.data import reading
from llmctl.data.formats.base import Format, UnfitError
from llmctl.errors import InputError
from llmctl.records import check_example, row_id
from llmctl.schema.parts import TrainData

IGNORED = -100
"""The label of a token that is not learnt."""


@dataclass(frozen=True)
class Tokens:
    """One row as the model sees it; `trained[i]` says whether token i is a target."""

    id: str
    ids: list[int]
    trained: list[bool]
    pieces: list[str]
    """The text of each token; they concatenate to the rendered row."""

    @property
    def labels(self) -> list[int]:
        """The ids where they are trained, IGNORED elsewhere."""
        return [i if t else IGNORED for i, t in zip(self.ids, self.trained, strict=True)]

    @property
    def targets(self) -> int:
        """How many tokens have a loss: the first of a row has no predictor."""
        return sum(self.trained[1:])


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[dict[str, Any]],
    *,
    prompt: bool = False,
) -> str:
    """The chat template's text; `prompt` adds the opening of the assistant's turn."""
    text = tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=prompt
    )
    assert isinstance(text, str)
    return text


def answer_spans(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[dict[str, Any]],
    text: str,
    where: str,
) -> list[tuple[int, int]]:
    """(start, end) of each assistant turn in `text`, the rendered messages, in characters."""
    spans = []
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        if turn == 0:
            raise InputError(f"{where}: begins with the assistant; a prompt has to come first")
        before = render(tokenizer, messages[:turn], prompt=True)
        after = render(tokenizer, messages[: turn + 1])
        if not (after.startswith(before) and text.startswith(after.rstrip())):
            raise InputError(
                f"{where}: the chat template writes turn {turn} differently when more turns "
                f"follow, so its tokens cannot be told apart; split the conversation into rows"
            )
        spans.append((len(before), len(after.rstrip())))  # no newline after the end of turn
    return spans


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[int]]:
    """Token ids of rendered text and the character where each token ends."""
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return list(found["input_ids"]), [int(end) for _, end in found["offset_mapping"]]


def tokens_of(
    tokenizer: PreTrainedTokenizerBase, row: dict[str, Any], where: str, loss_on: str
) -> Tokens:
    """One row with its mask; raises InputError when the end of turn would not be learnt."""
    if "text" in row and "messages" not in row:
        text = str(row["text"]) + str(tokenizer.eos_token)
        spans = [(0, len(text))]
    else:
        check_example(row, where)
        text = render(tokenizer, row["messages"])
        spans = answer_spans(tokenizer, row["messages"], text, where)
    ids, ends = encode(tokenizer, text)
    starts = [0, *ends[:-1]]
    trained = [
        loss_on == "all" or any(start < b and end > a for a, b in spans)
        for start, end in zip(starts, ends, strict=True)
    ]
    stops = {end for _, end in spans}
    special = set(tokenizer.all_special_ids)
    for token, end in zip(ids, ends, strict=True):
        if end in stops and token not in special:
            raise InputError(
                f"{where}: the chat template ends the assistant's turn with no special token, so "
                f"the model would not learn to stop; use a model with an end-of-turn token"
            )
    pieces = [text[a:b] for a, b in zip(starts, ends, strict=True)]
    return Tokens(str(row.get("id") or row_id(text)), ids, trained, pieces)


def check_template(tokenizer: PreTrainedTokenizerBase, model: str) -> None:
    """Refuse a model that cannot render a conversation."""
    if not tokenizer.chat_template:
        raise InputError(
            f"{model}: has no chat template, so it cannot be tuned on conversations; use an "
            f"instruct model or rows of raw `text`"
        )
    if not tokenizer.is_fast:
        raise InputError(f"{model}: its tokenizer gives no character offsets (not a fast one)")


Rows = list[tuple[str, dict[str, Any]]]


def numbered(path: Path, format: Format | None, artifact: Artifact) -> Rows:
    """(file:line, row) of a file of any format; rows in our own form are checked later."""
    if format is None and reading.is_own(next(files.read(path), {"text": ""})):
        return [(f"{path}:{line}", row) for line, row in files.numbered(path)]
    told = reading.Reading()
    found = [
        (where, row)
        for where, row in reading.read(path, format, reading=told)
        if not isinstance(row, UnfitError)
    ]
    ui.note(f"{path}: {told}")
    artifact.extra.setdefault("formats", {})[str(path)] = told.dump()
    artifact.dropped.update(told.unfit)
    return found


def split(data: TrainData, seed: int, artifact: Artifact) -> tuple[Rows, Rows]:
    """(rows to learn from, rows to measure with), disjoint by id; what leaves is counted."""
    train = numbered(files.find(data.train), data.format, artifact)
    if not train:
        raise InputError(f"{data.train}: has no rows to learn from")
    held = _held_out(data, artifact)
    if held is None:
        order = sorted(range(len(train)), key=lambda i: row_id(str(seed), files.dumps(train[i][1])))
        back = set(order[: round(len(train) * data.hold_out)])
        held = [train[i] for i in sorted(back)]
        train = [each for i, each in enumerate(train) if i not in back]
    else:
        seen = {_key(row) for _, row in held}
        leaked = [each for each in train if _key(each[1]) in seen]
        if leaked:
            train = [each for each in train if _key(each[1]) not in seen]
            artifact.dropped["in_held_out"] += len(leaked)
    if not train:
        raise InputError(f"{data.train}: every row is held out; nothing is left to learn from")
    return train, sample(held, data.eval_rows, seed)


def _key(row: dict[str, Any]) -> str:
    """What makes two rows the same: their content, not their provenance."""
    body = {k: v for k, v in row.items() if k not in ("id", "source", "meta")}
    return files.dumps(body)


def _held_out(data: TrainData, artifact: Artifact) -> Rows | None:
    """The rows of the test split, else of the validation split; None when there is neither."""
    ref = data.validation
    if ref is not None and ref.is_file():
        return numbered(ref, data.format, artifact)
    folder = ref if ref is not None else data.train
    for name in ("test", "validation"):
        if folder.is_dir():
            try:
                return numbered(files.find(folder, name), data.format, artifact)
            except InputError:
                continue
    if ref is not None:
        raise InputError(f"{ref}: has neither a test nor a validation split")
    return None


def sample(held: Rows, most: int, seed: int) -> Rows:
    """At most `most` rows, drawn with the seed, in their own order."""
    if len(held) <= most:
        return held
    return [held[i] for i in sorted(Random(seed).sample(range(len(held)), most))]


def shortened(
    each: Iterable[Tokens], max_length: int, too_long: str
) -> tuple[list[Tokens], list[dict[str, Any]], int]:
    """(rows that can be trained on, rows that leave with their reason, rows that were cut)."""
    kept, dropped, cut = [], [], 0
    for row in each:
        length = len(row.ids)
        if length > max_length and too_long == "drop":
            detail = f"{length} > {max_length} tokens"
            dropped.append({"id": row.id, "reason": "too_long", "detail": detail})
            continue
        if length > max_length:
            row = replace(
                row,
                ids=row.ids[:max_length],
                trained=row.trained[:max_length],
                pieces=row.pieces[:max_length],
            )
            cut += 1
        if not row.targets:
            detail = "no token of an assistant's turn" + (" is left" if length > max_length else "")
            dropped.append({"id": row.id, "reason": "no_trained_tokens", "detail": detail})
            continue
        kept.append(row)
    return kept, dropped, cut
