"""Preferences straight into the model (DPO and its family), measured before and after."""

from __future__ import annotations

from typing import Any

from llmctl import modelref, ui
from llmctl.artifact import Artifact
from llmctl.schema.dpo import DpoRecipe
from llmctl.training import (
    adapters,
    card,
    data,
    direct_trainers,
    drift,
    launch,
    loop,
    model,
    outcome,
    preference,
    preference_rows,
    report,
    samples,
    swapped,
    vocabulary,
    xray,
)
from llmctl.training.measure import Mean
from llmctl.training.preference_rows import Prepared


def align(recipe: DpoRecipe, artifact: Artifact) -> None:
    """Train the recipe's model on its preferences; write it with its figures."""
    source = modelref.hf_folder(recipe.model)
    vocabulary.check_identity(recipe, source, artifact)
    words = vocabulary.of(recipe, source)
    tokenizer = words.tokenizer
    found = preference_rows.read(recipe, artifact, tokenizer)
    swapped.check(recipe, artifact, found)
    shown = xray.show_answers(tokenizer, found.train or found.labelled, recipe.max_length)
    probe = first(found)

    def fresh() -> Any:
        return adapters.policy(recipe, source, words, artifact)

    policy = fresh()
    labelled = found.labelled or preference_rows.unpaired(found.train)
    written = samples.Written(artifact, tokenizer, recipe, answered(found))
    answers = drift.Drift(recipe, artifact, tokenizer, found.held_rows)

    def measured() -> Any:
        written.write(policy, 0)
        answers.before(policy)
        return _measured(policy, found, "preference before")

    before = launch.measured_once(artifact, "before", measured)
    if recipe.checks.likelihood:
        warning = swapped.warn_by_likelihood(found, before)
        if warning:
            ui.warn(warning)
    good, beta = [each.good for each in found.held_labelled], recipe.beta

    def build(each: DpoRecipe, base: Any) -> Any:
        return direct_trainers.build(each, artifact, base, words, found.train, labelled)

    def on_the_way(each: Any, step: int) -> dict[str, float]:
        if recipe.launch.strategy != "zero3":  # its weights are gathered layer by layer
            written.write(each, step)
        return preference.eval_loss(before, _measured(each, found, "held-out rows"), good, beta)

    trainer, steps = loop.run(
        recipe,
        artifact,
        policy,
        load=fresh,
        build=build,
        evaluate=on_the_way if before else None,
    )
    tuned = loop.whole(trainer, fresh)
    if tuned is None:  # of several processes, one writes the artifact
        return
    tuned, form = adapters.finished(tuned, words, recipe, artifact, probe)
    after = _measured(tuned, found, "preference after")
    stored = model.saved_dtype(source, recipe.save_dtype)
    model.save(tuned, tokenizer, artifact, stored, recipe.model, form)
    compare(artifact, found, before, after, recipe.beta)
    answers.after(tuned, fresh)
    step = trainer.state.global_step
    written.write(tuned, step, again=True)
    card.write(recipe, artifact)
    texts = written.publish(step)
    report.write(f"dpo: {recipe.model}", artifact, steps, shown, texts, recipe, answers.draw)


def first(found: Prepared) -> list[int]:
    """The first row's tokens, prompt and (better) answer."""
    if found.train:
        return found.train[0].prompt + found.train[0].chosen
    return found.labelled[0].prompt + found.labelled[0].answer


def answered(found: Prepared) -> list[data.Tokens]:
    """The held-out rows with their (better) answers, for the samples."""
    rows = [(each.id, each.prompt, each.chosen) for each in found.held]
    rows += [(each.id, each.prompt, each.answer) for each in found.held_labelled]
    return [
        data.Tokens(name, [*prompt, *answer], [False] * len(prompt) + [True] * len(answer), [])
        for name, prompt, answer in rows
    ]


def _measured(policy: Any, found: Prepared, label: str) -> Any:
    """Log-probabilities of the held-out answers: of pairs, or of labelled answers."""
    if found.labelled:
        return preference.answer_scores(policy, found.held_labelled, label)
    return preference.scores(policy, found.held, label)


def compare(artifact: Artifact, found: Prepared, before: Any, after: Any, beta: float) -> None:
    """How often the better answer is preferred, before and after, on the held-out rows."""
    if len(after) < 2:
        ui.warn("fewer than two held-out rows: the effect of the training was not measured")
        artifact.summary.append(("preference", "not measured"))
        return
    good = [each.good for each in found.held_labelled]
    if found.labelled:
        result = preference.compare_labelled(before, after, good, beta)
    else:
        result = preference.compare(before, after, beta)
    outcome.noted(artifact, result)
    artifact.metrics["eval_rows"] = len(after)
    change, what = result.get("preference_diff"), "the better answer is preferred more often by"
    if change is None:
        rewards = result["reward_accuracy"]
        change = Mean(rewards.value - 0.5, rewards.error, rewards.n)
        what = "rewards fit the labels more often than by chance, by"
    helped = change.value > 2 * change.error
    artifact.summary.append(("it helped" if helped else "it did not help", f"{what} {change}"))
    if not helped:
        ui.warn(f"the better answers are not preferred more often beyond the error: {change}")
