"""How well a store finds what people judged relevant: nDCG, recall, MRR, MAP; no model is asked.

The judgements are in BEIR's form: a folder with `queries.jsonl` (`_id`, `text`) and `qrels.tsv` or
`qrels/test.tsv` (query, document, grade; a header line is skipped). They name documents; the store
has chunks, and a document stands where its best chunk stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llmctl import rows as files
from llmctl.errors import InputError
from llmctl.evaluation import relevance, statistics
from llmctl.evaluation.tasks.base import Item, Scored, Task, draw
from llmctl.schema.base import Part
from llmctl.schema.retrieve import Retrieve

if TYPE_CHECKING:
    import numpy as np

    from llmctl.rag.retrieve import Retriever
    from llmctl.report.html import Report


class Sweep(Part):
    """Further ways of searching, each measured on the same queries."""

    modes: tuple[Literal["dense", "bm25", "rrf"], ...] = Field(
        ("bm25", "dense", "rrf"), description="By words, by vectors, by reciprocal ranks of both."
    )
    alphas: tuple[float, ...] = Field(
        (0.3, 0.5, 0.7), description="hybrid with these shares of the vectors."
    )

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if not all(0 <= alpha <= 1 for alpha in self.alphas):
            raise ValueError("`alphas` lie between 0 and 1")
        return self

    def settings(self) -> dict[str, dict[str, Any]]:
        """Name -> keys of `retrieve`."""
        keys: dict[str, dict[str, Any]] = {
            "bm25": {"mode": "bm25"},
            "dense": {"mode": "dense"},
            "rrf": {"mode": "hybrid", "fusion": "rrf", "alpha": 0.5},
        }
        found: dict[str, dict[str, Any]] = {mode: keys[mode] for mode in self.modes}
        for alpha in self.alphas:
            found[hybrid(alpha)] = {"mode": "hybrid", "fusion": "relative", "alpha": alpha}
        return found


def hybrid(alpha: float) -> str:
    """The name of a share of the vectors; a dot would end the task's name in TASK.METRIC."""
    return f"hybrid {100 * alpha:g} %"


