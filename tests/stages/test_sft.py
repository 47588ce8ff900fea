"""sft on a model of two layers: equal to TRL, equal after a kill, and nothing wrong in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from training_runs import CHAT, log, recipe, run, weights

from llmctl.errors import InputError, LlmctlError

pytestmark = pytest.mark.model


@pytest.mark.parametrize("way", ["lora", "full", "packed"])
def test_the_losses_are_those_of_bare_trl(way: str, tiny_model: Path, tmp_path: Path) -> None:
    """A script that a user would write: TRL with the prompt and the answer in two columns."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    keys: dict[str, Any] = {"max_steps": 10, "packing": way == "packed", "batch_size": 2}
    keys["method"] = "lora" if way == "lora" else "full"
    held = tmp_path / "held.jsonl"
    lines = CHAT.read_text().splitlines()
    train = tmp_path / "train.jsonl"
    train.write_text("\n".join(lines[:12]) + "\n")
    held.write_text("\n".join(lines[12:]) + "\n")
    made = recipe("sft", tiny_model, train, **keys, data={"validation": str(held)})
    ours = [row["loss"] for row in log(run(made, tmp_path / "a"))]

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = []
    for line in lines[:12]:
        messages = json.loads(line)["messages"]
        prompt = tokenizer.apply_chat_template(
            messages[:1], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        ids = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
        mask = [0] * len(prompt) + [1] * (len(ids) - len(prompt) - 1) + [0]  # the last is "\n"
        rows.append({"input_ids": ids, "completion_mask": mask})
    args = SFTConfig(
        output_dir=str(tmp_path / "b"), max_steps=10, per_device_train_batch_size=2,
        gradient_accumulation_steps=4, learning_rate=1e-3, lr_scheduler_type="cosine",
        warmup_steps=0.1, max_length=256, bf16=False, gradient_checkpointing=False, use_cpu=True,
        logging_steps=1, save_strategy="no", seed=42, data_seed=42, completion_only_loss=True,
        packing=way == "packed",
        weight_decay=0.0, report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32),
        args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
        peft_config=LoraConfig(
            task_type="CAUSAL_LM", r=4, lora_alpha=32, target_modules="all-linear", lora_dropout=0
        ) if way == "lora" else None,
    )  # fmt: skip
    trainer.train()
    theirs = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(ours) == 10
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_a_run_leaves_a_whole_artifact(tiny_model: Path, tmp_path: Path) -> None:
    artifact = run(recipe("sft", tiny_model, CHAT), tmp_path)
    for name in ("model/config.json", "adapter/adapter_config.json", "report.html"):
        assert (tmp_path / name).is_file()
    assert artifact.model is not None
    assert artifact.model["form"] == "merged" and artifact.model["path"] == "model"
    assert artifact.metrics["merge_logit_error"] < 1e-3
    assert artifact.metrics["eval_rows"] == 3  # a fifth of 16 rows was held out
    assert artifact.metrics["eval_loss_diff"] == pytest.approx(
        artifact.metrics["eval_loss_after"] - artifact.metrics["eval_loss_before"]
    )


def test_the_saved_model_has_the_loss_that_was_measured(tiny_model: Path, tmp_path: Path) -> None:
    """An independent way: transformers' own loss on the folder as another program loads it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llmctl.artifact import Artifact
    from llmctl.training.causal import tokens

    made = recipe("sft", tiny_model, CHAT)
    artifact = run(made, tmp_path / "a")
    folder = tmp_path / "a" / "model"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    _, held = tokens(made, Artifact(tmp_path / "b"), tokenizer)
    total = 0.0
    for row in held:
        labels = torch.tensor([row.labels])
        total += model(torch.tensor([row.ids]), labels=labels).loss.item() * row.targets
    found = total / sum(row.targets for row in held)
    assert found == pytest.approx(artifact.metrics["eval_loss_after"], abs=1e-4)


def test_the_same_recipe_gives_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    made = recipe("sft", tiny_model, CHAT)
    assert weights(run(made, tmp_path / "a")) == weights(run(made, tmp_path / "b"))


def test_a_killed_run_continues_to_the_same_bytes(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmctl.training.callbacks import Metrics

    made = recipe("sft", tiny_model, CHAT, max_steps=5, save_every=2)
    whole = run(made, tmp_path / "whole")
    on_log = Metrics.on_log

    def killed(self: Any, args: Any, state: Any, *rest: Any, **more: Any) -> None:
        on_log(self, args, state, *rest, **more)
        if state.global_step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Metrics, "on_log", killed)
        with pytest.raises(KeyboardInterrupt):
            run(made, tmp_path / "killed")
    assert [p.name for p in (tmp_path / "killed/scratch/checkpoints").glob("c*")] == [
        "checkpoint-2"
    ]
    again = run(made, tmp_path / "killed")
    assert weights(again) == weights(whole)
    assert [r["loss"] for r in log(again)] == [r["loss"] for r in log(whole)]
    third = run(made, tmp_path / "killed")  # killed after the last checkpoint, before publishing
    assert weights(third) == weights(whole)


@pytest.mark.parametrize("way", ["packed", "padding-free"])
def test_rows_of_one_sequence_do_not_see_each_other(way: str, tiny_model: Path) -> None:
    """Change the first row: the logits of the second stay, as TRL's collator lays them out."""
    from transformers import AutoModelForCausalLM
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    collate = DataCollatorForLanguageModeling(pad_token_id=2, padding_free=True)

    def second(first: list[int]) -> Any:
        parts = [first, [5, 6, 7, 8]]
        if way == "packed":
            parts = [[*first, 5, 6, 7, 8]]
        rows: list[dict[str, Any]] = [{"input_ids": ids, "labels": ids} for ids in parts]
        if way == "packed":
            rows[0]["seq_lengths"] = [len(first), 4]
        batch = collate(rows)
        with torch.no_grad():
            return model(**batch, use_cache=False).logits[0, len(first) :]

    assert torch.equal(second([10, 11, 12]), second([90, 91, 92]))
    alone = model(torch.tensor([[5, 6, 7, 8]])).logits[0]
    assert torch.allclose(second([10, 11, 12]), alone, atol=1e-5)


