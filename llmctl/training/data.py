"""Rows -> tokens with our own loss mask.

The mask is found in the rendered text: an assistant's turn is what the template adds after the
generation prompt of the messages before it, up to and with the end-of-turn token. Nothing depends
on `{% generation %}` marks, which many templates lack, nor on the padding token, which is often the
same as the end of turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from llmctl import rows as files
from llmctl.data.formats.base import text as words
from llmctl.errors import InputError
from llmctl.records import check_example, learnt, row_id

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


@contextmanager
def refusals(tokenizer: PreTrainedTokenizerBase, where: str) -> Iterator[None]:
    """Say at the row what the chat template does not take, such as a system turn."""
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise InputError(f"{where}: is a conversation, and the model has no chat template")
    try:
        yield
    except TemplateError as error:
        raise InputError(f"{where}: the chat template refuses it: {error}") from None


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[dict[str, Any]],
    *,
    prompt: bool = False,
    tools: Any = None,
) -> str:
    """The chat template's text; `prompt` adds the opening of the assistant's turn."""
    text = tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=prompt, tools=tools
    )
    assert isinstance(text, str)
    return text


def answer_spans(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[dict[str, Any]],
    text: str,
    where: str,
    tools: Any = None,
) -> list[tuple[int, int]]:
    """(start, end) of each assistant turn in `text`, the rendered messages, in characters."""
    spans = []
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        if turn == 0:
            raise InputError(f"{where}: begins with the assistant; a prompt has to come first")
        before = render(tokenizer, messages[:turn], prompt=True, tools=tools)
        after = render(tokenizer, messages[: turn + 1], tools=tools)
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
    """One row with its mask; raises InputError when it would teach something wrong.

    `loss_on` is `assistant`, `last` (the last of its turns alone) or `all`. A message with
    `train: false` is context.
    """
    if "text" in row and "messages" not in row:
        text = _first(tokenizer) + words(row, "text", where) + str(tokenizer.eos_token)
        learnt, stops, seam = [(0, len(text))], {len(text)}, 0
    else:
        text, learnt, stops, seam = _conversation(tokenizer, row, where, loss_on)
    ids, ends = encode(tokenizer, text)
    prompt, prompt_ends = encode(tokenizer, text[:seam])
    if ids[: len(prompt)] != prompt:
        # the answer's first characters join with the prompt's last: asked later, the model would
        # see other tokens than it was trained on, so both are tokenised apart
        answer, answer_ends = encode(tokenizer, text[seam:])
        ids, ends = prompt + answer, [*prompt_ends, *(seam + end for end in answer_ends)]
    starts = [0, *ends[:-1]]
    trained = [
        any(start < b and end > a for a, b in learnt)
        for start, end in zip(starts, ends, strict=True)
    ]
    special = set(tokenizer.all_special_ids)
    for token, end in zip(ids, ends, strict=True):
        if end in stops and token not in special:
            raise InputError(
                f"{where}: the chat template ends the assistant's turn with no special token, so "
                f"the model would not learn to stop; use a model with an end-of-turn token, or "
                f"name a chat_template"
            )
    if ids[:2] == [tokenizer.bos_token_id] * 2:
        raise InputError(f"{where}: begins with {tokenizer.bos_token} twice; take one away")
    pieces = [text[a:b] for a, b in zip(starts, ends, strict=True)]
    return Tokens(str(row.get("id") or row_id(text)), ids, trained, pieces)


def _first(tokenizer: PreTrainedTokenizerBase) -> str:
    """The beginning-of-text token, for a tokenizer that puts one before every text."""
    begins = tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
    return str(tokenizer.bos_token) if begins else ""


def _conversation(
    tokenizer: PreTrainedTokenizerBase, row: dict[str, Any], where: str, loss_on: str
) -> tuple[str, list[tuple[int, int]], set[int], int]:
    """(rendered text, spans that are learnt, where assistant turns end, where the last begins).

    All in characters.
    """
    check_example(row, where)
    messages, tools = row["messages"], row.get("tools")
    with refusals(tokenizer, where):
        text = render(tokenizer, messages, tools=tools)
        spans = answer_spans(tokenizer, messages, text, where, tools)
    check_said(text, messages, where)
    said = [m for m in messages if m["role"] == "assistant"]
    wanted = [span for span, m in zip(spans, said, strict=True) if learnt(m)]
    if loss_on == "last":
        wanted = [span for span in wanted if span == spans[-1]]
    if loss_on == "all":
        skipped = [span for span in spans if span not in wanted]
        edges = [0, *(at for span in skipped for at in span), len(text)]
        wanted = list(zip(edges[::2], edges[1::2], strict=True))
    return text, wanted, {end for _, end in spans}, spans[-1][0] if spans else 0


def unfit(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any]) -> tuple[str, str] | None:
    """(reason, detail) of a row that would teach something that nobody wrote; None of others.

    A special token in what somebody says would be read as the end of the turn, not as text.
    """
    for turn, message in enumerate(row.get("messages") or ()):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            continue  # `check_example` tells what is wrong with it
        said = message["content"]
        for token in tokenizer.all_special_tokens:
            if token in said:
                return "special_token", f"turn {turn} says {token}"
        silent = not said.strip() and not message.get("tool_calls")
        if silent and message.get("role") == "assistant" and learnt(message):
            return "empty_answer", f"turn {turn} of the assistant says nothing"
    return None


def check_said(text: str, messages: Sequence[dict[str, Any]], where: str) -> None:
    """Refuse a conversation that the template does not write out in full, in its order."""
    at = 0
    for turn, message in enumerate(messages):
        said = message["content"].strip()
        found = text.find(said, at)
        if found < 0 and said not in text:
            raise InputError(
                f"{where}: the chat template leaves out what turn {turn} ({message['role']}) says, "
                f"so the model would not see it; use another chat_template or drop these turns"
            )
        at = max(found, at)


def check_template(
    tokenizer: PreTrainedTokenizerBase, model: str, row: dict[str, Any] | None = None
) -> None:
    """Refuse a model that cannot render the first row, or whose tokens cannot be found in it."""
    if not tokenizer.is_fast:
        raise InputError(f"{model}: its tokenizer gives no character offsets (not a fast one)")
    if not tokenizer.chat_template and (row is None or "messages" in row):
        raise InputError(
            f"{model}: has no chat template, so it cannot be tuned on conversations; name one "
            f"(chat_template: chatml), use an instruct model or rows of raw `text`"
        )


def shortened(
    each: Iterable[Tokens], max_length: int, too_long: str
) -> tuple[list[Tokens], list[dict[str, Any]], int]:
    """(rows that can be trained on, rows that leave with their reason, rows that were cut)."""
    kept, dropped, cut = [], [], 0
    for row in each:
        found, reason = fitted(row, max_length, too_long)
        if found is None:
            dropped.append(reason)
            continue
        cut += len(found.ids) < len(row.ids)
        kept.append(found)
    return kept, dropped, cut


def fitted(row: Tokens, max_length: int, too_long: str) -> tuple[Tokens | None, dict[str, Any]]:
    """The row, cut when it has to be; or None and why it leaves."""
    length = len(row.ids)
    if length > max_length and too_long != "truncate":
        detail = f"{length} > {max_length} tokens"
        return None, {"id": row.id, "reason": "too_long", "detail": detail}
    if length > max_length:
        row = cut_out(row, 0, max_length)
    if not row.targets:
        detail = "no token of an assistant's turn" + (" is left" if length > max_length else "")
        return None, {"id": row.id, "reason": "no_trained_tokens", "detail": detail}
    return row, {}


def cut_out(row: Tokens, start: int, end: int) -> Tokens:
    """Some of the tokens of a row."""
    each = slice(start, end)
    return replace(row, ids=row.ids[each], trained=row.trained[each], pieces=row.pieces[each])


def split_up(
    tokenizer: PreTrainedTokenizerBase,
    row: dict[str, Any],
    where: str,
    loss_on: str,
    max_length: int,
) -> list[Tokens]:
    """A row of too many tokens as several: a text at any token, a conversation between exchanges.

    Each part of a conversation has its system turn. An exchange that is too long by itself stays
    so, for `fitted` to tell.
    """
    if "messages" not in row:
        whole = tokens_of(tokenizer, row, where, loss_on)
        starts = range(0, len(whole.ids), max_length)
        parts = [cut_out(whole, at, at + max_length) for at in starts]
        return [replace(part, id=f"{whole.id}#{n}") for n, part in enumerate(parts)]
    messages = row["messages"]
    head = [m for m in messages[:1] if m["role"] == "system"]
    exchanges: list[list[dict[str, Any]]] = []
    for message in messages[len(head) :]:
        if message["role"] == "user" or not exchanges:
            exchanges.append([])
        exchanges[-1].append(message)
    found: list[Tokens] = []
    said: list[dict[str, Any]] = []
    for exchange in exchanges:
        longer = tokens_of(
            tokenizer, {**row, "messages": [*head, *said, *exchange]}, where, loss_on
        )
        if said and len(longer.ids) > max_length:
            said = []
            longer = tokens_of(tokenizer, {**row, "messages": [*head, *exchange]}, where, loss_on)
        if said:
            found.pop()
        said = [*said, *exchange]
        found.append(longer)
    name = str(row.get("id") or row_id(files.dumps(row)))
    return [replace(part, id=f"{name}#{n}") for n, part in enumerate(found)]
