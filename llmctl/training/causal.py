"""Conversations -> an adapter and a merged model, with the held-out loss before and after."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from llmctl import ui
from llmctl.artifact import Artifact
from llmctl.errors import InputError
from llmctl.schema.sft import SftRecipe

if TYPE_CHECKING:
    from llmctl.training.data import Tokens
    from llmctl.training.store import Stored
    from llmctl.training.vocabulary import Vocabulary


def tune(recipe: SftRecipe, artifact: Artifact) -> None:
    """Tune the recipe's model; the artifact has model/, adapter/, metrics.jsonl and report.html."""
    from llmctl import modelref
    from llmctl.training import (
        adapters,
        card,
        launch,
        loop,
        model,
        report,
        samples,
        vocabulary,
        xray,
    )

    source = modelref.hf_folder(recipe.model)
    vocabulary.check_identity(recipe, source, artifact)
    words = vocabulary.of(recipe, source)
    tokenizer = words.tokenizer
    train, held = tokens(recipe, artifact, tokenizer)
    shown = xray.show(train.first, set(tokenizer.all_special_ids))

    def fresh(*, whole: bool = False) -> Any:
        return adapters.policy(recipe, source, words, artifact, whole=whole)

    policy = fresh()
    together = "packing" if recipe.packing else "padding_free" if recipe.padding_free else None
    if together and len(train) > 1:
        model.check_packing(policy, train[0].ids, train[1].ids, together)

    before = launch.measured_together(
        artifact, "before", lambda: losses(policy, held, "loss before")
    )
    written = samples.Written(artifact, tokenizer, recipe, held)
    written.write(policy, 0)

    def on_the_way(model: Any, step: int) -> dict[str, float]:
        if recipe.launch.strategy != "zero3":  # its weights are gathered layer by layer
            written.write(model, step)
        return mean_loss(losses(model, held, "held-out loss"))

    trainer, steps = loop.run(
        recipe,
        artifact,
        policy,
        load=fresh,
        build=lambda each, base: build_trainer(each, artifact, base, words, train),
        evaluate=on_the_way if held else None,
    )

    tuned = loop.whole(trainer, lambda: fresh(whole=True))
    if tuned is None:  # of several processes, one writes the artifact
        return
    tuned, form = adapters.finished(tuned, words, recipe, artifact, train[0].ids)
    after = losses(tuned, held, "loss after")
    step = trainer.state.global_step
    written.write(tuned, step, again=True)  # keep_best may have changed the weights since
    stored = model.saved_dtype(source, recipe.save_dtype)
    model.save(tuned, tokenizer, artifact, stored, recipe.model, form)
    _compare(artifact, before, after)
    card.write(recipe, artifact)
    texts = written.publish(step)
    report.write(f"sft: {recipe.model}", artifact, steps, shown, texts, recipe)


def tokens(recipe: SftRecipe, artifact: Artifact, tokenizer: Any) -> tuple[Stored, list[Tokens]]:
    """(rows to learn from, rows to measure with) as tokens; writes dropped.jsonl."""
    from llmctl.training import data, sources
    from llmctl.training.store import Stored

    rows, held_rows = sources.streams(recipe.data, recipe.seed, artifact)
    data.check_template(tokenizer, recipe.model, next(iter(rows))[1])
    dropped: list[dict[str, Any]] = []
    changed: Counter[str] = Counter()
    read = ui.counted("reading rows", rows, len(rows))
    encoded = encodings(read, recipe, tokenizer, dropped, changed)
    train = Stored(artifact.scratch / "tokens.arrow", encoded)
    held = list(encodings(held_rows, recipe, tokenizer, [], Counter()))
    artifact.write_jsonl("dropped.jsonl", dropped)
    artifact.dropped.update(row["reason"] for row in dropped)
    if not train:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(artifact.dropped.items()))
        raise InputError(
            f"{recipe.data.train}: no row has a token to learn from ({reasons}); check that the "
            f"rows have assistant turns and fit in max_length {recipe.max_length}"
        )
    if changed["cut"] == len(train):
        raise InputError(
            f"{recipe.data.train}: every row is cut to max_length {recipe.max_length} and loses "
            "its end of turn, so the model would not learn to stop; raise it, or write "
            "too_long: split"
        )
    artifact.metrics |= {
        "train_rows": len(train),
        "rows_truncated": changed["cut"],
        "rows_split": changed["split"],
        "train_tokens": train.tokens,
        "trained_tokens": train.targets,
        "trained_share": train.targets / train.tokens,
        "longest_row": train.longest,
        "held_out_rows": len(held),
    }
    if changed["cut"]:
        ui.warn(
            f"{changed['cut']} rows were cut to {recipe.max_length} tokens and lost their end of "
            "turn"
        )
    if dropped:
        ui.warn(f"{len(dropped)} of {len(rows)} rows were left out, see dropped.jsonl")
    artifact.summary.append(
        (
            "rows",
            f"{len(train)}, {train.targets} of {train.tokens} tokens learnt, "
            f"{len(dropped)} left out",
        )
    )
    return train, held


