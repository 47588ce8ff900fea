"""What `llmctl dpo` may be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from llmctl.alignment.base import Objective
from llmctl.evaluation.tasks.base import Task
from llmctl.judges.base import Judge
from llmctl.schema.base import Part
from llmctl.schema.losses import DIVERGENT, USED_BY, Added, Loss
from llmctl.schema.training import TrainingRecipe


class ReferenceSync(Part):
    """The reference follows the model slowly (TR-DPO, Gorbatovski et al. 2024)."""

    every: int = Field(512, ge=1, description="Optimizer steps between two updates.")
    share: float = Field(
        0.6, gt=0, le=1, description="Share of the model in the mixture; 1 copies it."
    )


class Checks(Part):
    """What the rows are checked for before training, beyond what is always refused."""

    length_ratio: float = Field(
        2.0,
        gt=1,
        description="Warn when the better answers are this many times longer (or shorter) than "
        "the worse ones on average, in tokens: the model then learns length.",
    )
    refuse_length: bool = Field(
        False, description="Refuse such rows instead of warning about them."
    )
    likelihood: bool = Field(
        False,
        description="Warn when the model itself finds most of the worse answers likelier, token by "
        "token: unless the labels are meant to go against it, they may be swapped.",
    )
    judge: Judge | None = Field(
        None,
        description="A judge, or a reward model ({kind: reward, model: ...}), that compares the "
        "answers of some pairs first; rows are refused when it disagrees with most labels.",
    )
    judge_rows: int = Field(64, ge=2, description="Most pairs that it compares.")


class Answers(Part):
    """What the model writes before and after training, sampled at temperature 1."""

    rows: int = Field(
        0,
        ge=0,
        description="Held-out prompts that are answered, for the KL to the starting model and the "
        "drift of length; 0 measures neither. A copy of the starting model is loaded for it.",
    )
    max_tokens: int = Field(64, ge=1, description="Longest answer, in tokens.")
    judge: Judge | None = Field(
        None, description="Who compares the answers after with those before: a win rate."
    )

    @model_validator(mode="after")
    def _there_is_something_to_judge(self) -> Self:
        if self.judge is not None and self.rows < 2:
            raise ValueError("answers.judge compares answers: set answers.rows to 2 or more")
        return self


class Regression(Part):
    """What the model could do before and must not lose."""

    tasks: list[Task] = Field(
        default_factory=list,
        description="Tasks of `eval`, measured for the model before and after, item by item.",
    )
    limit: int = Field(100, ge=2, description="Most items of a task, drawn with the seed.")


class DpoRecipe(TrainingRecipe):
    """Preference alignment: pairs, labels or rewards in, a model that follows them out."""

    stage: Literal["dpo"] = Field(description="Names the stage.")
    objective: Objective = Field(
        default_factory=lambda: Objective.of("direct"),
        description="What the model is aligned with: direct (DPO and its family, from pairs), "
        "reward (a reward model), or ppo, grpo and rloo (answers that the model samples).",
    )
    method: Literal["lora", "qlora", "full"] = Field(
        "lora",
        description="Train a small adapter (with qlora the frozen base is in 4 bits), or every "
        "weight of the model; the reference is then a frozen copy.",
    )
    loss: Loss = Field(
        "sigmoid",
        description="The preference loss; sigmoid is DPO as published, kto and "
        "apo_zero_unpaired take single answers with a label.",
    )
    beta: float = Field(
        0.1, gt=0, description="How strongly the model is held to where it began; higher, closer."
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="Share of pairs assumed to be labelled the wrong way (cdpo, robust and some "
        "others).",
    )
    gamma: float = Field(
        0.5, ge=0, description="Margin that the better answer's reward must have (simpo)."
    )
    alpha: float = Field(
        0.0, ge=0, description="Shape of the reward (alphapo, Gupta et al. 2025); 0 is SimPO's."
    )
    sft_weight: float | None = Field(
        None,
        ge=0,
        description="Weight of the better answer's own loss per token, added to the preference "
        "loss; by default 1 for cpo, else 0.",
    )
    more_losses: dict[Added, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Further losses of pairs and their weights, added to `loss`, which weighs 1 "
        "(MPO, Wang et al. 2024, is sigmoid with bco_pair: 0.25 and sft_weight: 1.25).",
    )
    ld_alpha: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Weight of the tokens by which one answer is longer than the other (LD-DPO, "
        "Liu et al. 2024); 1 counts them in full.",
    )
    divergence: Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] = Field(
        "reverse_kl", description="How distance from the reference is counted (f-DPO)."
    )
    divergence_alpha: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="Order of divergence: alpha_divergence; towards 1 it is reverse_kl.",
    )
    tau: float = Field(
        0.05, gt=0, description="How sharply discopop blends its two losses (Lu et al. 2024)."
    )
    weigh_by_policy: bool = Field(
        False, description="Weigh a pair by how likely the model finds it (WPO, Zhou et al. 2024)."
    )
    precompute_reference: bool = Field(
        False,
        description="Compute the starting model's log-probabilities once before training; pays "
        "from the second epoch on, and spares `method: full` its frozen copy.",
    )
    reference_sync: ReferenceSync | None = Field(
        None, description="Let the reference follow the model (only with method: full)."
    )
    desirable_weight: float = Field(1.0, gt=0, description="Weight of good answers (kto).")
    undesirable_weight: float = Field(1.0, gt=0, description="Weight of bad answers (kto).")
    learning_rate: float = Field(5e-5, gt=0, lt=1, description="Peak learning rate of AdamW.")
    checks: Checks = Field(
        default_factory=lambda: Checks.model_validate({}), description="Checks before training."
    )
    answers: Answers = Field(
        default_factory=lambda: Answers.model_validate({}),
        description="What is measured on the model's own answers after training.",
    )

    regression: Regression = Field(
        default_factory=lambda: Regression.model_validate({}),
        description="What is measured on other tasks, to see what alignment cost.",
    )

    @model_validator(mode="after")
    def _tasks_have_names_of_their_own(self) -> Self:
        titles = [each.title for each in self.regression.tasks]
        if twice := {title for title in titles if titles.count(title) > 1}:
            raise ValueError(f"two tasks are named '{min(twice)}'; give them a `name`")
        return self

    @model_validator(mode="after")
    def _objective_uses_the_keys(self) -> Self:
        for key in self.objective.unused:
            if key in self.model_fields_set and getattr(self, key) is not None:
                raise ValueError(f"{key} says nothing to objective: {self.objective.kind}; drop it")
        self.objective.refuse(self)
        return self

    @model_validator(mode="after")
    def _loss_uses_the_keys(self) -> Self:
        for key, losses in USED_BY.items():
            default = type(self).model_fields[key].get_default(call_default_factory=True)
            if getattr(self, key) != default and self.loss not in losses:
                raise ValueError(
                    f"{key} has no effect on loss: {self.loss}; it is used by {', '.join(losses)}"
                )
        if "divergence_alpha" in self.model_fields_set and self.divergence != "alpha_divergence":
            raise ValueError("divergence_alpha says nothing without divergence: alpha_divergence")
        if self.loss in self.more_losses:
            raise ValueError(f"more_losses: {self.loss} is the loss already; it weighs 1")
        if self.divergence != "reverse_kl" and not set(self.more_losses) <= set(DIVERGENT):
            raise ValueError(f"divergence is for losses of margins: {', '.join(DIVERGENT)}")
        if self.loss == "exo_pair" and self.label_smoothing == 0:
            raise ValueError("loss: exo_pair needs label_smoothing above 0; its paper takes 1e-3")
        if self.loss == "alphapo" and self.alpha == 0:
            raise ValueError("loss: alphapo needs alpha above 0; with 0 it is loss: simpo")
        if self.loss in ("aot", "aot_unpaired") and self.batch_size < 2:
            raise ValueError(f"loss: {self.loss} compares the pairs of a batch; set batch_size: 2")
        if self.loss == "kto" and self.batch_size < 2:
            raise ValueError("loss: kto estimates KL within a batch; set batch_size: 2 or more")
        return self

    @model_validator(mode="after")
    def _pairs_stay_whole(self) -> Self:
        if self.too_long == "split":
            raise ValueError("too_long: split would part an answer from its rival; use drop")
        return self

    @model_validator(mode="after")
    def _not_cut(self) -> Self:
        if self.launch.strategy == "tensor":
            raise ValueError("launch.strategy: tensor is for sft; use fsdp")
        return self

    @model_validator(mode="after")
    def _reference_can_follow(self) -> Self:
        if self.reference_sync is not None and (self.method != "full" or self.precompute_reference):
            raise ValueError(
                "reference_sync needs a frozen copy that can change: method: full, without "
                "precompute_reference"
            )
        return self

    def steps_of(self, rows: int) -> int:
        """As the objective shares rows out."""
        return self.objective.steps_of(self, rows)

    def tokens_at_once(self) -> int:
        """As the objective has them."""
        return self.objective.tokens_at_once(self)

    def logits_at_once(self, words: int) -> int:
        """As the objective's loss makes them."""
        return self.objective.logits_at_once(self, words)

    def look(self) -> None:
        """The rows, as the objective wants them."""
        self.objective.look(self)

    def inputs(self) -> dict[str, Path | str]:
        """The model, the files of rows and what the objective and the checks read."""
        found = super().inputs() | {
            f"objective.{key}": each for key, each in self.objective.inputs().items()
        }
        for part, judge in (("checks", self.checks.judge), ("answers", self.answers.judge)):
            files = {} if judge is None else judge.model_inputs()
            found |= {f"{part}.judge.{key}": each for key, each in files.items()}
        for number, task in enumerate(self.regression.tasks):
            for key, ref in task.inputs().items():
                found[f"regression.tasks.{number}.{key}"] = ref
        return found

    def revisions(self) -> dict[str, str]:
        """The versions of the judges' and the tasks' prompts."""
        asked: dict[str, Judge | Task | None] = {
            "checks.judge": self.checks.judge,
            "answers.judge": self.answers.judge,
        }
        asked |= {f"regression.tasks.{n}": task for n, task in enumerate(self.regression.tasks)}
        return {
            f"{part}.{key}": version
            for part, each in asked.items()
            if each is not None
            for key, version in each.revisions().items()
        }
