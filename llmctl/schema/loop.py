"""The keys of the training loop: steps, rates, precision, measuring on the way, alarms, launch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from llmctl.optimizers.base import Optimizer
from llmctl.schema.base import Part, Recipe

Scheduler = Literal[
    "linear",
    "cosine",
    "constant",
    "constant_with_warmup",
    "cosine_with_min_lr",
    "inverse_sqrt",
    "wsd",
]
WITH_FLOOR = ("cosine_with_min_lr", "wsd")
"""Schedules that end above zero when `min_rate` says so."""
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Tracker = Literal["tensorboard", "mlflow", "wandb", "trackio", "comet"]
PACKAGES = {
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "wandb": "wandb",
    "trackio": "trackio",
    "comet": "comet_ml",
}
"""Tracker -> its distribution; the extra has the tracker's name."""


class Samples(Part):
    """Answers that the model writes to the same prompts before and after training."""

    rows: int = Field(
        2, ge=0, le=64, description="Held-out rows whose prompts are answered; 0 writes none."
    )
    prompts: tuple[str, ...] = Field(
        (), description="Questions of your own; they come before those of the held-out rows."
    )
    max_tokens: int = Field(40, ge=1, le=4096, description="Longest answer, in tokens.")


class Launch(Part):
    """How many processes train, and what each of them keeps."""

    processes: int = Field(
        1,
        ge=1,
        le=1024,
        description="Processes on this machine, one for each GPU. The rows of one step are shared "
        "out among them, so the recipe means the same on any number.",
    )
    strategy: Literal["ddp", "fsdp", "zero2", "zero3", "tensor"] = Field(
        "ddp",
        description="ddp: each process has the whole model. fsdp: weights, gradients and optimizer "
        "are shared out (FSDP2). zero2, zero3: DeepSpeed, gradients and optimizer, or all of it. "
        "tensor: each matrix is cut, and all processes see the same rows (sft, method full).",
    )
    offload: bool = Field(
        False, description="fsdp, zero2, zero3: keep what is not in use in the host's memory."
    )

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if self.offload and self.strategy in ("ddp", "tensor"):
            raise ValueError(
                f"offload says nothing to strategy: {self.strategy}; use fsdp, zero2 or zero3"
            )
        if self.processes == 1 and self.strategy != "ddp":
            raise ValueError(f"strategy: {self.strategy} shares out; it needs processes: 2 or more")
        return self

    def replicas(self) -> int:
        """Among how many the rows of a step are shared out."""
        return 1 if self.strategy == "tensor" else self.processes


