"""Rows -> (query, text) pairs, split by document, with hard negatives.

A row is either a pair (`query`, `positive`, and `negatives` if it has them) or a chunk of an ingest
artifact (`text`, `document_id`, `meta` with title and headings), from which pairs are made without
a model: the title, heading or first sentence asks for the text, or one sentence, or each of the
first ones, for the rest of it (the inverse cloze task of Lee et al. 2019).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from llmctl import rows as row_files
from llmctl import shards
from llmctl.artifact import Artifact
from llmctl.errors import InputError
from llmctl.records import row_id
from llmctl.schema.parts import TrainData

SENTENCE = re.compile(r"(?<=[.!?])\s+")
FEWEST_WORDS = 4
"""A shorter query or text says too little to be found by."""
MOST_SENTENCES = 6
"""Sentences of one chunk that ask for the rest of it."""


@dataclass(frozen=True)
class Pair:
    """A query, a text that answers it, and the document that both are from."""

    query: str
    positive: str
    document: str
    group: str
    """The chunk: pairs of one chunk are never each other's negatives."""
    negatives: tuple[str, ...] = ()
    whole: str = ""
    """The text as a store has it: with its title, and with the query if it is a part of it."""


def read(data: TrainData, queries: Sequence[str], seed: int, artifact: Artifact) -> list[Pair]:
    """The pairs of `data.train`; what gives none is counted."""
    return _pairs(files(data.train), queries, seed, artifact)


def split(
    data: TrainData, queries: Sequence[str], seed: int, artifact: Artifact
) -> tuple[list[Pair], list[Pair], list[str]]:
    """(pairs to learn from, pairs to measure with, further texts to search among).

    No document is on both sides. The measured pairs have one query each chunk.
    """
    train = read(data, queries, seed, artifact)
    apart = held_out_files(data)
    if apart:
        held = _pairs(apart, queries, seed, artifact)
        seen = {each.document for each in held}
        known = len(train)
        train = [each for each in train if each.document not in seen]
        artifact.dropped["in_held_out"] += known - len(train)
    else:
        documents = sorted({each.document for each in train}, key=lambda d: row_id(str(seed), d))
        back = set(documents[: round(len(documents) * data.hold_out)])
        held = [each for each in train if each.document in back]
        train = [each for each in train if each.document not in back]
    if not train:
        raise InputError(
            f"{data.train}: gives no pair to learn from; rows need query and positive,"
            f" or text with a title, headings or several sentences"
        )
    first = list({each.group: each for each in reversed(held)}.values())[::-1]
    measured = first
    if len(first) > data.eval_rows:
        measured = [
            first[i] for i in sorted(Random(seed).sample(range(len(first)), data.eval_rows))
        ]
    texts = dict.fromkeys(each.positive for each in [*first, *one_each(train)])
    return train, measured, list(texts)


def one_each(pairs: Iterable[Pair]) -> list[Pair]:
    """The first pair of each group."""
    found: dict[str, Pair] = {}
    for each in pairs:
        found.setdefault(each.group, each)
    return list(found.values())


def files(ref: Path, *, held_out: bool = False) -> list[Path]:
    """The chunks of an ingest artifact, or the files of the train split, or of what is held out."""
    chunks = ref / "chunks.jsonl"
    if chunks.is_file():
        return [chunks]
    return shards.held_out(ref) if held_out else shards.find(ref)


def held_out_files(data: TrainData) -> list[Path]:
    """The files of `validation`, or the test or validation split beside the training rows."""
    if data.validation is not None:
        return files(data.validation, held_out=True)
    if (data.train / "chunks.jsonl").is_file():
        return []  # an ingest artifact has no splits
    return shards.held_out_splits(data.train)


def _pairs(files: list[Path], queries: Sequence[str], seed: int, artifact: Artifact) -> list[Pair]:
    shards.tell_part(files)
    found: dict[tuple[str, str], Pair] = {}
    for where, row in row_files.placed(files):
        made = list(of_row(row, queries, seed, where))
        if not made:
            artifact.dropped["no_pair"] += 1
        for pair in made:
            found.setdefault((pair.query, pair.positive), pair)
    return list(found.values())


