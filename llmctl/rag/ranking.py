"""One question to one store: the steps of a `Retrieve` part, in their order.

transforms -> filter -> the searches of every query -> fusion -> smoothing -> reranker ->
filter_after -> min_score -> diversity -> k
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl import ui
from llmctl.rag import fusion
from llmctl.rag.trace import Trace
from llmctl.rag.transforms.base import Asked, Query

if TYPE_CHECKING:
    import numpy as np

    from llmctl.engines.base import Session
    from llmctl.rag.keywords import Index
    from llmctl.rag.retrieve import Retriever
    from llmctl.schema.retrieve import Retrieve


@dataclass
class Ranked:
    """Candidates, best first; `parts` are the numbers that made each score."""

    ids: list[str]
    scores: np.ndarray
    vectors: np.ndarray | None
    parts: list[dict[str, float]] = field(default_factory=list)

    def only(self, rows: Collection[int]) -> Ranked:
        """These rows, in this order."""
        chosen = list(rows)
        return Ranked(
            [self.ids[row] for row in chosen],
            self.scores[chosen],
            None if self.vectors is None else self.vectors[chosen],
            [self.parts[row] for row in chosen],
        )

    def sorted(self, scores: np.ndarray) -> Ranked:
        """By new scores, equal ones by id."""
        order = sorted(range(len(self.ids)), key=lambda row: (-float(scores[row]), self.ids[row]))
        found = self.only(order)
        found.scores = scores[order]
        return found


class Ranking:
    """The state of one question; also what transforms may use (`Tools`)."""

    def __init__(self, retriever: Retriever, part: Retrieve, session: Session | None) -> None:
        self.retriever, self.part, self.session = retriever, part, session
        self.embedder = retriever.embedder
        self.trace = Trace()
        self._vectors: dict[str, np.ndarray] = {}
        self._many = False

    def run(self, question: str) -> tuple[Asked, Ranked]:
        """The question as it was searched, and the k chunks that were found."""
        asked = self.transformed(question)
        if not asked.search:
            return asked, empty()
        ranked = self.searched(asked)
        if self.part.reranker is not None and ranked.ids:
            ranked = self.reranked(question, ranked)
        ranked = self.filtered(ranked)
        return asked, self.chosen(ranked)

    def transformed(self, question: str) -> Asked:
        """The transforms one after the other; one that fails is left out."""
        asked = Asked.of(question, self.part.filter)
        for transform in self.part.transforms:
            with self.trace.step(transform.kind) as facts:
                try:
                    changed = transform.apply(asked, self)
                except Exception as error:
                    # a model may be away, slow or talk nonsense; the plain question still works
                    if not transform.asks():
                        raise
                    facts["failed"] = f"{type(error).__name__}: {error}"
                    ui.warn(f"{transform.kind} is left out: {error}")
                    continue
                facts |= _difference(asked, changed)
                if changed.store is not None and changed.store != asked.store:
                    self._turn_to(changed.store)
                asked = changed
        return asked

    def _turn_to(self, store: Path) -> None:
        """Everything from here on asks another store, with the embedder of that store."""
        self.retriever = self.retriever.other(store)
        self.embedder = self.retriever.embedder
        self._vectors.clear()

    def searched(self, asked: Asked) -> Ranked:
        """Every query searched, fused and smoothed."""
        allowed = None
        if asked.filter is not None:
            with self.trace.step("filter") as facts:
                allowed = self.retriever.matching(asked.filter)
                facts |= {"filter": asked.filter, "chunks": len(allowed)}
        if self.part.mode != "bm25":
            for query in asked.queries:
                self._vector(query)  # before the search, so that the trace shows the two apart
        with self.trace.step(self.part.mode) as facts:
            self._many = len(asked.queries) > 1
            found = [self._search(query, allowed) for query in asked.queries]
            ranked = self._fused(asked, found)
            facts |= {"queries": len(found), "candidates": len(ranked.ids)}
        if any(query.vector is not None for query in asked.queries) and ranked.vectors is not None:
            # `min_score` and people mean the question as it was asked, not as a transform moved it
            plain = ranked.vectors @ self._vector(Query(asked.question))
            for parts, cosine in zip(ranked.parts, plain, strict=True):
                parts["cosine"] = round(float(cosine), 4)
        # among few candidates the nearest are not near: a tenth of them may count as neighbours,
        # and what fewer neighbours say weighs less
        wanted = self.part.smoothing_neighbours
        nearest = min(wanted, len(ranked.ids) // 10)
        if self.part.smoothing and nearest and ranked.vectors is not None:
            with self.trace.step("smoothing") as facts:
                share = self.part.smoothing * nearest / wanted
                smooth = fusion.smoothed(ranked.scores, ranked.vectors, share, nearest)
                for parts, score in zip(ranked.parts, smooth, strict=True):
                    parts["smoothed"] = round(float(score), 4)
                before, ranked = ranked.ids[:10], ranked.sorted(smooth)
                facts["new in the first ten"] = len(set(ranked.ids[:10]) - set(before))
        return ranked

    def _search(self, query: Query, allowed: Collection[str] | None) -> Ranked:
        """Both searches of one query; each candidate gets the exact numbers of both."""
        import numpy as np

        part, count = self.part, self.part.candidates
        dense = words = None
        ids: dict[str, None] = {}
        if part.mode != "bm25":
            vector = self._vector(query)
            near = self.retriever.store.near(vector, count, allowed)
            ids |= dict.fromkeys(each.id for each in near)
        if part.mode != "dense":
            scores = self.index().scores(query.terms or query.text)
            best = self.index().best(scores, count, allowed)
            ids |= dict.fromkeys(each.id for each in best)
        keys = list(ids)
        vectors = None
        if keys and (part.mode == "hybrid" or part.smoothing or part.diversity):
            vectors = self.retriever.vectors(keys)
        found: list[Any] = []
        if part.mode != "bm25":
            cosine = {each.id: each.score for each in near}
            dense = (
                np.asarray([cosine[key] for key in keys], dtype=np.float32)
                if vectors is None
                else np.asarray(vectors @ vector, dtype=np.float32)
            )
            floor = min((each.score for each in near), default=0.0)
            found.append(self._share(dense, [key in cosine for key in keys], floor))
        if part.mode != "dense":
            bm25 = {each.id: each.score for each in best}
            rows = [self.index().row(key) for key in keys]
            words = np.asarray([0 if row is None else scores[row] for row in rows], np.float32)
            floor = best[-1].score if len(best) == count else 0.0
            found.append(self._share(words, [key in bm25 for key in keys], floor))
        weights = (part.alpha, 1 - part.alpha) if len(found) == 2 else (1.0,)
        score = sum(weight * each for weight, each in zip(weights, found, strict=True))
        parts: list[dict[str, float]] = [{} for _ in keys]
        for name, values in (("cosine", dense), ("bm25", words), ("fused", score)):
            for each, value in zip(parts, () if values is None else values, strict=False):
                each[name] = round(float(value), 4)
        return Ranked(keys, score, vectors, parts)

    def _share(self, scores: np.ndarray, found: list[bool], floor: float) -> np.ndarray:
        import numpy as np

        if self.part.mode != "hybrid" and not self._many:
            return scores  # one search of one query: its own scores say more than relative ones
        if self.part.fusion == "rrf":
            return fusion.reciprocal(scores, np.asarray(found, bool), self.part.rrf_constant)
        return fusion.relative(scores, floor)

    def _fused(self, asked: Asked, found: list[Ranked]) -> Ranked:
        """The weighted mean over the queries; a candidate that a query did not find gets 0."""
        import numpy as np

        if len(found) > 1:
            total = sum(query.weight for query in asked.queries)
            place: dict[str, int] = {}
            for each in found:
                for key in each.ids:
                    place.setdefault(key, len(place))
            scores = np.zeros(len(place), dtype=np.float32)
            parts: list[dict[str, float]] = [{} for _ in place]
            vectors: list[Any] = [None] * len(place)
            for query, each in zip(asked.queries, found, strict=True):
                for row, key in enumerate(each.ids):
                    scores[place[key]] += query.weight / total * each.scores[row]
                    parts[place[key]] = each.parts[row] | parts[place[key]]  # the first's stay
                    if each.vectors is not None:
                        vectors[place[key]] = each.vectors[row]
            for each_parts, score in zip(parts, scores, strict=True):
                each_parts["fused"] = round(float(score), 4)
            whole = np.stack(vectors) if vectors and vectors[0] is not None else None
            one = Ranked(list(place), scores, whole, parts)
        else:
            [one] = found
        ranked = one.sorted(one.scores)
        return ranked.only(range(min(len(ranked.ids), self.part.candidates)))

    def reranked(self, question: str, ranked: Ranked) -> Ranked:
        """The best candidates in the order of search and reranker together."""
        reranker = self.part.reranker
        assert reranker is not None
        with self.trace.step(reranker.kind) as facts:
            head = ranked.only(range(min(reranker.candidates, len(ranked.ids))))
            texts = [self.retriever.chunks[key]["text"] for key in head.ids]
            read = self.retriever.reading(reranker).scores(question, texts)
            share = fusion.relative(read, float(read.min()))
            own = fusion.relative(head.scores, float(head.scores.min()))
            score = (1 - reranker.weight) * own + reranker.weight * share
            for parts, number, mixed in zip(head.parts, read, score, strict=True):
                parts |= {
                    "reranker": round(float(number), 4), "reranked": round(float(mixed), 4)
                }  # fmt: skip
            facts["read"] = len(texts)
            return head.sorted(score)

    def filtered(self, ranked: Ranked) -> Ranked:
        """Without what `filter_after` and `min_score` refuse."""
        part = self.part
        if part.filter_after is not None:
            with self.trace.step("filter_after") as facts:
                fits = self.retriever.fitting(part.filter_after, ranked.ids)
                ranked = ranked.only([row for row, key in enumerate(ranked.ids) if key in fits])
                facts |= {"filter": part.filter_after, "left": len(ranked.ids)}
        if part.min_score is not None:
            with self.trace.step("min_score") as facts:
                name = "bm25" if part.mode == "bm25" else "cosine"
                ranked = ranked.only(
                    [row for row, parts in enumerate(ranked.parts) if parts[name] >= part.min_score]
                )
                facts["left"] = len(ranked.ids)
        return ranked

    def chosen(self, ranked: Ranked) -> Ranked:
        """The first k, or k that differ from each other."""
        if self.part.diversity and ranked.vectors is not None:
            with self.trace.step("diversity"):
                rows = fusion.diverse(
                    ranked.scores, ranked.vectors, self.part.k, self.part.diversity
                )
                return ranked.only(rows)
        return ranked.only(range(min(self.part.k, len(ranked.ids))))

    def _vector(self, query: Query) -> np.ndarray:
        if query.vector is not None:
            return query.vector
        if query.text not in self._vectors:
            with self.trace.step("embed"):
                self._vectors[query.text] = self.embedder.query(query.text)
        return self._vectors[query.text]

    # what transforms use besides `embedder` and `session`

    def index(self) -> Index:
        """The keyword index."""
        return self.retriever.index

    def first(self, asked: Asked) -> tuple[list[str], np.ndarray, np.ndarray]:
        """(ids, scores, vectors) of a first search, best first."""
        ranked = self.searched(asked)
        vectors = ranked.vectors
        if vectors is None:
            vectors = self.retriever.vectors(ranked.ids)
        return ranked.ids, ranked.scores, vectors

    def fields(self) -> dict[str, Any]:
        """What metadata.json says of the store's fields."""
        return self.retriever.fields

    def check_filter(self, text: str) -> None:
        """Raises InputError when a filter does not fit the store's metadata."""
        self.retriever.filter_of(text)

    def some_match(self, text: str) -> bool:
        """Whether any chunk passes a filter."""
        return bool(self.retriever.matching(text))


def empty() -> Ranked:
    """Nothing was found."""
    import numpy as np

    return Ranked([], np.zeros(0, np.float32), None)


def _difference(old: Asked, new: Asked) -> dict[str, Any]:
    """What a transform changed, in words."""
    facts: dict[str, Any] = {}
    if [q.text for q in new.queries] != [q.text for q in old.queries]:
        facts["queries"] = [query.text for query in new.queries]
    before, now = (
        {term for query in each.queries for term in query.terms or ()} for each in (old, new)
    )
    if now - before:
        facts["terms"] = sorted(now - before)
    if any(q.vector is not None for q in new.queries):
        facts["vector"] = "moved"
    if new.filter != old.filter:
        facts["filter"] = new.filter
    if new.search != old.search:
        facts["search"] = new.search
    if new.store != old.store:
        facts["store"] = str(new.store)
    return facts
