"""What a dataset shows when it is read once."""

from __future__ import annotations

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from llmctl import ui
from llmctl.errors import MissingError, install_hint
from llmctl.exploration import instructions, mentions, richness
from llmctl.exploration.sample import Sample
from llmctl.exploration.topics import Topic, topics
from llmctl.exploration.views import View

if TYPE_CHECKING:
    from llmctl.rag.embedders.base import Embedder

SAMPLE = 50_000
"""Rows that are looked at word by word."""
TOPIC_ROWS = 10_000
LANGUAGE_ROWS = 2_000
RICH_WORDS = 100_000
"""Words that a measure of richness reads, so that datasets of different size compare."""
TOPICS = 12
SHOWN = 20
THRESHOLD = 0.8
"""Jaccard similarity of word 5-grams from which two rows are near-duplicates."""
AT_ONCE = 512
MARK = re.compile(r"<\|[\w.-]{1,32}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>")
"""Special tokens of chat templates: in the text of a row they are leftovers."""


@dataclass(frozen=True)
class Profile:
    """What a dataset holds; counts are of the sampled rows unless `sample` itself has them."""

    sample: Sample
    unit: str
    """`tokens` of a tokenizer, or `words`."""
    roles: dict[str, array[int]]
    """Role -> length of what it says in a row, in `unit`."""
    splits: dict[str, array[int]]
    """Split -> length of its rows, in `unit`."""
    near: int
    """Rows that are near-duplicates of another one."""
    richness: dict[str, dict[str, float | None]]
    """Role -> mtld, distinct_1, distinct_2, distinct_3 of its first RICH_WORDS words."""
    topics: list[Topic]
    topic_rows: list[View]
    """The rows that topics name by number."""
    verbs: Counter[tuple[str, str]]
    """(verb or question word, noun) -> instructions."""
    instructions: int
    languages: Counter[str]
    """ISO 639-1 code -> rows, of LANGUAGE_ROWS at most; empty when it cannot be told here."""
    marks: Counter[str]
    """Leftover of a template -> rows that hold it."""
    groups: Counter[str]
    """Group of people -> rows that mention it."""
    terms: Counter[str]
    shown: list[View]
    """Random rows."""


def profile(
    views: Iterable[View],
    count: int | None = None,
    *,
    tokenizer: str | None = None,
    embedder: Embedder | None = None,
    size: int = SAMPLE,
    seed: int = 42,
) -> Profile:
    """Read every row once; what reads words looks at `size` rows drawn with the seed."""
    sample = Sample(size, seed)
    with ui.progress("read rows", count) as advance:
        for view in views:
            sample.take(view)
            advance()
    rows, random = sample.views, Random(seed)
    unit, roles, splits = lengths(rows, tokenizer)
    places = sorted(random.sample(range(len(rows)), min(TOPIC_ROWS, len(rows))))
    words = Words(places)
    with ui.progress("read words", len(rows)) as advance:
        for view in rows:
            words.take(view)
            advance()
    topic_rows = [rows[i] for i in places]
    texts = [view.whole for view in topic_rows]
    return Profile(
        sample=sample,
        unit=unit,
        roles=roles,
        splits=splits,
        near=near_duplicates(rows, seed),
        richness=words.richness(),
        topics=topics(texts, words.bags, TOPICS, seed, embedder),
        topic_rows=topic_rows,
        verbs=words.verbs,
        instructions=sum(bool(view.instruction) for view in rows),
        languages=languages(rows, random),
        marks=words.marks,
        groups=words.groups,
        terms=words.terms,
        shown=random.sample(rows, min(SHOWN, len(rows))),
    )


class Words:
    """What is read word by word; the words of a whole row are kept for the rows `bagged`."""

    def __init__(self, bagged: Sequence[int]) -> None:
        self.bags: list[Counter[str]] = []
        self.verbs = Counter[tuple[str, str]]()
        self.marks = Counter[str]()
        self.groups = Counter[str]()
        self.terms = Counter[str]()
        self._bagged = set(bagged)
        self._read = 0
        self._said: dict[str, list[str]] = defaultdict(list)

    def take(self, view: View) -> None:
        """Read the next row."""
        bag = Counter[str]()
        for role, text in view.texts.items():
            words = richness.words(text)
            said = self._said[role]
            if len(said) < RICH_WORDS:
                said += words[: RICH_WORDS - len(said)]
            bag.update(words)
        self.marks.update({mark for text in view.texts.values() for mark in MARK.findall(text)})
        mentions.counted(bag, self.groups, self.terms)
        if self._read in self._bagged:
            self.bags.append(bag)
        self._read += 1
        found = instructions.asked(view.instruction) if view.instruction else None
        if found is not None:
            self.verbs[found] += 1

    def richness(self) -> dict[str, dict[str, float | None]]:
        """Role -> measures of its first words; None where there are too few."""
        return {
            role: {
                "words": float(len(words)),
                "mtld": richness.mtld(words),
                **{f"distinct_{n}": richness.distinct(words, n) for n in (1, 2, 3)},
            }
            for role, words in self._said.items()
        }


