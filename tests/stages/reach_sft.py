"""Where each key of an sft recipe lands."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("trl")

BASE: dict[str, Any] = {"model": "some/model", "data": {"train": "rows"}}


def settings(recipe: Any, args: Any, lora: Any, tmp_path: Path) -> SimpleNamespace:
    """What sft and dpo share: the trainer's settings, the adapter, the rows."""
    from llmctl.artifact import Artifact
    from llmctl.training import data

    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"text": f"row {i}"}) + "\n" for i in range(40)))
    here = recipe.data.model_copy(update={"train": file, "validation": None})
    train, held = data.split(here, recipe.seed, Artifact(tmp_path))
    long = data.Tokens(
        "x", list(range(recipe.max_length + 1)), [True] * (recipe.max_length + 1), []
    )
    kept, _, cut = data.shortened([long], recipe.max_length, recipe.too_long)
    return SimpleNamespace(
        args=args,
        lora=lora,
        inputs=recipe.inputs(),
        train=train,
        held=held,
        kept=kept,
        cut=cut,
    )


def build(recipe: Any, tmp_path: Path) -> SimpleNamespace:
    from tiny_tokenizer import tiny_tokenizer

    from llmctl.training import config, data

    built = settings(
        recipe, config.sft_config(recipe, tmp_path), config.adapter_of(recipe), tmp_path
    )
    row = {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
        ]
    }
    built.tokens = data.tokens_of(tiny_tokenizer(), row, "here", recipe.loss_on)
    built.task = type(recipe.task)
    if recipe.task.kind == "embedding":
        embedding(recipe, built, tmp_path)
    return built


def embedding(recipe: Any, built: SimpleNamespace, tmp_path: Path) -> None:
    """The pairs, the negatives that are mined for them, and the loss, with a model of letters."""
    import numpy as np
    from torch import nn

    from llmctl.artifact import Artifact
    from llmctl.training import embedding as training
    from llmctl.training import pairs

    class Letters(nn.Sequential):
        def encode_document(self, texts: list[str], **_: Any) -> Any:
            counts = np.array([[t.lower().count(c) for c in "abcdefghij"] for t in texts], float)
            return (counts + 0.01) / np.linalg.norm(counts + 0.01, axis=1, keepdims=True)

        encode_query = encode_document

    texts = [
        f"{'abcdefghij'[i]} is word number {i}. And {'jihgfedcba'[i]} is there too."
        for i in range(10)
    ]
    rows = [{"text": t, "meta": {"title": t[:17]}, "document_id": t} for t in texts]
    file = tmp_path / "chunks.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = recipe.data.model_copy(update={"train": file})
    built.pairs = pairs.read(data, recipe.task.queries, recipe.seed, Artifact(tmp_path))
    model = Letters(nn.Identity())
    built.mined, built.hard = training.mined(
        model,
        built.pairs,
        recipe.task.negatives,
        recipe.seed,
        tmp_path / "scratch",
    )
    built.loss = type(training.loss_of(model, recipe, recipe.task)).__name__
    large = recipe.model_copy(update={"batch_size": 512})
    built.mini = training.loss_of(model, large, recipe.task).mini_batch_size


SHARED: dict[str, Any] = {
    "stage": None,
    "version": None,
    "out": None,
    "seed": (7, lambda built: built.args.seed),
    "model": ("other/model", lambda built: built.inputs["model"]),
    "data.train": ("other", lambda built: built.inputs["data.train"], Path("other")),
    "data.validation": (
        "held",
        lambda built: built.inputs["data.validation"],
        Path("held"),
    ),
    "data.hold_out": (0.5, lambda built: len(built.held), 20),
    "data.eval_rows": (3, lambda built: len(built.held), 3),
    "epochs": (2.5, lambda built: built.args.num_train_epochs),
    "max_steps": (9, lambda built: built.args.max_steps),
    "batch_size": (3, lambda built: built.args.per_device_train_batch_size),
    "gradient_accumulation": (7, lambda built: built.args.gradient_accumulation_steps),
    "learning_rate": (3e-3, lambda built: built.args.learning_rate),
    "scheduler": ("linear", lambda built: built.args.lr_scheduler_type),
    "warmup": (0.25, lambda built: built.args.warmup_steps),
    "weight_decay": (0.01, lambda built: built.args.weight_decay),
    "max_grad_norm": (0.5, lambda built: built.args.max_grad_norm),
    "max_length": (128, lambda built: built.args.max_length),
    "too_long": ("truncate", lambda built: (len(built.kept), built.cut), (1, 1)),
    "precision": ("bf16", lambda built: built.args.bf16, True),
    "gradient_checkpointing": (True, lambda built: built.args.gradient_checkpointing),
    "save_every": (5, lambda built: built.args.save_steps),
    "lora.r": (4, lambda built: built.lora.r),
    "lora.alpha": (8, lambda built: built.lora.lora_alpha),
    "lora.dropout": (0.1, lambda built: built.lora.lora_dropout),
    "lora.target_modules": (
        ["q_proj"],
        lambda built: built.lora.target_modules,
        {"q_proj"},
    ),
    "lora.rslora": (True, lambda built: built.lora.use_rslora),
}

ROWS = SHARED | {
    "task": ("embedding", lambda built: built.task.__name__, "EmbeddingTask"),
    "task[embedding].queries": (["title"], lambda built: len(built.pairs), 10),
    "task[embedding].negatives.count": (3, lambda built: len(built.mined[0].negatives)),
    "task[embedding].negatives.mined_by": (["bm25"], lambda built: built.hard, 0),
    "task[embedding].negatives.depth": (1, lambda built: built.hard, 0),
    "task[embedding].negatives.margin": (0.99, lambda built: built.hard, 0),
    "task[embedding].mini_batch": (7, lambda built: built.mini),
    "method": ("full", lambda built: built.lora, None),
    "loss_on": ("all", lambda built: all(built.tokens.trained), True),
    "packing": (False, lambda built: built.args.packing),
}
