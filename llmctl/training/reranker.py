"""Pairs -> a tuned cross-encoder, with nDCG@10 and MRR of held-out queries before and after.

What counts is the order of the texts that a search finds first, so each held-out query's nearest
texts are put in order, and the search's own order is measured beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmctl import modelref, ui
from llmctl.artifact import Artifact
from llmctl.errors import InputError
from llmctl.schema.sft import SftRecipe
from llmctl.training import config, encoder, pairs, report
from llmctl.training.mining import Encoder, mined
from llmctl.training.pairs import Pair
from llmctl.tuning.reranker import RerankerTask

Found = list[list[str]]
"""The texts that the search found for each held-out query, nearest first."""


def tune(recipe: SftRecipe, task: RerankerTask, artifact: Artifact) -> None:
    """Train all weights to tell the right text from those found beside it; write `model/`."""
    model = load(modelref.hf_folder(recipe.model), recipe)
    train, held, texts = pairs.split(recipe.data, task.queries, recipe.seed, artifact)
    with task.embedder.open() as live:
        made = Encoder.of(live)
        train, hard = mined(made, train, task.negatives, recipe.seed, artifact.scratch)
        found = searched(made, held, texts, task.candidates)
    before = encoder.measured(
        artifact.scratch / "before.json", lambda: ranks(model, held, found, recipe.batch_size)
    )
    encoder.told(artifact, train, hard, len(held), len(texts))
    trainer = build_trainer(recipe, task, artifact.scratch / "checkpoints", model, train)
    with encoder.shortened(model, recipe.max_length):
        steps = encoder.trained(
            recipe,
            artifact,
            trainer,
            held,
            lambda: encoder.gain(ranks(model, held, found, recipe.batch_size)),
        )
    encoder.saved(recipe, artifact, model)
    after = ranks(model, held, found, recipe.batch_size)
    report.compare_ranks(artifact, before, after, recipe.seed)
    against_search(artifact, held, found, after)
    encoder.written(recipe, "text-ranking", artifact, steps, train)


def load(folder: Path, recipe: SftRecipe) -> Any:
    """The cross-encoder in fp32; an encoder without a head gets one, drawn with the seed."""
    import torch
    from sentence_transformers import CrossEncoder
    from transformers import set_seed

    about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    classes = len(about.get("id2label") or ())
    if str((about.get("architectures") or [""])[0]).endswith("Classification") and classes > 1:
        raise InputError(f"{recipe.model}: gives {classes} numbers for a pair; a reranker gives 1")
    set_seed(recipe.seed)
    with modelref.silenced():
        model: Any = CrossEncoder(
            str(folder),
            num_labels=1,
            local_files_only=True,
            device=encoder.device(),
            model_kwargs={"dtype": torch.float32},
        )
    return model


def build_trainer(
    recipe: SftRecipe, task: RerankerTask, folder: Path, model: Any, train: Sequence[Pair]
) -> Any:
    """sentence-transformers' trainer; a batch never has one text twice."""
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoderTrainer

    return CrossEncoderTrainer(
        model=model,
        args=config.reranker_config(recipe, folder),
        train_dataset=Dataset.from_list(encoder.columns(train)),
        loss=loss_of(model, task),
    )


def loss_of(model: Any, task: RerankerTask) -> Any:
    """Cross-entropy of the right text among the negatives (Gao et al. 2021, eq. 4)."""
    from sentence_transformers.cross_encoder.losses import MultipleNegativesRankingLoss
    from torch import nn

    return MultipleNegativesRankingLoss(
        model, num_negatives=task.random_negatives, scale=1.0, activation_fn=nn.Identity()
    )


def searched(made: Encoder, held: Sequence[Pair], texts: Sequence[str], count: int) -> Found:
    """The `count` nearest texts of each held-out query, by cosine."""
    if not held:
        return []
    scores = made.queries([each.query for each in held]) @ made.texts(texts).T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return [[texts[i] for i in row] for row in best]


def ranks(model: Any, held: Sequence[Pair], found: Found, batch_size: int) -> list[float]:
    """Where each query's text comes among those found; infinite when it was not found."""
    if not held:
        return []
    ui.note(f"measuring {len(held)} held-out queries with {len(found[0])} texts each")
    asked = [(p.query, text) for p, texts in zip(held, found, strict=True) for text in texts]
    scores = model.predict(asked, batch_size=batch_size, show_progress_bar=False)
    rows = np.asarray(scores, dtype=np.float64).reshape(len(held), -1)
    own = [texts.index(p.positive) if p.positive in texts else -1
           for p, texts in zip(held, found, strict=True)]  # fmt: skip
    return [
        float((row >= row[at]).sum()) if at >= 0 else math.inf
        for row, at in zip(rows, own, strict=True)
    ]


def against_search(
    artifact: Artifact, held: Sequence[Pair], found: Found, after: Sequence[float]
) -> None:
    """The nDCG@10 of the search's own order; warns when the tuned model does not beat it."""
    if len(held) < 2:
        return
    before = [
        float(texts.index(p.positive) + 1) if p.positive in texts else math.inf
        for p, texts in zip(held, found, strict=True)
    ]
    alone = float(np.mean([report.discount(rank) for rank in before]))
    tuned = float(np.mean([report.discount(rank) for rank in after]))
    artifact.metrics["ndcg@10_search"] = alone
    artifact.summary.append(("order of the search alone", f"{alone:.4f}"))
    if tuned <= alone:
        ui.warn(
            f"the search alone puts the held-out texts in no worse order ({alone:.4f}) than the "
            f"tuned model ({tuned:.4f}): it needs more pairs or steps, or a base that reranks"
        )