class LoopKeys(Recipe):
    """How long, how fast and how precisely is trained, and what is watched meanwhile."""

    epochs: float = Field(1, gt=0, description="Passes over the rows; `max_steps` may end earlier.")
    max_steps: int | None = Field(
        None, ge=1, description="Optimizer steps; when set it decides instead of `epochs`."
    )
    batch_size: int = Field(1, ge=1, description="Rows (or packs of rows) in one forward pass.")
    gradient_accumulation: int = Field(
        4, ge=1, description="Forward passes that are summed into one optimizer step."
    )
    auto_batch: bool = Field(
        False,
        description="When memory runs out, go on from the last checkpoint with half the "
        "`batch_size` and twice the `gradient_accumulation`: the same rows in each step.",
    )
    optimizer: Optimizer = Field(
        default_factory=lambda: Optimizer.of("adamw"), description="What turns gradients to steps."
    )
    learning_rate: float = Field(2e-4, gt=0, lt=1, description="Peak learning rate.")
    scheduler: Scheduler = Field(
        "cosine",
        description="How the learning rate falls. wsd (warm up, stay, decay) stays at the peak and "
        "falls in the last `decay` of the steps.",
    )
    warmup: float = Field(
        0.1, ge=0, description="Share of all steps spent warming up; from 1 on, a number of steps."
    )
    min_rate: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="cosine_with_min_lr (0.1 when not given) and wsd (0): the rate at the end, as "
        "a share of the peak.",
    )
    decay: float | None = Field(
        None, gt=0, lt=1, description="wsd: share of all steps that fall at the end; 0.2 if null."
    )
    weight_decay: float = Field(0.0, ge=0, description="Decay of the weights, per step and rate.")
    max_grad_norm: float = Field(1.0, gt=0, description="Longer gradients are scaled to this norm.")
    neftune_alpha: float | None = Field(
        None,
        gt=0,
        description="Noise on the embeddings of the input while training (Jain et al. 2023); 5 to "
        "15 is usual.",
    )
    precision: Precision = Field(
        "auto",
        description="Arithmetic of the forward pass; auto is bf16 on a GPU that has it, fp16 on an "
        "older one, fp32 on a CPU. The weights and the optimizer stay in fp32.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: less memory, more time."
    )
    torch_compile: bool = Field(
        False, description="Compile the model with torch.compile; pays on a GPU and long runs."
    )
    liger_kernel: bool = Field(
        False, description="Fused kernels of the package liger-kernel; a GPU only."
    )
    save_every: int = Field(
        20, ge=1, description="Optimizer steps between checkpoints: what a kill can cost."
    )
    eval_every: int | None = Field(
        None,
        ge=1,
        description="Optimizer steps between measurements on the held-out rows; null measures "
        "before and after training only.",
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="Stop after this many measurements in a row without a lower held-out loss.",
    )
    keep_best: bool = Field(
        False, description="End with the weights of the lowest held-out loss, not with the last."
    )
    samples: Samples = Field(
        default_factory=lambda: Samples.model_validate({}),
        description="Texts before and after training.",
    )
    spike_factor: float = Field(
        6.0,
        gt=1,
        description="A loss or gradient norm this many times its usual spread above the median of "
        "the last 20 steps is an alarm: a warning, and a mark in metrics.jsonl.",
    )
    stop_on_spike: bool = Field(False, description="End the run at the first alarm, with exit 1.")
    launch: Launch = Field(
        default_factory=lambda: Launch.model_validate({}), description="Processes that train."
    )
    tracking: tuple[Tracker, ...] = Field(
        (), description="Where metrics go beside metrics.jsonl; each needs its package."
    )
    use: Literal["commercial", "research"] | None = Field(
        None,
        description="What the tuned model is for; a licence of the base model or of the rows that "
        "forbids it is refused before training.",
    )

    @model_validator(mode="after")
    def _loop_means_something(self) -> Self:
        if self.warmup >= 1 and self.warmup != int(self.warmup):
            raise ValueError("warmup is a share below 1 or a whole number of steps")
        if self.min_rate is not None and self.scheduler not in WITH_FLOOR:
            raise ValueError(f"min_rate says nothing to {self.scheduler}; use cosine_with_min_lr")
        if self.decay is not None and self.scheduler != "wsd":
            raise ValueError(f"decay says nothing to scheduler: {self.scheduler}; use wsd")
        for key in ("patience", "keep_best"):
            if getattr(self, key) and self.eval_every is None:
                raise ValueError(f"{key} goes by the held-out loss on the way; set eval_every")
        if self.gradient_accumulation % self.launch.replicas():
            raise ValueError(
                f"gradient_accumulation ({self.gradient_accumulation}) is shared out among "
                f"launch.processes ({self.launch.processes}); make it a multiple"
            )
        if self.auto_batch and self.launch.processes > 1:
            raise ValueError("auto_batch works in one process; drop it or launch")
        return self

    def all_needs(self) -> dict[str, str]:
        """The packages of what is switched on."""
        found = super().all_needs() | {PACKAGES[name]: name for name in self.tracking}
        if self.liger_kernel:
            found["liger-kernel"] = "liger"
        if self.launch.strategy in ("zero2", "zero3"):
            found["deepspeed"] = "deepspeed"
        return found

    def rows_a_step(self) -> int:
        """Rows (or packs) that one optimizer step sees, over all processes."""
        return self.batch_size * self.gradient_accumulation
