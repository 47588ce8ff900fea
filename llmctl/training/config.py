"""Recipe -> the settings of TRL and PEFT. A training recipe's keys land here or in data.py."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from peft import IA3Config, LoraConfig, PeftConfig, PrefixTuningConfig, PromptTuningConfig
from transformers import BitsAndBytesConfig, TrainingArguments
from trl.trainer.sft_config import SFTConfig

from llmctl.errors import MissingError
from llmctl.schema.method import Qlora
from llmctl.schema.parts import Lora
from llmctl.schema.sft import SftRecipe
from llmctl.schema.training import TrainingRecipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformerTrainingArguments
    from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments


SCHEDULERS = {"wsd": "warmup_stable_decay"}
"""Our name of a schedule -> transformers', where they differ."""
TRACKERS = {"comet": "comet_ml"}
"""The same of trackers."""


def on_gpu() -> bool:
    """Whether training runs on a CUDA device."""
    return torch.cuda.is_available()


def check_machine(recipe: TrainingRecipe) -> None:
    """Refuse, before anything is loaded, what this machine cannot do."""
    if on_gpu():
        return
    if recipe.precision == "fp16":
        raise MissingError("precision: fp16 needs a GPU; write auto, which is fp32 on a CPU")
    if recipe.liger_kernel:
        raise MissingError("liger_kernel needs a GPU; drop it on a CPU")


def check_devices(processes: int) -> None:
    """Refuse more processes than there are GPUs."""
    found = torch.cuda.device_count()
    if processes > found:
        raise MissingError(f"launch.processes: {processes}, and this machine has {found} GPUs")


def precision_of(recipe: TrainingRecipe) -> str:
    """`bf16`, `fp16` or `fp32`: the arithmetic of the forward pass on this machine."""
    if recipe.precision != "auto":
        return recipe.precision
    if not on_gpu():
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def uses_bf16(recipe: TrainingRecipe) -> bool:
    """Whether the forward pass computes in bfloat16."""
    return precision_of(recipe) == "bf16"


def optimizer_factory(recipe: TrainingRecipe) -> tuple[Any, dict[str, Any]] | None:
    """What a trainer builds its optimizer with, where its settings have no name for it."""
    made = recipe.optimizer.factory()
    if made is None:
        return None
    factory, options = made
    rates = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    return factory, rates | options


def schedule_options(recipe: TrainingRecipe, steps: int) -> dict[str, float]:
    """What the schedule takes beside the warm-up; `steps` is the length of the run."""
    if recipe.scheduler == "cosine_with_min_lr":
        return {"min_lr_rate": 0.1 if recipe.min_rate is None else recipe.min_rate}
    if recipe.scheduler == "wsd":
        share = 0.2 if recipe.decay is None else recipe.decay
        return {"num_decay_steps": round(share * steps), "min_lr_ratio": recipe.min_rate or 0.0}
    return {}


def arguments(recipe: TrainingRecipe, folder: Path) -> dict[str, Any]:
    """What TRL's configs share; `folder` takes the checkpoints."""
    precision = precision_of(recipe)
    return {
        "output_dir": str(folder),
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "num_train_epochs": recipe.epochs,
        "max_steps": recipe.max_steps or -1,
        "per_device_train_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": recipe.gradient_accumulation // recipe.launch.replicas(),
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": SCHEDULERS.get(recipe.scheduler, recipe.scheduler),
        "lr_scheduler_kwargs": schedule_options(recipe, recipe.max_steps or 0) or None,
        "warmup_steps": recipe.warmup,  # below 1 it is a share of all steps
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "max_length": recipe.max_length,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "torch_compile": recipe.torch_compile,
        "use_liger_kernel": recipe.liger_kernel,
        "neftune_noise_alpha": recipe.neftune_alpha,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "save_strategy": "steps",
        "save_steps": recipe.save_every,
        # a kill in the middle of the newest leaves the one before it; the best comes on top
        "save_total_limit": 3 if recipe.keep_best else 2,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would write a loss that is no number as 0
        "run_name": recipe.out.name,
        "project": "llmctl",
        "report_to": [TRACKERS.get(name, name) for name in recipe.tracking],
        "disable_tqdm": True,
        "use_cpu": not on_gpu(),
        "dataloader_pin_memory": on_gpu(),
        **recipe.optimizer.arguments(),
        **shared_out(recipe),
    }


def shared_out(recipe: TrainingRecipe) -> dict[str, Any]:
    """How weights, gradients and optimizer are shared out among the processes."""
    launch = recipe.launch
    if launch.strategy == "fsdp":
        about = {
            "version": 2,
            "cpu_offload": launch.offload,
            # recomputed inside the shards: once more gathering less than the trainer's own way
            "activation_checkpointing": recipe.gradient_checkpointing,
        }
        return {"fsdp": True, "fsdp_config": about, "gradient_checkpointing": False}
    if launch.strategy in ("zero2", "zero3"):
        zero: dict[str, Any] = {"stage": int(launch.strategy[-1])}
        if launch.offload:
            zero["offload_optimizer"] = {"device": "cpu"}
        if launch.strategy == "zero3":
            zero["stage3_gather_16bit_weights_on_model_save"] = True
            if launch.offload:
                zero["offload_param"] = {"device": "cpu"}
        sizes = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_clipping")
        kinds = {"bf16": {"enabled": "auto"}, "fp16": {"enabled": "auto"}}
        auto = dict.fromkeys((*sizes, "gradient_accumulation_steps"), "auto")
        return {"deepspeed": {"zero_optimization": zero, **kinds, **auto}}
    if launch.strategy == "ddp":
        return {"ddp_find_unused_parameters": False}  # every weight that is trained has a gradient
    if launch.strategy == "tensor":
        return {"save_strategy": "no"}  # see split.keep_checkpoints
    return {}