class RetrievalTask(Task):
    """Means over the judged queries, with intervals from resampling them."""

    needs_model: ClassVar[bool] = False

    store: Path = Field(description="Artifact folder of ingest.")
    data: Path = Field(description="Folder with queries.jsonl and qrels.tsv, as BEIR has them.")
    document: str = Field(
        "external_id",
        min_length=1,
        description="What the judgements call a document: a metadata field, uri, or name (the "
        "file's name without its ending).",
    )
    at: tuple[int, ...] = Field(
        (10,), min_length=1, description="Ranks at which is measured, such as 10 in nDCG@10."
    )
    retrieve: Retrieve = Field(
        default_factory=lambda: Retrieve.model_validate({}),
        description="How is searched; k, expansion and compression play no part.",
    )
    sweep: Sweep | None = Field(None, description="Other ways to search, for comparison.")

    @model_validator(mode="after")
    def _ranks(self) -> Self:
        if min(self.at) < 1 or max(self.at) > self.retrieve.candidates:
            raise ValueError(
                f"`at` lies between 1 and the {self.retrieve.candidates} candidates of `retrieve`"
            )
        if self.retrieve.inputs():
            raise ValueError("the judgements are of one store: take `stores` out of the route")
        return self

    def bounds(self, metric: str) -> tuple[float, float]:
        """All numbers of ranked lists are shares of what is best."""
        return 0.0, 1.0

    def inputs(self) -> dict[str, Path | str]:
        """The store and the judgements."""
        return {"store": self.store, "data": self.data}

    def items(self, work: Path, limit: int | None, seed: int) -> list[Item]:
        """The judged queries."""
        judged = judgements(self.data)
        file = _first(self.data, "queries.jsonl", "queries.jsonl.gz")
        found = []
        for number, row in enumerate(files.read(file), 1):
            key, text = str(row.get("_id", row.get("id", ""))), row.get("text")
            if not key or not isinstance(text, str) or not text.strip():
                raise InputError(f"{file}:{number}: a query has `_id` and `text`")
            if any(grade > 0 for grade in judged.get(key, {}).values()):
                data = {"question": text, "judged": judged[key]}
                found.append(Item(key, f"{file}:{number}", data))
        if not found:
            raise InputError(f"{file}: no query has a relevant document in the judgements")
        return draw(found, limit, seed)

    def score(self, session: Any, items: Sequence[Item], work: Path) -> Iterator[Scored]:
        """Every number of each query; the ids that were found are kept beside them."""
        from llmctl.rag.retrieve import opened

        with opened(self.store) as retriever:
            yield from self.measured(retriever, items)

    def measured(self, retriever: Retriever, items: Sequence[Item]) -> Iterator[Scored]:
        """As `score`, with the store open."""
        names = {key: self.name_of(chunk) for key, chunk in retriever.chunks.items()}
        self._check(set(names.values()), items)
        remembered: Any = _Remembered(retriever.embedder)
        retriever.embedder = remembered
        ways = {"": self._part({})}
        if self.sweep is not None:
            ways |= {f" {n}": self._part(keys) for n, keys in self.sweep.settings().items()}
        for item in items:
            values: dict[str, float] = {}
            shown: dict[str, Any] = {}
            for name, part in ways.items():
                hits = retriever.search(item.data["question"], part).hits
                ranked = list(dict.fromkeys(names[hit["id"]] for hit in hits))
                if not name:
                    shown["found"] = ranked[: max(self.at)]
                values |= {f"{key}{name}": v for key, v in self.numbers(ranked, item).items()}
            yield Scored(values, shown=shown)

    def numbers(self, ranked: Sequence[str], item: Item) -> dict[str, float]:
        """The metrics of one ranked list of documents."""
        judged = item.data["judged"]
        found: dict[str, float] = {}
        for k in self.at:
            found |= {
                f"ndcg@{k}": relevance.ndcg(ranked, judged, k),
                f"recall@{k}": relevance.recall(ranked, judged, k),
                f"mrr@{k}": relevance.reciprocal_rank(ranked, judged, k),
                f"map@{k}": relevance.average_precision(ranked, judged, k),
            }
        return found

    def name_of(self, chunk: dict[str, Any]) -> str:
        """What the judgements call the chunk's document."""
        uri = str(chunk["source"]["uri"])
        if self.document == "uri":
            return uri
        if self.document == "name":
            return PurePosixPath(uri).stem
        return str(chunk["meta"].get(self.document, ""))

    def _part(self, keys: dict[str, Any]) -> Retrieve:
        plain = {"k": self.retrieve.candidates, "parents": False, "neighbours": 0}
        return self.retrieve.model_copy(update={**plain, "compressor": None, **keys})

    def _check(self, names: set[str], items: Sequence[Item]) -> None:
        wanted = {key for item in items for key, grade in item.data["judged"].items() if grade > 0}
        if not wanted & names:
            here = next(iter(sorted(names - {""})), "none")
            raise InputError(
                f"{self.store}: none of the {len(wanted)} judged documents is in it: they are "
                f"named like '{min(wanted)}', by `document: {self.document}` it has '{here}'"
            )

    def report(self, report: Report, scored: Sequence[Scored], confidence: float) -> None:
        """Every metric with its bootstrap interval, and the sweep as a curve."""
        measured = [each for each in scored if not each.unmeasured]
        if not measured:
            return
        report.heading(f"{self.title}: ranked lists")
        table = []
        for name in measured[0].values:
            values = [each.values[name] for each in measured]
            low, high = statistics.bootstrap(values, confidence)
            table.append((name, sum(values) / len(values), low, high))
        report.text(
            f"Intervals of {confidence:.0%} from 2,000 resamplings of the {len(measured)} queries."
        )
        report.table(["metric", "mean", "from", "to"], table)
        if self.sweep is None:
            return
        first = f"ndcg@{self.at[0]}"
        means = {name: mean for name, mean, _, _ in table}
        alphas = sorted(self.sweep.alphas)
        if alphas:
            curve = [(a, means[f"{first} {hybrid(a)}"]) for a in alphas]
            lines = {"hybrid": curve}
            for mode in self.sweep.modes:
                mean = means[f"{first} {mode}"]
                lines[mode] = [(alphas[0], mean), (alphas[-1], mean)]
            report.lines(f"{first} by alpha", lines, "alpha", first)


class _Remembered:
    """Embeds a question once, however many ways it is searched."""

    def __init__(self, live: Any) -> None:
        self._live = live
        self._known: dict[str, np.ndarray] = {}

    def query(self, text: str) -> np.ndarray:
        if text not in self._known:
            self._known = {text: self._live.query(text)}
        return self._known[text]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._live, name)


def judgements(folder: Path) -> dict[str, dict[str, int]]:
    """query -> document -> grade."""
    file = _first(folder, "qrels.tsv", "qrels/test.tsv")
    found: dict[str, dict[str, int]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.split("\t")
        if number == 1 and len(parts) == 3 and not parts[2].strip().lstrip("-").isdigit():
            continue  # the header
        if not line.strip():
            continue
        try:
            query, document, grade = parts
            found.setdefault(query, {})[document] = int(grade)
        except ValueError:
            raise InputError(
                f"{file}:{number}: a judgement is query, document and a whole number, with tabs "
                f"between; found {line[:60]!r}"
            ) from None
    return found


def _first(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder}: has no {' or '.join(names)}")
