"""Where each key of an sft recipe lands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("trl")

LOOP: dict[str, Any] = {
    "max_steps": 100,
    "batch_size": 2,
    "scheduler": "wsd",
    "eval_every": 10,
}
"""What other keys of the loop need to mean something."""
WITHOUT = {"task[classifier]": tuple(LOOP)}
"""Keys of BASE that task classifier refuses: it takes no steps."""
BASE: dict[str, Any] = {"model": "some/model", "data": {"train": "rows"}, **LOOP}


def settings(recipe: Any, args: Any, lora: Any, tmp_path: Path) -> SimpleNamespace:
    """What sft and dpo share: the trainer's settings, the adapter, the rows."""
    from tiny_tokenizer import tiny_tokenizer

    from llmctl import licensing
    from llmctl.artifact import Artifact
    from llmctl.errors import InputError
    from llmctl.training import callbacks, config, data, loop, model, samples, sources, vocabulary

    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"text": f"row {i}"}) + "\n" for i in range(40)))
    here = recipe.data.model_copy(update={"train": file, "validation": None, "mix": []})
    artifact = Artifact(tmp_path)
    train, held = sources.split(here, recipe.seed, artifact)
    long = data.Tokens(
        "x", list(range(recipe.max_length + 1)), [True] * (recipe.max_length + 1), []
    )
    kept, _, cut = data.shortened([long], recipe.max_length, recipe.too_long)
    answered = samples.Written(
        Artifact(tmp_path), tiny_tokenizer(), recipe, [long, replace(long, id="y")]
    )
    parts = [sources.Stream(lambda: iter([]), count) for count in (40, 20)]
    mix = [each.model_copy(update={"path": file}) for each in recipe.data.mix]
    own = {} if recipe.chat_template == "chatml" else {"template": None}
    tiny_tokenizer(**own).save_pretrained(tmp_path / "tokenizer")
    try:
        words = vocabulary.of(recipe.model_copy(update={"adapter": None}), tmp_path / "tokenizer")
    except InputError:  # the model's own template is not to be replaced
        words = None
    (tmp_path / "config.json").write_text('{"dtype": "bfloat16"}')
    return SimpleNamespace(
        words=words,
        saved=str(model.saved_dtype(tmp_path, recipe.save_dtype)),
        mixed=sources.mixed(parts, mix, 1, Artifact(tmp_path)) if mix else [],
        schedule=config.schedule_options(recipe, 100),
        after_memory=loop.smaller_batch(recipe) if recipe.auto_batch else None,
        optimizer=recipe.optimizer,
        measuring=callbacks.Measuring(recipe),
        metrics=callbacks.Metrics(tmp_path / "m", lambda step, facts: None, recipe),
        samples=answered.prompts,
        longest_sample=answered.most,
        shared=config.shared_out(recipe),
        licences=[line.rpartition(": ")[2] for line in licensing.check(recipe.use, "no/such", {})],
        args=args,
        lora=lora,
        bits=config.four_bits(recipe),
        inputs=recipe.inputs(),
        train=train,
        held=held,
        kept=kept,
        cut=cut,
        formats=artifact.extra["formats"].values() if artifact.extra else (),
    )


def build(recipe: Any, tmp_path: Path) -> SimpleNamespace:
    from tiny_tokenizer import tiny_tokenizer

    from llmctl.training import config, data

    if recipe.task.kind == "classifier":  # it has no trainer
        return SimpleNamespace(own=recipe.task)
    built = settings(
        recipe,
        config.sft_config(recipe, tmp_path),
        config.adapter_of(recipe, Path("base")),
        tmp_path,
    )
    row = {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
        ]
    }
    built.tokens = data.tokens_of(tiny_tokenizer(), row, "here", recipe.loss_on)
    built.task = type(recipe.task)
    if recipe.task.kind in ("embedding", "reranker"):
        paired(recipe, built, tmp_path)
    if recipe.task.kind == "embedding":
        embedding(recipe, built)
    if recipe.task.kind == "reranker":
        reranker(recipe, built)
    return built