Config = TypeVar("Config", bound=TrainingArguments)


def made(kind: type[Config], **settings: Any) -> Config:
    """A TRL config without the warning about a name that TRL itself passes on to transformers."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`gradient_checkpointing` is deprecated", FutureWarning)
        found = kind(**settings)
    if found.fsdp and found.use_cpu:
        _share_out_on_a_cpu(found)
    return found


def _share_out_on_a_cpu(settings: Any) -> None:
    """Let accelerate share out weights on a CPU too, so that a recipe can be tried without GPUs.

    It turns FSDP and tensor parallelism on for accelerators only, though nothing in them needs one:
    the kind of the process group, which `settings` has made, is set by hand.
    """
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    if settings.distributed_state is not None and settings.world_size > 1:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def sft_config(recipe: SftRecipe, folder: Path) -> SFTConfig:
    """The trainer's settings for an sft recipe."""
    shared = arguments(recipe, folder)
    if recipe.padding_free:
        shared["max_length"] = None  # TRL wants to be told that no row is too long
    found = made(
        SFTConfig,
        **shared,
        padding_free=recipe.padding_free,
        packing=recipe.packing,
        packing_strategy="bfd",  # whole rows only: none is cut to fill a pack
    )
    if recipe.launch.strategy == "tensor" and found.use_cpu:
        _share_out_on_a_cpu(found)
    return found


ENCODER_SKIPS = ("max_length", "gradient_checkpointing")
"""Settings of language models; an encoder's length is set on the model."""


def encoder_arguments(recipe: SftRecipe, folder: Path) -> dict[str, Any]:
    """What the trainers of embedding models, rerankers and classifiers share."""
    found = arguments(recipe, folder)
    return {key: value for key, value in found.items() if key not in ENCODER_SKIPS}


def embedding_config(
    recipe: SftRecipe, folder: Path, prompts: dict[str, str]
) -> SentenceTransformerTrainingArguments:
    """The trainer's settings for task embedding; `prompts` are the model's own."""
    from sentence_transformers import SentenceTransformerTrainingArguments
    from sentence_transformers.base.sampler import BatchSamplers

    document = prompts.get("document") or prompts.get("passage") or ""
    columns = {"anchor": prompts.get("query", ""), "positive": document}
    columns |= {f"negative_{n}": document for n in range(1, 17)}
    return SentenceTransformerTrainingArguments(
        **encoder_arguments(recipe, folder),
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        prompts=columns if any(columns.values()) else None,
    )


def reranker_config(recipe: SftRecipe, folder: Path) -> CrossEncoderTrainingArguments:
    """The trainer's settings for task reranker."""
    from sentence_transformers.base.sampler import BatchSamplers
    from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments

    return CrossEncoderTrainingArguments(
        **encoder_arguments(recipe, folder), batch_sampler=BatchSamplers.NO_DUPLICATES
    )


def lora_config(lora: Lora, whole: Sequence[str] = ()) -> LoraConfig:
    """PEFT's settings of an adapter on a causal language model.

    `whole` are layers to train whole beside those of the recipe: they hold new tokens.
    """
    modules_to_save = list(dict.fromkeys([*lora.modules_to_save, *whole]))
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        modules_to_save=modules_to_save or None,
        ensure_weight_tying=bool(modules_to_save),
    )


def adapter_of(
    recipe: TrainingRecipe, folder: Path, whole: Sequence[str] = ()
) -> PeftConfig | None:
    """The new adapter that a recipe trains; None when it trains no new one.

    `folder` is the base model's: words of a soft prompt become its vectors. `whole` as above.
    """
    if recipe.method == "full" or (recipe.adapter and recipe.adapter.how == "continue"):
        return None
    if not isinstance(recipe, SftRecipe) or recipe.method in ("lora", "qlora"):
        return lora_config(recipe.lora, whole)
    if recipe.method == "prompt":
        return PromptTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=recipe.prompt.tokens,
            prompt_tuning_init="TEXT" if recipe.prompt.text else "SAMPLE_VOCAB",
            prompt_tuning_init_text=recipe.prompt.text,
            tokenizer_name_or_path=str(folder),
        )
    if recipe.method == "prefix":
        return PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=recipe.prefix.tokens)
    return IA3Config(
        task_type="CAUSAL_LM",
        target_modules=recipe.ia3.target_modules,
        feedforward_modules=recipe.ia3.feedforward_modules,
    )


COMPUTE = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def four_bits(recipe: TrainingRecipe) -> BitsAndBytesConfig | None:
    """How the frozen base is kept in four bits; None when it is not."""
    if recipe.method != "qlora":
        return None
    compute = recipe.qlora.compute
    if compute == "auto":
        compute = "bf16" if uses_bf16(recipe) else "fp32"
    return bits(recipe.qlora, compute)


def bits(qlora: Qlora, compute: str) -> BitsAndBytesConfig:
    """The settings of bitsandbytes for a base of four bits."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=qlora.type,
        bnb_4bit_use_double_quant=qlora.double,
        bnb_4bit_compute_dtype=COMPUTE[compute],
    )