def of_row(row: dict[str, Any], queries: Sequence[str], seed: int, where: str) -> Iterator[Pair]:
    if "query" in row and "positive" in row:
        negatives = row.get("negatives") or []
        texts = [row["query"], row["positive"], *(negatives if isinstance(negatives, list) else ())]
        fit = all(isinstance(each, str) and each.strip() for each in texts)
        if not fit or not isinstance(negatives, list):
            raise InputError(
                f"{where}: `query` and `positive` have to be texts, and `negatives` a list of texts"
            )
        group = row_id(row["positive"])
        document = str(row.get("document_id") or group)
        positive = row["positive"]
        yield Pair(row["query"], positive, document, group, tuple(negatives), positive)
        return
    if not isinstance(row.get("text"), str):
        raise InputError(f"{where}: is neither a pair (query, positive) nor a chunk (text)")
    key = str(row.get("id") or row_id(row["text"]))
    document = str(row.get("document_id") or key)
    meta = row["meta"] if isinstance(row.get("meta"), dict) else {}
    text = row["text"].strip()
    title = str(meta.get("title") or "").strip()
    whole = text if text.startswith(title) else f"{title}\n{text}"
    for kind in queries:
        for query, rest in MAKERS[kind](text, meta, Random(f"{seed} {key}")):
            if len(rest.split()) >= FEWEST_WORDS and len(query.split()) >= 2:
                yield Pair(query, rest, document, key, (), whole)


def _title(text: str, meta: dict[str, Any], random: Random) -> Iterator[tuple[str, str]]:
    title = str(meta.get("title") or "").strip()
    if title:
        yield title, text.removeprefix(title).strip()


def _heading(text: str, meta: dict[str, Any], random: Random) -> Iterator[tuple[str, str]]:
    headings = meta.get("headings")
    last = str(headings[-1]).strip() if headings and isinstance(headings, list) else ""
    if last:
        yield last, text.removeprefix(last).strip()


def _first_sentence(text: str, meta: dict[str, Any], random: Random) -> Iterator[tuple[str, str]]:
    sentences = SENTENCE.split(text)
    if len(sentences) > 1:
        yield sentences[0], " ".join(sentences[1:])


def _inverse_cloze(text: str, meta: dict[str, Any], random: Random) -> Iterator[tuple[str, str]]:
    cut = list(_each_sentence(text))
    if cut:
        yield random.choice(cut)


def _sentences(text: str, meta: dict[str, Any], random: Random) -> Iterator[tuple[str, str]]:
    yield from islice(_each_sentence(text), MOST_SENTENCES)


def _each_sentence(text: str) -> Iterator[tuple[str, str]]:
    """(sentence, all others) of every sentence that says something."""
    sentences = SENTENCE.split(text)
    for i, each in enumerate(sentences):
        if len(sentences) > 1 and len(each.split()) >= FEWEST_WORDS:
            yield each, " ".join(sentences[:i] + sentences[i + 1 :])


MAKERS: dict[str, Callable[[str, dict[str, Any], Random], Iterator[tuple[str, str]]]] = {
    "title": _title,
    "heading": _heading,
    "first_sentence": _first_sentence,
    "inverse_cloze": _inverse_cloze,
    "sentences": _sentences,
}


def with_negatives(
    pairs: Sequence[Pair],
    candidates: Callable[[int], Iterable[int]],
    corpus: Sequence[Pair],
    count: int,
    seed: int,
) -> tuple[list[Pair], int]:
    """(pairs with exactly `count` negatives, how many of these are hard ones).

    Their own come first, then `candidates(i)`: positions in `corpus` for pair i, best first. What
    is missing is drawn at random from other documents, as every row needs as many columns.
    """
    random = Random(seed)
    found, hard = [], 0
    for i, pair in enumerate(pairs):
        taken = list(pair.negatives[:count])
        for position in candidates(i) if len(taken) < count else ():
            other = corpus[position]
            fresh = other.positive not in taken and other.positive != pair.positive
            if fresh and pair.document != other.document and pair.group != other.group:
                taken.append(other.positive)
            if len(taken) == count:
                break
        hard += len(taken)
        others = [
            each
            for each in random.sample(corpus, min(len(corpus), 4 * count + 8))
            if each.document != pair.document and each.positive not in taken
        ]
        taken += [each.positive for each in others[: count - len(taken)]]
        if len(taken) < count:
            raise InputError("too few documents to draw negatives from; set negatives.count: 0")
        found.append(replace(pair, negatives=tuple(taken)))
    return found, hard