def paired(recipe: Any, built: SimpleNamespace, tmp_path: Path) -> None:
    """The pairs and the negatives that are mined for them, with an encoder that counts letters."""
    import numpy as np

    from llmctl.artifact import Artifact
    from llmctl.training import mining, pairs

    def letters(texts: Any) -> Any:
        counts = np.array([[t.lower().count(c) for c in "abcdefghij"] for t in texts], float)
        return (counts + 0.01) / np.linalg.norm(counts + 0.01, axis=1, keepdims=True)

    texts = [
        f"{'abcdefghij'[i]} is word number {i}. And {'jihgfedcba'[i]} is there too."
        for i in range(10)
    ]
    rows = [{"text": t, "meta": {"title": t[:17]}, "document_id": t} for t in texts]
    file = tmp_path / "chunks.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = recipe.data.model_copy(update={"train": file})
    built.pairs = pairs.read(data, recipe.task.queries, recipe.seed, Artifact(tmp_path))
    built.mined, built.hard = mining.mined(
        mining.Encoder(letters, letters),
        built.pairs,
        recipe.task.negatives,
        recipe.seed,
        tmp_path / "scratch",
    )


def embedding(recipe: Any, built: SimpleNamespace) -> None:
    """The loss, and what becomes of weights that training moved by one."""
    import torch
    from torch import nn

    from llmctl.training import embedding as training

    weight = nn.Linear(1, 1, bias=False)
    with torch.no_grad(), training.interpolated(weight, recipe.task.interpolate):
        before = weight.weight.item()
        weight.weight.add_(1.0)
    built.share = round(weight.weight.item() - before, 5)
    built.teacher = recipe.task.teacher
    large = recipe.model_copy(update={"batch_size": 512})
    model = nn.Sequential(nn.Identity())
    built.mini = training.loss_of(model, large, recipe.task).mini_batch_size


def lesson(teacher: Any) -> SimpleNamespace:
    """What a layer learns from three words in forty texts, and its loss at first."""
    import numpy as np
    import torch

    from llmctl.training import distillation, mining
    from llmctl.training.pairs import Pair

    def letters(texts: Any) -> Any:
        counts = np.array([[t.count(c) + 0.1 for c in "abcdefgh"] for t in texts], np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)

    texts = [
        f"{'abcdefgh'[i % 8] * (i % 5 + 1)} filter{'' if i % 3 else 's'} the {i}{' x' * (i % 4)}"
        for i in range(40)
    ]
    rows = [Pair("the a filter of b", t, t, t, (), t) for t in texts]
    with TemporaryDirectory() as folder:
        found = distillation.lesson(mining.Encoder(letters, letters), rows, teacher, Path(folder))
    head = distillation.Head(found, teacher.temperature)
    given = (torch.from_numpy(each) for each in (found.queries, found.candidates, found.scores))
    return SimpleNamespace(
        count=found.candidates.shape[1],
        first=[round(float(each), 4) for each in found.scores[0][:10]],
        loss=round(float(head(*given)["loss"]), 4),
    )


def taught(name: str) -> Any:
    """Whether the teacher's key changes what is learnt from what its default gives."""

    def where(built: SimpleNamespace) -> bool:
        from llmctl.tuning.embedding import Teacher

        usual = lesson(Teacher.model_validate({}))
        return bool(getattr(lesson(built.teacher), name) != getattr(usual, name))

    return where


