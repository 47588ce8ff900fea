"""dpo: pairs of answers -> a model that prefers the better one, measured before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmctl import ui
from llmctl.artifact import Artifact
from llmctl.errors import InputError
from llmctl.schema.dpo import DpoRecipe

if TYPE_CHECKING:
    from llmctl.training.preference import PairTokens, Scores
    from llmctl.training.vocabulary import Vocabulary


def run(recipe: DpoRecipe, artifact: Artifact) -> None:
    """Align the recipe's model; the artifact has model/, adapter/, metrics.jsonl, report.html."""
    from llmctl.training import config, quiet

    config.check_machine(recipe)
    with quiet.libraries():
        _run(recipe, artifact)


def _run(recipe: DpoRecipe, artifact: Artifact) -> None:
    from llmctl import modelref
    from llmctl.training import (
        adapters,
        callbacks,
        measure,
        model,
        preference,
        report,
        vocabulary,
    )

    source = modelref.hf_folder(recipe.model)
    vocabulary.check_identity(recipe, source, artifact)
    words = vocabulary.of(recipe, source)
    tokenizer = words.tokenizer
    policy = adapters.policy(recipe, source, words, artifact)
    train, held = pairs(recipe, artifact, tokenizer)
    pieces = xray(tokenizer, train[0])

    kept = artifact.scratch / "before.json"
    before = measure.remembered(kept) or measure.remember(
        kept, preference.scores(policy, held, "preference before")
    )
    trainer = build_trainer(recipe, artifact, policy, words, train)
    steps = callbacks.train(
        trainer, artifact.scratch / "checkpoints", artifact.path("metrics.jsonl")
    )

    tuned = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    probe = train[0].prompt + train[0].chosen
    tuned, form = adapters.finished(tuned, words, recipe, artifact, probe)
    after = preference.scores(tuned, held, "preference after")
    model.save(tuned, tokenizer, artifact, model.stored_dtype(source), recipe.model, form)
    _compare(artifact, before, after, recipe.beta)
    artifact.metrics |= {
        "steps": trainer.state.global_step,
        "train_loss": steps[-1]["loss"],
    }
    report.write(f"dpo: {recipe.model}", artifact, steps, pieces)


def pairs(
    recipe: DpoRecipe, artifact: Artifact, tokenizer: Any
) -> tuple[list[PairTokens], list[PairTokens]]:
    """(pairs to learn from, pairs to measure with) as tokens; writes dropped.jsonl."""
    from llmctl.training import data, preference, sources

    data.check_template(tokenizer, recipe.model)
    rows, held_rows = sources.split(recipe.data, recipe.seed, artifact)
    train: list[PairTokens] = []
    dropped: list[dict[str, Any]] = []
    held: list[PairTokens] = []
    cut = 0
    for where, row in rows:
        preference.check(row, where)
        pair = preference.tokens_of(tokenizer, row, where)
        reason = ""
        if preference.same(row):
            reason, detail = "identical_answers", "chosen and rejected are the same text"
        elif len(pair.prompt) >= recipe.max_length:
            reason, detail = "no_trained_tokens", f"the prompt fills {recipe.max_length} tokens"
        elif pair.longest > recipe.max_length and recipe.too_long == "drop":
            reason, detail = "too_long", f"{pair.longest} > {recipe.max_length} tokens"
        elif pair.longest > recipe.max_length:
            cut += 1
        if reason:
            dropped.append({"id": pair.id, "reason": reason, "detail": detail, "where": where})
        else:
            train.append(pair)
    for where, row in held_rows:
        preference.check(row, where)
        pair = preference.tokens_of(tokenizer, row, where)
        if not preference.same(row) and pair.longest <= recipe.max_length:
            held.append(pair)
    artifact.write_jsonl("dropped.jsonl", dropped)
    artifact.dropped.update(row["reason"] for row in dropped)
    if not train:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(artifact.dropped.items()))
        raise InputError(f"{recipe.data.train}: no pair can be learnt from ({reasons})")
    if dropped:
        ui.warn(
            f"{len(dropped)} of {len(rows)} pairs were left out, see dropped.jsonl; the first: "
            f"{dropped[0]['where']}: {dropped[0]['detail']}"
        )
    if cut:
        ui.warn(f"{cut} pairs were cut to {recipe.max_length} tokens and lost an end of turn")
    chosen = sum(len(pair.chosen) for pair in train) / len(train)
    rejected = sum(len(pair.rejected) for pair in train) / len(train)
    artifact.metrics |= {
        "train_rows": len(train),
        "rows_truncated": cut,
        "held_out_rows": len(held),
        "chosen_tokens_mean": chosen,
        "rejected_tokens_mean": rejected,
    }
    artifact.summary += [
        ("pairs", f"{len(train)}, {len(dropped)} left out"),
        ("tokens of an answer", f"chosen {chosen:.0f}, rejected {rejected:.0f} on average"),
    ]
    return train, held


def xray(tokenizer: Any, pair: PairTokens) -> list[tuple[str, str]]:
    """Show the first pair's better answer in its prompt; returns the coloured pieces."""
    from llmctl.training import xray as show
    from llmctl.training.data import Tokens

    ids = pair.prompt + pair.chosen
    texts = [tokenizer.decode([token]) for token in ids]
    trained = [False] * len(pair.prompt) + [True] * len(pair.chosen)
    return show.show([Tokens(pair.id, ids, trained, texts)], set(tokenizer.all_special_ids))


def build_trainer(
    recipe: DpoRecipe, artifact: Artifact, policy: Any, words: Vocabulary, train: list[PairTokens]
) -> Any:
    """TRL's trainer with our tokens; the reference is `policy` with its adapter off."""
    from datasets import Dataset
    from trl.trainer.dpo_trainer import DPOTrainer

    from llmctl import modelref
    from llmctl.training import config, vocabulary

    class Trainer(DPOTrainer):
        """The pairs come tokenised: what was checked is what is trained on."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    columns = [
        {"prompt_ids": p.prompt, "chosen_ids": p.chosen, "rejected_ids": p.rejected} for p in train
    ]
    return Trainer(
        model=policy,
        args=config.dpo_config(recipe, artifact.scratch / "checkpoints"),
        train_dataset=Dataset.from_list(columns),
        processing_class=words.tokenizer,
        peft_config=config.adapter_of(
            recipe, modelref.hf_folder(recipe.model), vocabulary.layers(policy, words)
        ),
    )


def _compare(artifact: Artifact, before: Scores, after: Scores, beta: float) -> None:
    """How often the better answer is preferred, before and after, on the held-out pairs."""
    from llmctl.training import preference

    if len(after) < 2:
        ui.warn("fewer than two held-out pairs: the effect of the training was not measured")
        artifact.summary.append(("preference", "not measured"))
        return
    found = preference.compare(before, after, beta)
    for name, value in found.items():
        artifact.metrics[name] = value.value
        artifact.metrics[f"{name}_se"] = value.error
    artifact.metrics["eval_rows"] = len(after)
    artifact.summary += [(name.replace("_", " "), str(value)) for name, value in found.items()]
    change = found["preference_diff"]
    if change.value < 2 * change.error or change.value <= 0:
        ui.warn(f"the better answers are not preferred more often beyond the error: {change}")
