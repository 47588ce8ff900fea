"""Hard negatives: texts that a search finds for a query and that are not its answer."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmctl.schema.keywords import Keywords
from llmctl.training import measure, pairs
from llmctl.training.pairs import Pair

if TYPE_CHECKING:
    from llmctl.rag.embedders.base import Live
    from llmctl.tuning._pairs import Negatives

Encode = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Encoder:
    """Vectors of length 1, shape (texts, dimensions), of queries and of the texts they look for."""

    queries: Encode
    texts: Encode

    @classmethod
    def of(cls, live: Live) -> Encoder:
        """What a recipe's embedder gives."""
        return cls(lambda texts: np.stack([live.query(each) for each in texts]), live.texts)


def mined(
    encoder: Encoder, train: Sequence[Pair], wanted: Negatives, seed: int, scratch: Path
) -> tuple[list[Pair], int]:
    """The pairs with their negatives, and how many of these are hard; kept for a resumed run."""
    kept = scratch / "negatives.json"
    before = measure.remembered(kept)
    if before is not None:
        hard, lists = before
        return [replace(p, negatives=tuple(n)) for p, n in zip(train, lists, strict=True)], hard
    corpus = pairs.one_each(train)
    if not wanted.count:
        return [replace(each, negatives=()) for each in train], 0
    distinct = list(dict.fromkeys(each.positive for each in train))
    at = {text: i for i, text in enumerate(distinct)}
    encoded = encoder.texts(distinct)
    texts = encoded[[at[each.positive] for each in corpus]]
    asked = encoder.queries([each.query for each in train])
    own = encoded[[at[each.positive] for each in train]]
    keyword = None
    if "bm25" in wanted.mined_by:
        # no stemmer, so that no further package is needed
        plain = Keywords.model_validate({"stemmer": "none"})
        keyword = keyword_index([p.positive for p in corpus], scratch / "keywords", plain)

    def candidates(i: int) -> Iterator[int]:
        cosines = texts @ asked[i]
        limit = float(asked[i] @ own[i]) - wanted.margin
        lists: list[Sequence[int]] = []
        for kind in wanted.mined_by:
            if kind == "dense":
                lists.append(np.argsort(-cosines, kind="stable")[: wanted.depth].tolist())
            elif keyword is not None:
                near = keyword.top(train[i].query, wanted.depth)
                lists.append([int(each.id) for each in near])
        for position in chain.from_iterable(zip_longest(*lists)):
            if position is not None and cosines[position] <= limit:
                yield position

    found, hard = pairs.with_negatives(train, candidates, corpus, wanted.count, seed)
    scratch.mkdir(parents=True, exist_ok=True)
    measure.remember(kept, [hard, [each.negatives for each in found]])
    return found, hard


def keyword_index(texts: Sequence[str], folder: Path, settings: Keywords) -> Any:
    """BM25 of texts, which are named by their number."""
    from llmctl.rag import keywords

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    keywords.build(folder, ((str(i), text) for i, text in enumerate(texts)), settings)
    return keywords.open(folder)
