"""Rows of preferences -> checked tokens to learn from and to measure with; what leaves is named."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmctl import ui
from llmctl.alignment.base import check_loss
from llmctl.artifact import Artifact
from llmctl.errors import InputError
from llmctl.schema.dpo import DpoRecipe
from llmctl.training import data, pair_checks, preference, sources
from llmctl.training.preference import LabelledTokens, PairTokens
from llmctl.training.sources import Rows


@dataclass
class Prepared:
    """Rows as tokens; pairs or labelled answers, never both in `train`."""

    train: list[PairTokens] = field(default_factory=list)
    labelled: list[LabelledTokens] = field(default_factory=list)
    held: list[PairTokens] = field(default_factory=list)
    held_labelled: list[LabelledTokens] = field(default_factory=list)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The rows of `train` by id, for what reads text."""
    places: dict[str, str] = field(default_factory=dict)
    """Where each row of `train` is, by id."""
    held_places: list[str] = field(default_factory=list)
    """Where each of `held` is."""
    held_rows: Rows = field(default_factory=list)
    """The rows of `held` or `held_labelled` and where they are."""


def read(recipe: DpoRecipe, artifact: Artifact, tokenizer: Any) -> Prepared:
    """Check, tokenise and split the recipe's rows; writes dropped.jsonl."""
    rows, held_rows = sources.split(recipe.data, recipe.seed, artifact)
    data.check_template(tokenizer, recipe.model)
    labelled = is_labelled(rows)
    if labelled:
        check_loss(recipe.loss, rows[0][0])
        _need_pairs(recipe, rows[0][0])
    names = ("completion",) if labelled else ("chosen", "rejected")
    check(rows, names, preference.marks(tokenizer))
    check(held_rows, names, preference.marks(tokenizer))
    if labelled:
        pair_checks.check_classes(rows)
        found = _labelled(recipe, artifact, tokenizer, rows, held_rows)
    else:
        found = _pairs(recipe, artifact, tokenizer, rows, held_rows)
    return found


def _need_pairs(recipe: DpoRecipe, where: str) -> None:
    """Refuse checks that compare the two answers of a pair."""
    for key in ("judge", "likelihood", "refuse_length"):
        if getattr(recipe.checks, key):
            raise InputError(
                f"{where}: is an answer with a label; checks.{key} compares the two answers of a "
                f"pair; drop it"
            )


def is_labelled(rows: Rows) -> bool:
    """Whether the rows are labelled answers; both kinds in one file are refused."""
    kinds = ["completion" in row or "label" in row for _, row in rows]
    if any(kinds) and not all(kinds):
        pair = next(where for (where, _), kind in zip(rows, kinds, strict=True) if not kind)
        single = next(where for (where, _), kind in zip(rows, kinds, strict=True) if kind)
        raise InputError(f"{single}: is an answer with a label, {pair} is a pair; give one kind")
    return any(kinds)


def check(rows: Rows, names: Sequence[str], marks: Sequence[str]) -> None:
    """Refuse what is meaningless; warn of what may be."""
    faults = pair_checks.labelled_faults if len(names) == 1 else pair_checks.pair_faults

    def every(row: dict[str, Any]) -> Iterator[str]:
        wrong = list(faults(row))
        yield from wrong
        for name in names if not wrong else ():
            for mark in marks:
                if mark in row[name][0]["content"]:
                    yield f"`{name}` holds the chat template's own mark {mark}"

    pair_checks.refuse(rows, every)
    warning = pair_checks.check_echo(rows, names)
    if warning:
        ui.warn(warning)


def leave(artifact: Artifact, rows: Rows, left: pair_checks.Reasons) -> None:
    """Write dropped.jsonl, count the reasons, and name the rows of each in one warning."""
    dropped = [
        {
            "id": str(rows[at][1].get("id") or ""),
            "reason": left[at][0],
            "detail": left[at][1],
            "where": rows[at][0],
        }
        for at in sorted(left)
    ]
    artifact.write_jsonl("dropped.jsonl", dropped)
    artifact.dropped.update(row["reason"] for row in dropped)
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in dropped:
        kinds[row["reason"]].append(row)
    for reason, found in kinds.items():
        sentence = f"left out: {reason.replace('_', ' ')}: {found[0]['detail']}"
        ui.warn(pair_checks.named([row["where"] for row in found], sentence))
    if len(dropped) == len(rows):
        told = ", ".join(f"{len(found)} {reason}" for reason, found in sorted(kinds.items()))
        file = rows[0][0].rpartition(":")[0]
        raise InputError(f"{file}: no row can be learnt from ({told})")


def _pairs(
    recipe: DpoRecipe, artifact: Artifact, tokenizer: Any, rows: Rows, held_rows: Rows
) -> Prepared:
    left = pair_checks.reasons(rows, held_rows)
    read = ui.counted("reading rows", rows, len(rows))
    tokens = [preference.tokens_of(tokenizer, row, where) for where, row in read]
    cut = 0
    for at, pair in enumerate(tokens):
        sides = [len(pair.prompt) + len(each) for each in (pair.chosen, pair.rejected)]
        reason = too_long(recipe, len(pair.prompt), sides)
        if at not in left and reason is not None:
            left[at] = reason
        elif at not in left and max(sides) > recipe.max_length:
            cut += 1
    leave(artifact, rows, left)
    found = Prepared()
    for at, ((where, row), pair) in enumerate(zip(rows, tokens, strict=True)):
        if at not in left:
            found.train.append(pair)
            found.rows[pair.id], found.places[pair.id] = row, where
    for where, row in held_rows:
        pair = preference.tokens_of(tokenizer, row, where)
        if not pair_checks.same(row) and pair.longest <= recipe.max_length:
            found.held.append(pair)
            found.held_places.append(where)
            found.held_rows.append((where, row))
    _told(artifact, found, len(left), cut, recipe.max_length)
    _length_gap(recipe, found)
    return found


