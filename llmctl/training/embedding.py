"""Pairs -> a tuned embedding model, with nDCG@10 and MRR of held-out queries before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from llmctl import modelref, ui
from llmctl.artifact import Artifact
from llmctl.schema.sft import SftRecipe
from llmctl.training import config, distillation, encoder, pairs, report
from llmctl.training.mining import Encoder, mined
from llmctl.training.pairs import Pair
from llmctl.tuning.embedding import EmbeddingTask

Ranks = list[float]
"""The rank of each query's text, 1 is the best."""


def tune(recipe: SftRecipe, task: EmbeddingTask, artifact: Artifact) -> None:
    """Train all weights on pairs, or a layer on a search; write `model/` and the report."""
    model = load(modelref.hf_folder(recipe.model))
    rows = pairs.split(recipe.data, task.queries, recipe.seed, artifact)
    _, held, texts = rows
    before = encoder.measured(artifact.scratch / "before.json", lambda: ranks(model, held, texts))
    learn = taught if task.teacher is not None else paired
    model, train, steps = learn(recipe, task, artifact, model, rows)
    encoder.saved(recipe, artifact, model)
    report.compare_ranks(artifact, before, ranks(model, held, texts), recipe.seed)
    encoder.written(recipe, "sentence-similarity", artifact, steps, train)


Rows = tuple[list[Pair], list[Pair], list[str]]
"""Pairs to learn from, pairs to measure with, texts to search among."""
Learnt = tuple[Any, list[Pair], list[dict[str, Any]]]
"""The model, the pairs as they were learnt, the steps' log."""


def paired(
    recipe: SftRecipe, task: EmbeddingTask, artifact: Artifact, model: Any, rows: Rows
) -> Learnt:
    """All weights, with MultipleNegativesRanking."""
    train, held, texts = rows
    train, hard = mined(encoder_of(model), train, task.negatives, recipe.seed, artifact.scratch)
    encoder.told(artifact, train, hard, len(held), len(texts))
    trainer = build_trainer(recipe, task, artifact.scratch / "checkpoints", model, train)
    with encoder.shortened(model, recipe.max_length), interpolated(model, task.interpolate):
        steps = encoder.trained(
            recipe, artifact, trainer, held, lambda: encoder.gain(ranks(model, held, texts))
        )
    return model, train, steps


def taught(
    recipe: SftRecipe, task: EmbeddingTask, artifact: Artifact, model: Any, rows: Rows
) -> Learnt:
    """A linear layer after the model, with the order of a hybrid search."""
    train, held, texts = rows
    assert task.teacher is not None
    found = distillation.lesson(encoder_of(model), train, task.teacher, artifact.scratch)
    encoder.told(artifact, train, 0, len(held), len(texts))
    head = distillation.Head(found, task.teacher.temperature)
    trainer = distillation.build_trainer(recipe, artifact.scratch / "checkpoints", head, found)

    def whole() -> Any:
        return distillation.with_head(model, head.linear.weight)

    with interpolated(head, task.interpolate):
        steps = encoder.trained(
            recipe, artifact, trainer, held, lambda: encoder.gain(ranks(whole(), held, texts))
        )
    return whole(), train, steps


def encoder_of(model: Any) -> Encoder:
    """The model's vectors of queries and texts."""
    return Encoder(lambda each: vectors(model, each, queries=True), lambda e: vectors(model, e))


@contextmanager
def interpolated(model: Any, share: float) -> Iterator[None]:
    """The weights become (1 - share) * those before + share * those after (Wortsman et al. 2022).

    What a model knew of other texts is lost last on the straight line between the two.
    """
    import torch

    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    yield
    if share < 1:
        with torch.no_grad():
            for name, each in model.named_parameters():
                each.lerp_(before[name], 1 - share)


def load(folder: Path) -> Any:
    """The model in fp32."""
    import torch
    from sentence_transformers import SentenceTransformer

    with modelref.silenced():
        model: Any = SentenceTransformer(
            str(folder),
            local_files_only=True,
            device=encoder.device(),
            model_kwargs={"dtype": torch.float32},
        )
    return model


def build_trainer(
    recipe: SftRecipe, task: EmbeddingTask, folder: Path, model: Any, train: Sequence[Pair]
) -> Any:
    """sentence-transformers' trainer; a batch never has one text twice."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer

    return SentenceTransformerTrainer(
        model=model,
        args=config.embedding_config(recipe, folder, model.prompts),
        train_dataset=Dataset.from_list(encoder.columns(train)),
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
    ui.detail(f"measuring {len(held)} held-out queries among {len(texts)} texts")
    found = vectors(model, [each.query for each in held], queries=True)
    scores = found @ vectors(model, texts).T
    at = {text: i for i, text in enumerate(texts)}
    own = [scores[i, at[each.positive]] for i, each in enumerate(held)]
    return [float((row >= mine).sum()) for row, mine in zip(scores, own, strict=True)]