def reranker(recipe: Any, built: SimpleNamespace) -> None:
    """What the loss and the search of task reranker are given."""
    from unittest import mock

    import numpy as np

    from llmctl.training import mining
    from llmctl.training import reranker as training
    from llmctl.training.pairs import Pair

    with mock.patch(
        "sentence_transformers.cross_encoder.losses.MultipleNegativesRankingLoss"
    ) as loss:
        training.loss_of(None, recipe.task)
    built.loss_keys = loss.call_args.kwargs
    texts = [str(i) for i in range(50)]
    made = mining.Encoder(lambda q: np.eye(1, 50), lambda t: np.eye(len(t), 50))
    held = [Pair("q", "0", "d", "g")]
    built.found = training.searched(made, held, texts, recipe.task.candidates)
    built.embedder = recipe.task.embedder.kind


def label(built: SimpleNamespace, **fields: Any) -> Any:
    """What task classifier learns from a row."""
    from llmctl.training.classifier import label_of

    row = {"label": fields.get("score"), "meta": {"grade": fields.get("grade")}}
    return label_of(row, built.own)


def learnt(built: SimpleNamespace) -> dict[str, float]:
    """The figures of a head that gives scores."""
    import numpy as np

    from llmctl.data.classifier import Head
    from llmctl.training.classifier import Labelled, measured

    rows = [Labelled("a", 0.0, "a"), Labelled("b", 1.0, "b"), Labelled("c", 1.0, "c")]
    head = Head([], [[1.0]], [0.0], "both")
    return measured(head, np.array([[0.1], [0.9], [0.8]]), rows, rows, built.own.threshold)


