"""Pairs -> a tuned embedding model, with nDCG@10 and MRR of held-out queries before and after."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from llmctl import modelref, ui
from llmctl.artifact import Artifact
from llmctl.schema.sft import SftRecipe
from llmctl.training import callbacks, config, pairs, report
from llmctl.training.pairs import Pair
from llmctl.tuning.embedding import EmbeddingTask, Negatives

Ranks = list[float]
"""The rank of each query's text, 1 is the best."""


def tune(recipe: SftRecipe, task: EmbeddingTask, artifact: Artifact) -> None:
    """Train all weights with MultipleNegativesRanking; write `model/` and the report."""
    source = modelref.hf_folder(recipe.model)
    model = load(source, recipe.max_length)
    train, held, texts = pairs.split(recipe.data, task.queries, recipe.seed, artifact)
    before = _remembered(artifact.scratch / "before.json", model, held, texts)
    train, hard = mined(model, train, task.negatives, recipe.seed, artifact.scratch)
    artifact.metrics |= {
        "train_pairs": len(train),
        "hard_negatives": hard,
        "held_out_queries": len(held),
        "texts_searched": len(texts),
    }
    artifact.summary.append(
        ("pairs", f"{len(train)} to learn from, {hard} hard negatives, {len(held)} held out")
    )
    trainer = build_trainer(recipe, task, artifact.scratch / "checkpoints", model, train)
    steps = callbacks.train(
        trainer, artifact.scratch / "checkpoints", artifact.path("metrics.jsonl")
    )
    folder = artifact.path("model/config.json").parent
    model.save_pretrained(str(folder))
    about = {**modelref.identity(folder), "base": recipe.model, "form": "full", "path": "model"}
    artifact.model = about
    after = ranks(model, held, texts)
    artifact.metrics["steps"] = trainer.state.global_step
    artifact.metrics["train_loss"] = steps[-1]["loss"]
    report.compare_ranks(artifact, before, after, recipe.seed)
    report.write(f"sft: {recipe.model}, to embed", artifact, steps, [], _shown(train))


def load(folder: Path, max_length: int) -> Any:
    """The model with its own limit or the recipe's, whichever is shorter."""
    import torch
    from sentence_transformers import SentenceTransformer

    with modelref.silenced():
        model: Any = SentenceTransformer(
            str(folder),
            local_files_only=True,
            device="cuda" if config.on_gpu() else "cpu",
            model_kwargs={"dtype": torch.float32},
        )
    model.max_seq_length = min(model.max_seq_length or max_length, max_length)
    return model


def build_trainer(
    recipe: SftRecipe, task: EmbeddingTask, folder: Path, model: Any, train: Sequence[Pair]
) -> Any:
    """sentence-transformers' trainer; a batch never has one text twice."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer

    rows = [
        {"anchor": each.query, "positive": each.positive}
        | {f"negative_{n}": text for n, text in enumerate(each.negatives, 1)}
        for each in train
    ]
    return SentenceTransformerTrainer(
        model=model,
        args=config.embedding_config(recipe, folder, model.prompts),
        train_dataset=Dataset.from_list(rows),
        loss=loss_of(model, recipe, task),
    )


def loss_of(model: Any, recipe: SftRecipe, task: EmbeddingTask) -> Any:
    """MultipleNegativesRanking (Henderson et al. 2017); large batches with cached gradients."""
    from sentence_transformers.sentence_transformer import losses

    if recipe.batch_size > task.mini_batch:
        return losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=task.mini_batch)
    return losses.MultipleNegativesRankingLoss(model)


def vectors(model: Any, texts: Sequence[str], *, queries: bool = False) -> np.ndarray:
    """Vectors of length 1, shape (texts, dimensions), with the model's own prompts."""
    encode = model.encode_query if queries else model.encode_document
    found: np.ndarray = encode(
        list(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
    )
    return found


def ranks(model: Any, held: Sequence[Pair], texts: Sequence[str]) -> Ranks:
    """Where each query's text comes among `texts` by cosine; ties count against it."""
    if not held:
        return []
    ui.note(f"measuring {len(held)} held-out queries among {len(texts)} texts")
    found = vectors(model, [each.query for each in held], queries=True)
    scores = found @ vectors(model, texts).T
    at = {text: i for i, text in enumerate(texts)}
    own = [scores[i, at[each.positive]] for i, each in enumerate(held)]
    return [float((row >= mine).sum()) for row, mine in zip(scores, own, strict=True)]


def _remembered(path: Path, model: Any, held: Sequence[Pair], texts: Sequence[str]) -> Ranks:
    """The ranks before training; a resumed run reads what the first one measured."""
    if path.is_file():
        return [float(each) for each in json.loads(path.read_text(encoding="utf-8"))]
    found = ranks(model, held, texts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found), encoding="utf-8")
    return found


def mined(
    model: Any, train: Sequence[Pair], wanted: Negatives, seed: int, scratch: Path
) -> tuple[list[Pair], int]:
    """The pairs with their negatives, and how many of these are hard; kept for a resumed run."""
    kept = scratch / "negatives.json"
    if kept.is_file():
        hard, lists = json.loads(kept.read_text(encoding="utf-8"))
        return [
            Pair(p.query, p.positive, p.document, p.group, tuple(n))
            for p, n in zip(train, lists, strict=True)
        ], hard
    corpus = pairs.one_each(train)
    if not wanted.count:
        return [Pair(p.query, p.positive, p.document, p.group) for p in train], 0
    distinct = list(dict.fromkeys(each.positive for each in train))
    at = {text: i for i, text in enumerate(distinct)}
    encoded = vectors(model, distinct)
    texts = encoded[[at[each.positive] for each in corpus]]
    asked = vectors(model, [each.query for each in train], queries=True)
    own = encoded[[at[each.positive] for each in train]]
    keyword = _bm25(corpus, scratch / "keywords") if "bm25" in wanted.mined_by else None

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
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps([hard, [each.negatives for each in found]]), encoding="utf-8")
    return found, hard


def _bm25(corpus: Sequence[Pair], folder: Path) -> Any:
    """A keyword index of the corpus; no stemmer, so that no further package is needed."""
    import shutil

    from llmctl.rag import keywords
    from llmctl.schema.keywords import Keywords

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = Keywords.model_validate({"stemmer": "none"})
    keywords.build(folder, ((str(i), p.positive) for i, p in enumerate(corpus)), settings)
    return keywords.open(folder)


def _shown(train: Sequence[Pair]) -> list[tuple[str, str]]:
    """The first pairs for the report."""
    return [
        (each.query, "\n\n".join([each.positive, *(f"NOT: {n}" for n in each.negatives)]))
        for each in train[:3]
    ]