def encodings(
    rows: Iterable[tuple[str, dict[str, Any]]],
    recipe: SftRecipe,
    tokenizer: Any,
    dropped: list[dict[str, Any]],
    changed: Counter[str],
) -> Iterator[Tokens]:
    """The rows that can be trained on; `dropped` and `changed` take account of the others."""
    from llmctl.training import data

    for where, row in rows:
        problem = data.unfit(tokenizer, row)
        if problem is not None:
            name = str(row.get("id") or where)
            dropped.append({"id": name, "reason": problem[0], "detail": problem[1]})
            continue
        whole = data.tokens_of(tokenizer, row, where, recipe.loss_on)
        parts = [whole]
        if len(whole.ids) > recipe.max_length and recipe.too_long == "split":
            parts = data.split_up(tokenizer, row, where, recipe.loss_on, recipe.max_length)
            changed["split"] += 1
        for part in parts:
            found, why = data.fitted(part, recipe.max_length, recipe.too_long)
            if found is None:
                dropped.append(why)
                continue
            changed["cut"] += len(found.ids) < len(part.ids)
            yield found


def build_trainer(
    recipe: SftRecipe, artifact: Artifact, policy: Any, words: Vocabulary, train: Stored
) -> Any:
    """TRL's trainer with our tokens and labels; it adds the adapter to `policy`."""
    from trl.trainer.sft_trainer import SFTTrainer

    from llmctl import modelref
    from llmctl.training import config, split, vocabulary, xray

    trainer = SFTTrainer(
        model=policy,
        args=config.sft_config(recipe, artifact.scratch / "checkpoints"),
        train_dataset=train.dataset(),
        processing_class=words.tokenizer,
        peft_config=config.adapter_of(
            recipe, modelref.hf_folder(recipe.model), vocabulary.layers(policy, words)
        ),
    )
    if recipe.launch.strategy == "tensor":
        split.keep_checkpoints(trainer)
    xray.check_batch(trainer, words.tokenizer)
    return trainer


def losses(model: Any, held: list[Tokens], label: str) -> list[tuple[float, int]]:
    """(summed loss in nats, trained tokens) of each held-out row."""
    from llmctl.training import measure

    scores = measure.log_probabilities(model, [(row.ids, row.trained) for row in held], label)
    return [(-total, count) for total, count in scores]


def mean_loss(found: list[tuple[float, int]]) -> dict[str, float]:
    """Loss per trained token over all rows, in nats, and its perplexity."""
    loss = sum(total for total, _ in found) / max(sum(count for _, count in found), 1)
    return {"eval_loss": loss, "eval_perplexity": math.exp(min(loss, 50.0))}


def _compare(
    artifact: Artifact, before: list[tuple[float, int]], after: list[tuple[float, int]]
) -> None:
    """Held-out loss per trained token before and after, and their paired difference."""
    from llmctl.training.measure import ratio

    if len(after) < 2:
        ui.warn("fewer than two held-out rows: the effect of the training was not measured")
        artifact.summary.append(("held-out loss", "not measured"))
        return
    weights = [count for _, count in after]
    first = ratio([total for total, _ in before], weights)
    last = ratio([total for total, _ in after], weights)
    change = ratio([b[0] - a[0] for a, b in zip(before, after, strict=True)], weights)
    artifact.metrics |= {
        "eval_loss_before": first.value,
        "eval_loss_before_se": first.error,
        "eval_loss_after": last.value,
        "eval_loss_after_se": last.error,
        "perplexity_before": math.exp(min(first.value, 50.0)),
        "perplexity_after": math.exp(min(last.value, 50.0)),
        "eval_loss_diff": change.value,
        "eval_loss_diff_se": change.error,
        "eval_rows": change.n,
    }
    artifact.summary += [
        ("held-out loss before", str(first)),
        ("held-out loss after", str(last)),
        ("paired difference", str(change)),
    ]
    if change.value > -2 * change.error:
        ui.warn(f"held-out loss did not fall beyond its error: {change}")