def test_an_attention_that_sees_the_neighbour_is_refused(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    from llmctl.training.model import check_packing

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    check_packing(model, [10, 11, 12], [5, 6, 7, 8])
    forward = model.model.forward
    # a model that is not told where rows begin, as one that builds its own mask
    model.model.forward = lambda *a, position_ids=None, **k: forward(*a, **k)
    for key in ("packing", "padding_free"):
        with pytest.raises(LlmctlError, match=f"^{key}: .* set {key}: false"):
            check_packing(model, [10, 11, 12], [5, 6, 7, 8], key)


@pytest.mark.parametrize("keys", [{"method": "full", "learning_rate": 1e-4}, {"precision": "bf16"}])
def test_other_ways_to_train(tiny_model: Path, tmp_path: Path, keys: dict[str, Any]) -> None:
    artifact = run(recipe("sft", tiny_model, CHAT, **keys), tmp_path)
    assert artifact.metrics["steps"] == 3
    assert (tmp_path / "model/model.safetensors").is_file()


def test_nothing_to_learn_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    row = {"messages": [{"role": "user", "content": "only a question"}]}
    rows.write_text((json.dumps(row) + "\n") * 4)
    with pytest.raises(InputError, match=r"no row has a token to learn from \(4 no_trained_tokens"):
        run(recipe("sft", tiny_model, rows, data={"hold_out": 0}), tmp_path / "a")
    rows.write_text("")
    with pytest.raises(InputError, match="no rows"):
        run(recipe("sft", tiny_model, rows), tmp_path / "b")


def test_the_command_prints_the_folder_and_the_mask(
    llmctl: Any, tiny_model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(
        f"stage: sft\nout: {tmp_path}/out\nmodel: {tiny_model}\ndata: {{train: {CHAT}}}\n"
        "max_steps: 2\nmax_length: 256\n"
    )
    done = llmctl("sft", file)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path}/out\n"
    assert "[[" in done.stderr and "<|im_end|>]]" in done.stderr
    assert "Warning" not in done.stderr
    assert llmctl("sft", file, "-q").stdout == f"{tmp_path}/out\n"


def test_rows_without_padding_give_the_losses_of_padded_rows(
    tiny_model: Path, tmp_path: Path
) -> None:
    keys: dict[str, Any] = {"packing": False, "batch_size": 4, "method": "full"}
    keys["samples"] = {"rows": 0}
    padded = run(recipe("sft", tiny_model, CHAT, **keys), tmp_path / "a")
    free = run(recipe("sft", tiny_model, CHAT, **keys, padding_free=True), tmp_path / "b")
    losses = [[row["loss"] for row in log(each)] for each in (padded, free)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_base_model_gets_a_template_and_keeps_it(tiny_model: Path, tmp_path: Path) -> None:
    """Its marks are tokens with trained vectors, in the model and in the adapter that goes on."""
    import shutil

    from safetensors.torch import load_file
    from transformers import AutoTokenizer, GenerationConfig

    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    (base / "chat_template.jinja").unlink()
    keys: dict[str, Any] = {"chat_template": "llama3", "samples": {"rows": 0}}
    first = run(recipe("sft", base, CHAT, **keys), tmp_path / "a")
    saved = tmp_path / "a" / "model"
    tokenizer = AutoTokenizer.from_pretrained(saved)
    assert tokenizer.convert_tokens_to_ids("<|eot_id|>") == 49154 == tokenizer.eos_token_id
    assert 49154 in GenerationConfig.from_pretrained(saved).eos_token_id
    vectors = load_file(saved / "model.safetensors")["model.embed_tokens.weight"]
    mean = load_file(base / "model.safetensors")["model.embed_tokens.weight"].mean(0)
    assert vectors.shape[0] == 49155
    assert 0 < (vectors[49154] - mean).abs().max() < 0.1  # trained, from the mean
    start = {"path": str(tmp_path / "a")}
    second = run(recipe("sft", base, CHAT, adapter=start, samples={"rows": 0}), tmp_path / "b")
    assert second.metrics["eval_loss_before"] == pytest.approx(
        first.metrics["eval_loss_after"], abs=1e-4
    )
    assert AutoTokenizer.from_pretrained(tmp_path / "b" / "model").chat_template == (
        tokenizer.chat_template
    )