def too_long(recipe: DpoRecipe, prompt: int, sides: Sequence[int]) -> tuple[str, str] | None:
    """(reason, detail) why a row of these lengths leaves; a pair is cut on both sides or on none.

    Cut on one side only, the other would differ from it by its end of turn, which is then learnt.
    """
    longest, limit = max(sides), recipe.max_length
    if prompt >= limit:
        return "no_trained_tokens", f"the prompt fills {limit} tokens"
    if longest > limit and recipe.too_long == "drop":
        return "too_long", f"{longest} > {limit} tokens"
    if longest > limit >= min(sides):
        side = "chosen" if sides[0] > sides[-1] else "rejected"
        return "cut_on_one_side", f"only `{side}` is longer than {limit} tokens ({longest})"
    return None


def _told(artifact: Artifact, found: Prepared, left: int, cut: int, limit: int) -> None:
    chosen = sum(len(pair.chosen) for pair in found.train) / len(found.train)
    rejected = sum(len(pair.rejected) for pair in found.train) / len(found.train)
    if cut:
        ui.warn(f"{cut} pairs were cut to {limit} tokens and lost an end of turn")
    artifact.metrics |= {
        "train_rows": len(found.train),
        "rows_truncated": cut,
        "held_out_rows": len(found.held),
        "chosen_tokens_mean": chosen,
        "rejected_tokens_mean": rejected,
    }
    artifact.summary += [
        ("pairs", f"{len(found.train)}, {left} left out"),
        ("tokens of an answer", f"chosen {chosen:.0f}, rejected {rejected:.0f} on average"),
    ]


def _length_gap(recipe: DpoRecipe, found: Prepared) -> None:
    """Warn, or refuse, when length alone tells the better answer from the worse."""
    chosen = sum(len(pair.chosen) for pair in found.train)
    rejected = sum(len(pair.rejected) for pair in found.train)
    ratio = max(chosen, rejected) / min(chosen, rejected)
    if ratio <= recipe.checks.length_ratio:
        return
    word = "longer" if chosen > rejected else "shorter"
    gaps = [
        (abs(len(pair.chosen) - len(pair.rejected)), found.places[pair.id]) for pair in found.train
    ]
    sentence = (
        f"the better answers are {ratio:.1f} times {word} than the worse ones on average (limit "
        f"checks.length_ratio {recipe.checks.length_ratio:g}); the model will learn length"
    )
    line = pair_checks.named(pair_checks.worst(gaps), sentence)
    if recipe.checks.refuse_length:
        raise InputError(line)
    ui.warn(line)


def _labelled(
    recipe: DpoRecipe, artifact: Artifact, tokenizer: Any, rows: Rows, held_rows: Rows
) -> Prepared:
    left = pair_checks.labelled_reasons(rows, held_rows)
    read = ui.counted("reading rows", rows, len(rows))
    tokens = [preference.labelled_of(tokenizer, row, where) for where, row in read]
    cut = 0
    for at, each in enumerate(tokens):
        length = len(each.prompt) + len(each.answer)
        reason = too_long(recipe, len(each.prompt), [length])
        if at not in left and reason is not None:
            left[at] = reason
        elif at not in left and length > recipe.max_length:
            cut += 1
    leave(artifact, rows, left)
    found = Prepared()
    for at, ((where, row), each) in enumerate(zip(rows, tokens, strict=True)):
        if at not in left:
            found.labelled.append(each)
            found.rows[each.id], found.places[each.id] = row, where
    for where, row in held_rows:
        each = preference.labelled_of(tokenizer, row, where)
        if len(each.prompt) + len(each.answer) <= recipe.max_length:
            found.held_labelled.append(each)
            found.held_rows.append((where, row))
    if cut:
        ui.warn(f"{cut} answers were cut to {recipe.max_length} tokens and lost their end of turn")
    good = sum(each.good for each in found.labelled)
    bad = len(found.labelled) - good
    artifact.metrics |= {
        "train_rows": len(found.labelled),
        "rows_truncated": cut,
        "held_out_rows": len(found.held_labelled),
        "good_rows": good,
        "bad_rows": bad,
    }
    artifact.summary.append(("answers", f"{good} good, {bad} bad, {len(left)} left out"))
    balance = recipe.desirable_weight * good / max(recipe.undesirable_weight * bad, 1)
    if recipe.loss == "kto" and not 1 <= balance <= 4 / 3:
        ui.warn(
            f"desirable_weight x good / (undesirable_weight x bad) is {balance:.2f}; the KTO paper "
            f"asks for 1 to 4/3 (its eq. 8): set desirable_weight: "
            f"{recipe.desirable_weight / balance:.2f}"
        )
    return found


def unpaired(pairs: Sequence[PairTokens]) -> list[LabelledTokens]:
    """Both answers of each pair, the better one good, the worse one bad."""
    return [
        LabelledTokens(f"{pair.id}-{name}", pair.prompt, answer, good)
        for pair in pairs
        for name, answer, good in (
            ("chosen", pair.chosen, True),
            ("rejected", pair.rejected, False),
        )
    ]