def lengths(
    rows: Sequence[View], tokenizer: str | None
) -> tuple[str, dict[str, array[int]], dict[str, array[int]]]:
    """(unit, role -> lengths, split -> lengths) of the rows."""
    roles: dict[str, array[int]] = defaultdict(lambda: array("q"))
    splits: dict[str, array[int]] = defaultdict(lambda: array("q"))
    with ui.progress("count lengths", len(rows)) as advance:
        for first in range(0, len(rows), AT_ONCE):
            part = rows[first : first + AT_ONCE]
            each = iter(counts([t for view in part for t in view.texts.values()], tokenizer))
            for view in part:
                whole = 0
                for role, length in zip(view.texts, each, strict=False):
                    roles[role].append(length)
                    whole += length
                splits[view.split].append(whole)
            advance(len(part))
    return ("tokens" if tokenizer else "words"), dict(roles), dict(splits)


def counts(texts: list[str], tokenizer: str | None) -> list[int]:
    """Tokens, or words at spaces, of each text."""
    if tokenizer is None:
        return [len(text.split()) for text in texts]
    from llmctl.rag.tokens import tokenizer_of

    try:
        found = tokenizer_of(tokenizer)
    except ModuleNotFoundError:
        raise MissingError(f"counting tokens needs tokenizers: {install_hint('rag')}") from None
    made = found.encode_batch_fast(texts, add_special_tokens=False)
    return [len(each) for each in made]


def near_duplicates(rows: Sequence[View], seed: int) -> int:
    """How many rows repeat a kept one at THRESHOLD or above, by verified MinHash."""
    import numpy as np

    from llmctl.data import kernels
    from llmctl.data.dedupers.base import Deduper, Rows

    method = Deduper.of({"kind": "minhash", "threshold": THRESHOLD})
    texts = [view.whole for view in rows]
    found = method.find(
        Rows(texts, 0, kernels.kernel("auto"), seed=seed), np.ones(len(texts), bool)
    )
    return int((found.twin >= 0).sum())


def languages(rows: Sequence[View], random: Random) -> Counter[str]:
    """Language of some rows, as the cleaner `language` tells it; empty without its model."""
    from importlib.util import find_spec

    if find_spec("py3langid") is None:
        return Counter()
    from llmctl.rag.cleaners.base import Cleaner

    tell = Cleaner.of("language").clean
    found = Counter[str]()
    for view in random.sample(list(rows), min(LANGUAGE_ROWS, len(rows))):
        found.update([next(iter(tell(view.whole).counts), "unknown")])
    return found


def figures(found: Profile) -> dict[str, Any]:
    """The profile as one JSON document; no text of a row is in it."""
    sample = found.sample
    return {
        "rows": dict(sample.rows),
        "sampled": len(sample.views),
        "equal_rows": sample.equal_rows,
        "equal_instructions": sample.equal_instructions,
        "held_out_in_train": dict(sample.leaked),
        "near_duplicates": found.near,
        "unit": found.unit,
        "lengths": {role: spread(values) for role, values in found.roles.items()},
        "lengths_by_split": {name: spread(values) for name, values in found.splits.items()},
        "richness": found.richness,
        "topics": [{"rows": t.size, "keywords": t.keywords} for t in found.topics],
        "instructions": found.instructions,
        "asked": [[*pair, count] for pair, count in found.verbs.most_common(100)],
        "languages": dict(found.languages),
        "sources": dict(sample.sources.most_common(100)),
        "template_marks": dict(found.marks),
        "groups": dict(found.groups),
        "terms": dict(found.terms),
        "judged": spread(sample.scores) if sample.scores else None,
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Count, sum, least, quantiles and greatest of some numbers."""
    order = sorted(values)
    last = len(order) - 1
    quantiles = {f"p{q}": float(order[round(last * q / 100)]) for q in (5, 25, 50, 75, 95, 99)}
    return {
        "n": len(order),
        "total": float(sum(order)),
        "min": float(order[0]),
        **quantiles,
        "max": float(order[-1]),
    }