SHARED: dict[str, Any] = {
    "stage": None,
    "version": None,
    "out": None,
    "seed": (7, lambda built: built.args.seed),
    "model": ("other/model", lambda built: built.inputs["model"]),
    "data.train": ("other", lambda built: built.inputs["data.train"], Path("other")),
    "data.mix.path": ("other", lambda built: built.inputs["data.mix.0.path"], Path("other")),
    "data.mix.share": (0.2, lambda built: len(built.mixed), 50),
    "data.mix.epochs": (0.5, lambda built: len(built.mixed), 50),
    "chat_template": (
        "llama3",
        lambda built: "eot_id" in built.words.tokenizer.chat_template,
        True,
    ),
    "new_tokens": (["<x>"], lambda built: built.words.tokenizer.convert_tokens_to_ids("<x>"), 99),
    "replace_template": (
        True,
        lambda built: "im_start" in built.words.tokenizer.chat_template,
        True,
    ),
    "data.validation": (
        "held",
        lambda built: built.inputs["data.validation"],
        Path("held"),
    ),
    "data.format": ("text", lambda built: [each["format"] for each in built.formats], ["text"]),
    "data.hold_out": (0.5, lambda built: len(built.held), 20),
    "data.eval_rows": (3, lambda built: len(built.held), 3),
    "epochs": (2.5, lambda built: built.args.num_train_epochs),
    "max_steps": (9, lambda built: built.args.max_steps),
    "batch_size": (3, lambda built: built.args.per_device_train_batch_size),
    "gradient_accumulation": (7, lambda built: built.args.gradient_accumulation_steps),
    "learning_rate": (3e-3, lambda built: built.args.learning_rate),
    "scheduler": ("linear", lambda built: built.args.lr_scheduler_type),
    "min_rate": (0.3, lambda built: built.schedule["min_lr_ratio"]),
    "decay": (0.5, lambda built: built.schedule["num_decay_steps"], 50),
    "warmup": (12, lambda built: built.args.warmup_steps),
    "auto_batch": (
        True,
        lambda built: built.after_memory,
        {"batch_size": 1, "gradient_accumulation": 8},
    ),
    "optimizer": ("sgd", lambda built: built.args.optim),
    "neftune_alpha": (5.0, lambda built: built.args.neftune_noise_alpha),
    "torch_compile": (True, lambda built: built.args.torch_compile),
    "liger_kernel": (True, lambda built: built.args.use_liger_kernel),
    "eval_every": (5, lambda built: built.measuring.every),
    "patience": (3, lambda built: built.measuring.patience),
    "keep_best": (True, lambda built: built.measuring.keep_best),
    "samples.rows": (1, lambda built: len(built.samples), 1),
    "samples.prompts": (["Who?"], lambda built: built.samples[0].text, "Who?"),
    "samples.max_tokens": (7, lambda built: built.longest_sample),
    "launch.processes": (4, lambda built: built.args.gradient_accumulation_steps, 1),
    "launch.strategy": ("ddp", lambda built: list(built.shared), ["ddp_find_unused_parameters"]),
    "launch.offload": (True, lambda built: built.shared["fsdp_config"]["cpu_offload"]),
    "tracking": (["comet"], lambda built: built.args.report_to, ["comet_ml"]),
    "use": ("commercial", lambda built: built.licences, ["read whether it allows commercial use"]),
    "spike_factor": (3.0, lambda built: built.metrics.spikes.factor),
    "stop_on_spike": (True, lambda built: built.metrics.stop_on_spike),
    "weight_decay": (0.01, lambda built: built.args.weight_decay),
    "max_grad_norm": (0.5, lambda built: built.args.max_grad_norm),
    "max_length": (128, lambda built: built.args.max_length),
    "too_long": ("truncate", lambda built: (len(built.kept), built.cut), (1, 1)),
    "precision": ("bf16", lambda built: built.args.bf16, True),
    "gradient_checkpointing": (True, lambda built: built.args.gradient_checkpointing),
    "save_every": (5, lambda built: built.args.save_steps),
    "save_dtype": ("fp16", lambda built: built.saved, "torch.float16"),
    "lora.r": (4, lambda built: built.lora.r),
    "lora.alpha": (8, lambda built: built.lora.lora_alpha),
    "lora.dropout": (0.1, lambda built: built.lora.lora_dropout),
    "lora.target_modules": (
        ["q_proj"],
        lambda built: built.lora.target_modules,
        {"q_proj"},
    ),
    "lora.rslora": (True, lambda built: built.lora.use_rslora),
    "lora.dora": (True, lambda built: built.lora.use_dora),
    "lora.modules_to_save": (["lm_head"], lambda built: built.lora.modules_to_save),
    "qlora.type": ("fp4", lambda built: built.bits.bnb_4bit_quant_type),
    "qlora.double": (False, lambda built: built.bits.bnb_4bit_use_double_quant),
    "qlora.compute": (
        "bf16",
        lambda built: str(built.bits.bnb_4bit_compute_dtype)[-8:],
        "bfloat16",
    ),
    "adapter.path": ("old", lambda built: built.inputs["adapter.path"], Path("old")),
    "adapter.how": ("stack", lambda built: built.lora is not None, True),
}
KINDS: dict[str, dict[str, Any]] = {
    "adapter": {"path": "an/adapter"},
    "data.mix": {"path": "more"},
}
AROUND: dict[str, dict[str, Any]] = {
    "launch": {"launch": {"processes": 2, "strategy": "fsdp"}},
    "qlora": {"method": "qlora"},
    "padding_free": {"packing": False},
    "replace_template": {"chat_template": "chatml"},
    "prompt": {"method": "prompt", "packing": False},
    "prefix": {"method": "prefix", "packing": False},
    "ia3": {"method": "ia3", "ia3": {"target_modules": ["k_proj", "down_proj"]}},
}


def betas(built: Any) -> tuple[float, float]:
    return built.args.adam_beta1, built.args.adam_beta2


