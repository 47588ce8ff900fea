"""Labelled texts -> a head on an embedding model, measured on held-out documents."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from scipy import optimize, special

from llmctl import modelref, shards, ui
from llmctl import rows as row_files
from llmctl.artifact import Artifact
from llmctl.data.classifier import Head, encoded, encoder_of
from llmctl.data.filters.base import field_of, text_of
from llmctl.data.selectors.base import JUDGE, value_of
from llmctl.errors import InputError
from llmctl.evaluation import statistics
from llmctl.evaluation.agreement import correlation
from llmctl.records import row_id
from llmctl.report.html import Report
from llmctl.schema.parts import TrainData
from llmctl.schema.sft import SftRecipe
from llmctl.training import encoder
from llmctl.tuning.classifier import ClassifierTask

FOLDS = 5
WORST = 10


@dataclass(frozen=True)
class Labelled:
    """A text, its label or score, and the document that it comes from."""

    text: str
    label: str | float
    document: str


def tune(recipe: SftRecipe, task: ClassifierTask, artifact: Artifact) -> None:
    """Write `model/` with the embedding model and `head.json`, metrics.jsonl and report.html."""
    train, held = split(recipe.data, task, recipe.seed, artifact)
    model = encoder_of(modelref.hf_folder(recipe.model))
    model.max_seq_length = min(model.max_seq_length or recipe.max_length, recipe.max_length)
    ui.note(f"embedding {len(train)} texts to learn from and {len(held)} held out")
    vectors, unseen = (encoded(model, [each.text for each in part]) for part in (train, held))
    labels = sorted({str(e.label) for e in train}) if isinstance(train[0].label, str) else []
    targets = wanted(train, labels)
    losses = cross_validated(vectors, targets, [e.document for e in train], task.decay, recipe.seed)
    decay = min(losses, key=lambda each: (losses[each], each))
    artifact.write_jsonl(
        "metrics.jsonl",
        [{"step": n, "decay": d, "loss": losses[d]} for n, d in enumerate(task.decay, 1)],
    )
    weights, bias = fitted(vectors, targets, decay)
    bounds = {} if labels else {"low": float(targets.min()), "high": float(targets.max())}
    head = Head(labels, weights.tolist(), bias.tolist(), task.within, **bounds)
    encoder.saved(recipe, artifact, model)
    head.write(artifact.path("model/config.json").parent)
    assert artifact.model is not None
    artifact.model |= {"form": "classifier", "labels": labels}
    figures = measured(head, head.apply(unseen), train, held, task.threshold)
    artifact.metrics |= {"train_rows": len(train), "held_out_rows": len(held), "decay": decay}
    artifact.metrics |= figures
    artifact.summary.append(("rows", f"{len(train)} to learn from, {len(held)} held out"))
    artifact.summary += [(name, f"{value:.3g}") for name, value in figures.items()]
    write(recipe, artifact, head, head.apply(unseen), held, figures)


def split(
    data: TrainData, task: ClassifierTask, seed: int, artifact: Artifact
) -> tuple[list[Labelled], list[Labelled]]:
    """(rows to learn from, rows to measure with); no document is on both sides."""
    train = read(shards.find(data.train), task, artifact)
    apart = held_out_files(data)
    if apart:
        held = read(apart, task, artifact)
        seen = {each.document for each in held}
    else:
        documents = sorted({e.document for e in train}, key=lambda d: row_id(str(seed), d))
        seen = set(documents[: round(len(documents) * data.hold_out)])
        held = [each for each in train if each.document in seen]
    train = [each for each in train if each.document not in seen]
    kinds = {type(each.label) for each in (*train, *held)}
    if len(kinds) > 1:
        raise InputError(f"{data.train}: `{task.label}` is a number in some rows, a text in others")
    if len({each.label for each in train}) < 2:
        raise InputError(
            f"{data.train}: the {len(train)} rows to learn from have fewer than two labels"
        )
    if len(held) > data.eval_rows:
        held = [held[i] for i in sorted(Random(seed).sample(range(len(held)), data.eval_rows))]
    if len(held) < 2:
        raise InputError(f"{data.train}: fewer than two rows to measure with; raise data.hold_out")
    return train, held


def held_out_files(data: TrainData) -> list[Path]:
    """The files of `validation`, or the test or validation split beside the training rows."""
    if data.validation is not None:
        return shards.held_out(data.validation)
    return shards.held_out_splits(data.train)


def read(files: list[Path], task: ClassifierTask, artifact: Artifact) -> list[Labelled]:
    """The labelled rows of a set; those without a label are counted and left out."""
    shards.tell_part(files)
    found = []
    for where, row in row_files.placed(files):
        task.check(row, where)
        label = label_of(row, task)
        text = text_of(row, task.within)
        if label is None or not text.strip():
            artifact.dropped["no_label" if label is None else "no_text"] += 1
            continue
        source = row.get("source")
        document = source.get("document") if isinstance(source, Mapping) else None
        found.append(Labelled(text, label, str(document or row_id(text))))
    if not found:
        name = shards.name_of(files)
        raise InputError(f"{name}: no row has a label in `{task.label}`")
    return found


def label_of(row: Mapping[str, Any], task: ClassifierTask) -> str | float | None:
    """A text for a class, a number for a score, None for neither."""
    by_judge = task.label.startswith(JUDGE)
    value: Any = value_of(row, task.label) if by_judge else field_of(row, task.label)
    if isinstance(value, float) and math.isnan(value):
        return None
    if task.target == "classes" or (task.target == "auto" and isinstance(value, str | bool)):
        if isinstance(value, bool):
            return str(value).lower()
        return None if value is None else str(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number else None


def wanted(rows: Sequence[Labelled], labels: Sequence[str]) -> np.ndarray:
    """Shape (rows, labels) with a 1 in each row, or (rows, 1) with the scores."""
    if not labels:
        return np.array([[float(each.label)] for each in rows])
    return np.array([[float(each.label == label) for label in labels] for each in rows])


def fitted(vectors: np.ndarray, targets: np.ndarray, decay: float) -> tuple[np.ndarray, np.ndarray]:
    """(weights, bias) of the head: ridge regression of one column, else logistic regression.

    `decay` weighs the squared weights against the mean loss of a row; the bias is free.
    """
    if targets.shape[1] == 1:
        centre, mean = vectors.mean(axis=0), targets.mean(axis=0)
        apart = vectors - centre
        gram = apart.T @ apart / len(vectors) + decay * np.eye(vectors.shape[1])
        weights = np.linalg.solve(gram, apart.T @ (targets - mean) / len(vectors)).T
        return weights, mean - weights @ centre
    outputs, dimensions = targets.shape[1], vectors.shape[1]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        table = flat.reshape(outputs, dimensions + 1)
        scores = special.log_softmax(vectors @ table[:, :-1].T + table[:, -1], axis=1)
        error = (np.exp(scores) - targets) / len(vectors)
        slope = np.concatenate([error.T @ vectors, error.sum(axis=0)[:, None]], axis=1)
        slope[:, :-1] += decay * table[:, :-1]
        value = -(targets * scores).sum() / len(vectors) + decay / 2 * (table[:, :-1] ** 2).sum()
        return float(value), slope.ravel()

    start = np.zeros(outputs * (dimensions + 1))
    table = optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x
    table = table.reshape(outputs, dimensions + 1)
    return table[:, :-1], table[:, -1]


def cross_validated(
    vectors: np.ndarray, targets: np.ndarray, documents: Sequence[str], decays: Sequence[float],
    seed: int,
) -> dict[float, float]:  # fmt: skip
    """Decay -> mean loss of rows that were left out: squared error, or minus log-probability."""
    names = sorted(set(documents), key=lambda name: row_id(str(seed), "fold", name))
    fold = {name: n % FOLDS for n, name in enumerate(names)}
    folds = np.array([fold[name] for name in documents])
    found = {}
    for decay in decays:
        total = 0.0
        for each in range(min(FOLDS, len(names))):
            out = folds == each
            weights, bias = fitted(vectors[~out], targets[~out], decay)
            scores = vectors[out] @ weights.T + bias
            if targets.shape[1] == 1:
                total += float(((scores - targets[out]) ** 2).sum())
            else:
                total -= float((targets[out] * special.log_softmax(scores, axis=1)).sum())
        found[decay] = total / len(vectors)
    return found


def measured(
    head: Head,
    outputs: np.ndarray,
    train: Sequence[Labelled],
    held: Sequence[Labelled],
    threshold: float | None,
) -> dict[str, float]:
    """Figures of held-out rows beside what is reached without reading the text."""
    if head.labels:
        true = [str(each.label) for each in held]
        said = [head.labels[i] for i in outputs.argmax(axis=1)]
        most = Counter(str(each.label) for each in train).most_common(1)[0][0]
        right = statistics.estimate([float(a == b) for a, b in zip(true, said, strict=True)])
        return {
            "accuracy": right.value,
            "accuracy_se": right.se,
            "macro_f1": float(np.mean([f1(true, said, label) for label in sorted(set(true))])),
            "accuracy_of_the_most_frequent": sum(each == most for each in true) / len(true),
        }
    scores = [float(each.label) for each in held]
    guessed = outputs[:, 0]
    mean = float(np.mean([float(each.label) for each in train]))
    found = {
        "correlation": correlation(scores, guessed.tolist()),
        "mean_error": float(np.abs(guessed - scores).mean()),
        "mean_error_of_the_mean": float(np.abs(mean - np.array(scores)).mean()),
    }
    if threshold is not None:
        good = [str(score >= threshold) for score in scores]
        found["f1"] = f1(good, [str(value >= threshold) for value in guessed], "True")
    return found


def f1(true: Sequence[str], said: Sequence[str], label: str) -> float:
    """2 tp / (2 tp + fp + fn) of one label; 0 when it is neither there nor said."""
    both = sum(a == b == label for a, b in zip(true, said, strict=True))
    either = true.count(label) + said.count(label)
    return 2 * both / either if either else 0.0


def write(
    recipe: SftRecipe,
    artifact: Artifact,
    head: Head,
    outputs: np.ndarray,
    held: Sequence[Labelled],
    figures: Mapping[str, float],
) -> None:
    """report.html: figures, who is taken for whom, and the rows that are furthest off."""
    report = Report(f"sft: {recipe.model}, to classify")
    report.facts([(name.replace("_", " "), f"{value:.3g}") for name, value in figures.items()])
    if head.labels:
        said = [head.labels[i] for i in outputs.argmax(axis=1)]
        table = Counter((str(e.label), s) for e, s in zip(held, said, strict=True))
        report.heading("Held-out rows: label by row, what was said by column")
        report.table(
            ["label", *head.labels],
            [[label, *(table[label, other] for other in head.labels)] for label in head.labels],
        )
        place = {label: n for n, label in enumerate(head.labels)}
        off = [1 - float(o[place[str(e.label)]]) if str(e.label) in place else 1.0
               for o, e in zip(outputs, held, strict=True)]  # fmt: skip
    else:
        said = [f"{value:.2f}" for value in outputs[:, 0]]
        off = [abs(float(o) - float(e.label)) for o, e in zip(outputs[:, 0], held, strict=True)]
        report.histogram("how far off", {"held out": off}, "distance from the label")
    order = sorted(range(len(held)), key=lambda each: -off[each])[:WORST]
    report.examples(
        "Furthest off",
        [(f"label {held[i].label}, said {said[i]}", held[i].text[:1500]) for i in order],
    )
    report.write(artifact.path("report.html"))
