"""What tuning an embedding model, a reranker or a classifier shares.

A task of this kind reads as: load, split the rows, `measured`, build the trainer, `trained`,
`saved`, measure again, report. A run that was killed goes on from its newest checkpoint, and what
`measured` found before is not measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmctl import modelref
from llmctl.artifact import Artifact
from llmctl.schema.sft import SftRecipe
from llmctl.training import card, config, loop, measure, report
from llmctl.training.pairs import Pair


def device() -> str:
    """Where an encoder is trained."""
    return "cuda" if config.on_gpu() else "cpu"


@contextmanager
def shortened(model: Any, max_length: int) -> Iterator[None]:
    """Texts are cut at `max_length` tokens in here; afterwards the model reads what it could."""
    own = model.max_seq_length
    model.max_seq_length = min(own or max_length, max_length)
    yield
    model.max_seq_length = own


def measured(path: Path, numbers: Callable[[], list[float]]) -> list[float]:
    """A measure of each held-out row; kept in `path` for the run that follows a kill."""
    found = measure.remembered(path)
    if found is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = measure.remember(path, numbers())
    return [float(each) for each in found]


def trained(
    recipe: SftRecipe,
    artifact: Artifact,
    trainer: Any,
    held: Sequence[Any] = (),
    figures: Callable[[], dict[str, float]] | None = None,
) -> list[dict[str, Any]]:
    """Train all weights, from the newest checkpoint on; returns the steps' log.

    `figures` are those of the `held` rows, `eval_loss` among them, for a measurement on the way.
    """
    if not held or figures is None:
        return loop.fit(trainer, recipe, artifact)
    return loop.fit(trainer, recipe, artifact, lambda model, step: figures())


def gain(ranks: Sequence[float]) -> dict[str, float]:
    """nDCG@10 of held-out queries, and what it lacks of 1 as the loss that is to fall."""
    found = sum(map(report.discount, ranks)) / len(ranks)
    return {"eval_ndcg@10": found, "eval_loss": 1 - found}


def saved(recipe: SftRecipe, artifact: Artifact, model: Any) -> None:
    """Write `model/`, as the artifact's model."""
    folder = artifact.path("model/config.json").parent
    model.save_pretrained(str(folder))
    about = {**modelref.identity(folder), "base": recipe.model, "form": "full", "path": "model"}
    artifact.model = about


def told(artifact: Artifact, train: Sequence[Pair], hard: int, held: int, texts: int) -> None:
    """How many pairs there are, in the metrics and in the summary."""
    artifact.metrics |= {
        "train_pairs": len(train),
        "hard_negatives": hard,
        "held_out_queries": held,
        "texts_searched": texts,
    }
    artifact.summary.append(
        ("pairs", f"{len(train)} to learn from, {hard} hard negatives, {held} held out")
    )


def columns(train: Sequence[Pair]) -> list[dict[str, str]]:
    """Pairs as rows of a data set: anchor, positive, negative_1 ..."""
    return [
        {"anchor": each.query, "positive": each.positive}
        | {f"negative_{n}": text for n, text in enumerate(each.negatives, 1)}
        for each in train
    ]


def written(
    recipe: SftRecipe,
    does: str,
    artifact: Artifact,
    steps: list[dict[str, Any]],
    train: Sequence[Pair],
) -> None:
    """report.html with the first pairs, and the card; `does` is the hub's name of the task.

    sentence-transformers' own card shows texts that were learnt from; ours shows none.
    """
    shown = [
        (each.query, "\n\n".join([each.positive, *(f"NOT: {n}" for n in each.negatives)]))
        for each in train[:3]
    ]
    card.write(recipe, artifact, "sentence-transformers", does)
    title = f"sft: {recipe.model}, {recipe.task.kind}"
    report.write(title, artifact, steps, [], shown, recipe)