ROWS = SHARED | {
    "optimizer[adamw].betas": ([0.8, 0.9], betas, (0.8, 0.9)),
    "optimizer[adamw].eps": (1e-6, lambda built: built.args.adam_epsilon),
    "optimizer[adamw_8bit].betas": ([0.8, 0.9], betas, (0.8, 0.9)),
    "optimizer[adamw_8bit].eps": (1e-6, lambda built: built.args.adam_epsilon),
    "optimizer[adamw_8bit].paged": (True, lambda built: built.args.optim, "paged_adamw_8bit"),
    "optimizer[adamw_paged].betas": ([0.8, 0.9], betas, (0.8, 0.9)),
    "optimizer[adamw_paged].eps": (1e-6, lambda built: built.args.adam_epsilon),
    "optimizer[lion].betas": ([0.8, 0.9], betas, (0.8, 0.9)),
    "optimizer[lion].bits": (8, lambda built: built.args.optim, "lion_8bit"),
    "optimizer[muon].momentum": (0.5, lambda built: built.optimizer.factory()[1]["momentum"]),
    "optimizer[sgd].momentum": (0.5, lambda built: built.args.optim_args, "momentum=0.5"),
    "task": ("embedding", lambda built: built.task.__name__, "EmbeddingTask"),
    "task[classifier].label": ("meta.grade", lambda built: label(built, grade=2), 2.0),
    "task[classifier].target": ("classes", lambda built: label(built, score=2), "2"),
    "task[classifier].within": ("question", lambda built: built.own.within),
    "task[classifier].threshold": (0.5, lambda built: "f1" in learnt(built), True),
    "task[classifier].decay": ([9.0], lambda built: built.own.decay, (9.0,)),
    "task[embedding].queries": (["title"], lambda built: len(built.pairs), 10),
    "task[embedding].negatives.count": (3, lambda built: len(built.mined[0].negatives)),
    "task[embedding].negatives.mined_by": (["bm25"], lambda built: built.hard, 0),
    "task[embedding].negatives.depth": (1, lambda built: built.hard, 0),
    "task[embedding].negatives.margin": (0.99, lambda built: built.hard, 0),
    "task[embedding].mini_batch": (7, lambda built: built.mini),
    "task[embedding].teacher.candidates": (7, lambda built: lesson(built.teacher).count),
    "task[embedding].teacher.alpha": (0.1, taught("first"), True),
    "task[embedding].teacher.smoothing": (0.0, taught("first"), True),
    "task[embedding].teacher.temperature": (0.5, taught("loss"), True),
    "task[embedding].teacher.keywords.stemmer": ("none", taught("first"), True),
    "task[embedding].teacher.keywords.stop_words": (["filter"], taught("first"), True),
    "task[embedding].teacher.keywords.k1": (0.1, taught("first"), True),
    "task[embedding].teacher.keywords.b": (0.0, taught("first"), True),
    "task[embedding].interpolate": (0.5, lambda built: built.share, 0.5),
    "task[reranker].queries": (["title"], lambda built: len(built.pairs), 10),
    "task[reranker].negatives.count": (2, lambda built: len(built.mined[0].negatives)),
    "task[reranker].negatives.mined_by": (["bm25"], lambda built: built.hard, 0),
    "task[reranker].negatives.depth": (1, lambda built: built.hard, 0),
    "task[reranker].negatives.margin": (0.99, lambda built: built.hard, 0),
    "task[reranker].embedder": ("hashing", lambda built: built.embedder),
    "task[reranker].random_negatives": (7, lambda built: built.loss_keys["num_negatives"]),
    "task[reranker].candidates": (9, lambda built: len(built.found[0])),
    "method": ("full", lambda built: built.lora, None),
    "prompt.tokens": (5, lambda built: built.lora.num_virtual_tokens),
    "prompt.text": ("Be kind.", lambda built: built.lora.prompt_tuning_init_text),
    "prefix.tokens": (5, lambda built: built.lora.num_virtual_tokens),
    "ia3.target_modules": (["v_proj"], lambda built: built.lora.target_modules, {"v_proj"}),
    "ia3.feedforward_modules": (
        ["down_proj"],
        lambda built: built.lora.feedforward_modules,
        {"down_proj"},
    ),
    "loss_on": ("all", lambda built: all(built.tokens.trained), True),
    "packing": (False, lambda built: built.args.packing),
    "padding_free": (True, lambda built: built.args.padding_free),
}
