"""Tuning a reranker: a run on a model of two layers, and a search that uses what came out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
pytest.importorskip("sentence_transformers")
from training_runs import chunks, killed_and_resumed, log, run

from llmctl.errors import InputError
from llmctl.schema.sft import SftRecipe
from llmctl.training import reranker
from llmctl.training.pairs import Pair


def made(model: Path | str, rows: Path, **keys: Any) -> SftRecipe:
    task = {
        "kind": "reranker", "embedder": {"kind": "hashing"}, "random_negatives": 3,
        "negatives": {"count": 2, "margin": 0.0}, "candidates": 10, "queries": ["title"],
    }  # fmt: skip
    base = {
        "stage": "sft", "out": "out", "model": str(model), "data": {"train": str(rows)},
        "task": task, "batch_size": 8, "max_steps": 3, "gradient_accumulation": 1,
        "learning_rate": 1e-3, "max_length": 48,
    }  # fmt: skip
    return SftRecipe.model_validate({**base, **keys})


def test_a_run_learns_to_tell_the_right_text_from_its_neighbours(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    recipe = made(tiny_encoder, chunks(tmp_path), max_steps=40, learning_rate=5e-3)
    artifact = run(recipe, tmp_path / "out")
    losses = [row["loss"] for row in log(artifact)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    change = artifact.metrics["ndcg@10_after"] - artifact.metrics["ndcg@10_before"]
    assert artifact.metrics["ndcg@10_diff"] == pytest.approx(change)
    assert 0 < artifact.metrics["ndcg@10_search"] <= 1
    assert "Loss of each step" in (tmp_path / "out" / "report.html").read_text()
    assert artifact.model is not None and artifact.model["path"] == "model"
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    assert "pipeline_tag: text-ranking" in card and "widget" not in card


def test_a_killed_run_continues_to_the_same_weights(tiny_encoder: Path, tmp_path: Path) -> None:
    recipe = made(tiny_encoder, chunks(tmp_path), save_every=2)
    killed_and_resumed(recipe, tmp_path, 2, "model/model.safetensors")


def test_the_order_of_the_search_is_kept_apart_from_what_it_did_not_find() -> None:
    class Long:
        def predict(self, asked: Any, **_: Any) -> list[int]:
            return [len(text) for _, text in asked]

    held = [Pair("q", "aaa", "d", "g"), Pair("q", "missing", "e", "h")]
    found = [["a", "aaa", "aa"], ["a", "bb", "ccc"]]
    assert reranker.ranks(Long(), held, found, 4) == [1.0, math.inf]


def test_a_search_reranks_with_the_artifact(
    tiny_encoder: Path, tmp_path: Path, llmctl: Any, corpus: Path
) -> None:
    pytest.importorskip("Stemmer")
    rows = chunks(tmp_path)
    (tmp_path / "sft.yaml").write_text(
        f"stage: sft\nout: {tmp_path / 'reranker'}\nmodel: {tiny_encoder}\n"
        f"data: {{train: {rows}}}\nmax_steps: 1\nbatch_size: 4\nmax_length: 32\n"
        "task: {kind: reranker, embedder: hashing, negatives: {count: 1}}\n"
    )
    assert llmctl("sft", str(tmp_path / "sft.yaml"), "-q").returncode == 0
    (tmp_path / "ingest.yaml").write_text(
        f"stage: ingest\nsource: {corpus}\nout: {tmp_path / 'store'}\n"
        "embedder: hashing\nstore: exact\n"
    )
    assert llmctl("ingest", str(tmp_path / "ingest.yaml"), "-q").returncode == 0
    reread = f"reranker={{kind: cross_encoder, model: {tmp_path / 'reranker'}}}"
    found = llmctl("search", str(tmp_path / "store"), "what is it?", "--json", "--set", reread)
    assert found.returncode == 0, found.stderr
    assert '"reranker"' in found.stdout


def test_what_cannot_be_learnt_is_one_line(tiny_encoder: Path, tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    with pytest.raises(ValueError, match="learns from hard negatives"):
        made(tiny_encoder, tmp_path, task={"kind": "reranker", "negatives": {"count": 0}})
    settings = BertConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, num_labels=3,
    )  # fmt: skip
    BertForSequenceClassification(settings).save_pretrained(tmp_path / "three")
    with pytest.raises(InputError, match="gives 3 numbers"):
        reranker.load(tmp_path / "three", made(tmp_path / "three", tmp_path))
