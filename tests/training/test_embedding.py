"""Tuning an embedding model: pairs, negatives, and a run on a model of two layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
pytest.importorskip("sentence_transformers")
from training_runs import chunks, killed_and_resumed, log, run

from llmctl.artifact import Artifact
from llmctl.errors import InputError
from llmctl.schema.parts import TrainData
from llmctl.schema.sft import SftRecipe
from llmctl.training import embedding, pairs
from llmctl.training.mining import Encoder, mined


def made(model: Path | str, rows: Path, **keys: Any) -> SftRecipe:
    base = {
        "stage": "sft", "out": "out", "model": str(model), "data": {"train": str(rows)},
        "task": {"kind": "embedding", "mini_batch": 4}, "batch_size": 8, "max_steps": 4,
        "gradient_accumulation": 1, "learning_rate": 1e-2, "max_length": 32,
    }  # fmt: skip
    return SftRecipe.model_validate({**base, **keys})


def test_pairs_are_made_from_chunks(tmp_path: Path) -> None:
    data = TrainData(train=chunks(tmp_path, 1).parent)
    for kind, query in {
        "title": "About pump and valve 0",
        "heading": "Store 0",
        "first_sentence": "Part 0 is the pump of the valve.",
    }.items():
        (pair,) = pairs.read(data, [kind], 0, Artifact(tmp_path / "a"))
        assert pair.query == query and pair.document == "d0"
        assert kind != "first_sentence" or query not in pair.positive
    (pair,) = pairs.read(data, ["inverse_cloze"], 0, Artifact(tmp_path / "a"))
    text = json.loads(data.train.joinpath("chunks.jsonl").read_text())["text"]
    assert pair.query in text and pair.query not in pair.positive
    assert len(pair.query) + 1 + len(pair.positive) == len(text)


def test_no_document_is_on_both_sides(tmp_path: Path) -> None:
    data = TrainData(train=chunks(tmp_path), hold_out=0.25)
    kinds = ["title", "inverse_cloze"]
    train, held, texts = pairs.split(data, kinds, 1, Artifact(tmp_path / "a"))
    assert len({p.document for p in held}) == 10 and len(train) == 60
    assert not {p.document for p in train} & {p.document for p in held}
    assert {p.positive for p in held} <= set(texts) and len(texts) == 40


def test_a_split_beside_the_rows_is_what_is_measured(tmp_path: Path) -> None:
    for split, count in (("train", 9), ("validation", 3)):
        rows = [{"query": f"what is {split} {i}", "positive": f"{split} {i}"} for i in range(count)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = TrainData(train=tmp_path)
    train, held, _ = pairs.split(data, [], 1, Artifact(tmp_path / "a"))
    assert len(train) == 9 and {p.positive for p in held} == {f"validation {i}" for i in range(3)}
    (tmp_path / "validation.jsonl").write_text('{"query": "what"}\n')
    with pytest.raises(InputError, match=r"validation.jsonl:1: is neither a pair"):
        made("m", tmp_path).look()


def test_negatives_are_of_other_documents_and_never_as_near_as_the_positive(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    recipe = made(tiny_encoder, chunks(tmp_path))
    model = embedding.load(tiny_encoder)
    made_ = Encoder(
        lambda texts: embedding.vectors(model, texts, queries=True),
        lambda texts: embedding.vectors(model, texts),
    )
    found = pairs.read(recipe.data, ["title"], 0, Artifact(tmp_path / "a"))
    wanted = recipe.task.negatives.model_copy(  # type: ignore[attr-defined]
        update={"count": 2, "mined_by": ("dense", "bm25"), "margin": 0.0}
    )
    ready, hard = mined(made_, found, wanted, 0, tmp_path / "scratch")
    document = {p.positive: p.document for p in found}
    assert all(len(set(p.negatives)) == 2 for p in ready)
    assert all(document[n] != p.document for p in ready for n in p.negatives)
    assert 0 < hard <= 80
    assert mined(made_, found, wanted, 0, tmp_path / "scratch") == (ready, hard)


def test_a_run_learns_and_ingest_takes_its_model(tiny_encoder: Path, tmp_path: Path) -> None:
    from llmctl.rag.embedders.base import Embedder

    recipe = made(tiny_encoder, chunks(tmp_path), max_steps=12, max_length=16)
    artifact = run(recipe, tmp_path / "out")
    losses = [row["loss"] for row in log(artifact)]
    assert len(losses) == 12 and losses[-1] < losses[0]
    for name in ("ndcg@10", "mrr"):
        change = artifact.metrics[f"{name}_after"] - artifact.metrics[f"{name}_before"]
        assert artifact.metrics[f"{name}_diff"] == pytest.approx(change)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Loss of each step" in page and "The recipe" in page
    folder = str(tmp_path / "out" / "model")
    card = Path(folder, "README.md").read_text()
    assert "pipeline_tag: sentence-similarity" in card and "ndcg@10_after" in card
    assert "widget" not in card, "it shows no text that was learnt from"
    assert artifact.model is not None and "licence" in artifact.model
    with Embedder.of({"kind": "sentence_transformers", "model": folder}).open() as embedder:
        assert embedder.texts(["a pump"]).shape == (1, 32)
        # rows were cut at 16 tokens to learn; the model reads as much as before
        assert not list(embedder.cut)
        assert embedder.texts(["a pump and " * 12]).shape == (1, 32) and not list(embedder.cut)


def test_a_killed_run_continues_to_the_same_weights(tiny_encoder: Path, tmp_path: Path) -> None:
    recipe = made(tiny_encoder, chunks(tmp_path), save_every=2)
    killed_and_resumed(recipe, tmp_path, 3, "model/model.safetensors")


def test_a_killed_layer_continues_to_the_same_weights(tiny_encoder: Path, tmp_path: Path) -> None:
    recipe = searching(tiny_encoder, chunks(tmp_path), save_every=2)
    killed_and_resumed(recipe, tmp_path, 3, "model/2_Dense/model.safetensors")


def test_bad_rows_and_keys_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    data = TrainData(train=path)
    for row, problem in {
        '{"prompt": "a"}': "neither a pair",
        '{"query": "a", "positive": ""}': "have to be texts",
        '{"text": "short"}': "gives no pair",
    }.items():
        path.write_text(row + "\n")
        with pytest.raises(InputError, match=problem):
            pairs.split(data, ["title"], 0, Artifact(tmp_path / "a"))
    with pytest.raises(ValueError, match="packing is a key of task causal"):
        made("m", path, packing=True)
    with pytest.raises(ValueError, match="write method: full"):
        made("m", path, method="lora")


def test_interpolated_weights_lie_between_those_before_and_after(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    rows, task = chunks(tmp_path), {"kind": "embedding", "mini_batch": 4}
    found = [load_file(tiny_encoder / "model.safetensors")]
    for share in (1.0, 0.25):
        recipe = made(tiny_encoder, rows, task=task | {"interpolate": share}, max_steps=2)
        folder = run(recipe, tmp_path / str(share)).folder
        found.append(load_file(folder / "model" / "model.safetensors"))
    before, after, between = found
    moved = 0
    for name, each in between.items():
        assert each == pytest.approx(0.75 * before[name] + 0.25 * after[name], abs=1e-6)
        moved += bool((after[name] != before[name]).any())
    assert moved > 10


def searching(model: Path, rows: Path, **keys: Any) -> SftRecipe:
    task = {
        "kind": "embedding", "queries": ["title", "sentences"],
        "teacher": {"candidates": 10, "temperature": 0.1},
    }  # fmt: skip
    return made(model, rows, **{"task": task, "learning_rate": 5e-3, "batch_size": 16, **keys})


def test_a_layer_learns_the_order_of_a_search_and_every_embedder_reads_it(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    np = pytest.importorskip("numpy")
    from llmctl.rag.embedders.base import Embedder

    recipe = searching(tiny_encoder, chunks(tmp_path), max_steps=30)
    artifact = run(recipe, tmp_path / "out")
    losses = [row["loss"] for row in log(artifact)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    folder = str(tmp_path / "out" / "model")
    texts = ["a pump", "the valve of the boiler is old", "", "cloud " * 30]
    with (
        Embedder.of({"kind": "sentence_transformers", "model": folder}).open() as plain,
        Embedder.of({"kind": "sentence_transformers", "model": str(tiny_encoder)}).open() as base,
    ):
        wanted = plain.texts(texts)
        assert (wanted * base.texts(texts)).sum(1).max() < 0.9999
    pytest.importorskip("onnx")
    with Embedder.of({"kind": "onnx", "model": folder}).open() as fast:
        assert np.allclose(fast.texts(texts), wanted, atol=1e-4)


def test_a_search_is_learnt_as_it_is_done(tiny_encoder: Path, tmp_path: Path) -> None:
    """The lesson has, for each query, the order that `retrieve` gives among the other texts."""
    import numpy as np

    from llmctl.training import distillation

    recipe = searching(tiny_encoder, chunks(tmp_path))
    found = pairs.read(recipe.data, recipe.task.queries, 0, Artifact(tmp_path / "a"))  # type: ignore[attr-defined]
    model = embedding.load(tiny_encoder)
    task: Any = recipe.task
    lesson = distillation.lesson(embedding.encoder_of(model), found, task.teacher, tmp_path)
    assert lesson.candidates.shape == lesson.scores.shape == (len(found), 10)
    groups = [each.group for each in pairs.one_each(found)]
    for pair, rows, scores in zip(found, lesson.candidates, lesson.scores, strict=True):
        assert pair.group not in {groups[row] for row in rows} and len(set(rows)) == 10
        assert scores.min() >= 0 and scores.max() <= 1
    vectors_only = task.teacher.model_copy(update={"alpha": 1.0, "smoothing": 0.0})
    plain = distillation.lesson(embedding.encoder_of(model), found, vectors_only, tmp_path)
    for query, rows in zip(plain.queries, plain.candidates, strict=True):
        cosines = plain.texts[rows] @ query
        assert (np.diff(cosines) <= 1e-6).all()
    head = distillation.Head(plain, 0.05)
    assert np.allclose(head.linear.weight.detach().numpy(), np.eye(32))


def test_keys_that_say_nothing_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mini_batch says nothing beside `teacher`"):
        made("m", tmp_path, task={"kind": "embedding", "teacher": {}, "mini_batch": 4})
