"""Tensor parallelism: each layer's matrices are cut among processes that all see the same rows.

transformers cuts them while it reads the weights, by the plan that the model's class brings, and
trains the pieces. It keeps no checkpoint that such a run could go on from; that is done here, with
its own writer and reader of a cut optimizer's state.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.trainer_utils import SaveStrategy

from llmctl.errors import InputError, MissingError

OPTIMIZER = "optimizer"
"""Folder of a checkpoint that has the optimizer's pieces."""
SCHEDULER = "scheduler.pt"
HEADS = ("num_attention_heads", "num_key_value_heads")


def settings(folder: Path, processes: int) -> dict[str, Any]:
    """What from_pretrained takes to cut a model; nothing for one process.

    A head is never cut, so the processes have to share the heads evenly.
    """
    if processes == 1:
        return {}
    try:
        from transformers.distributed import DistributedConfig, checkpoint
    except ImportError:
        checkpoint = None
    if not hasattr(checkpoint, "save_optimizer_distributed"):
        raise MissingError(
            "launch.strategy: tensor needs transformers 5.24 or newer: pip install -U transformers"
        )
    config = json.loads((folder / "config.json").read_bytes())
    for key in HEADS:
        if config.get(key, processes) % processes:
            raise InputError(
                f"launch.strategy: tensor: the model's {config[key]} {key} cannot be shared out "
                f"among {processes} processes; use fsdp"
            )
    return {"distributed_config": DistributedConfig(tp_size=processes)}


def keep_checkpoints(trainer: Any) -> None:
    """Let a trainer of a cut model save and load what it needs to go on."""
    from transformers.distributed.checkpoint import (
        load_optimizer_distributed,
        save_optimizer_distributed,
    )

    trainer.args.save_strategy = SaveStrategy.STEPS  # the trainer refuses it when it is made

    def save(folder: str) -> None:
        optimizer = trainer.optimizer.optimizer  # inside accelerate's
        save_optimizer_distributed(trainer.model, optimizer, str(Path(folder) / OPTIMIZER))
        if trainer.args.should_save:
            torch.save(trainer.lr_scheduler.state_dict(), Path(folder) / SCHEDULER)

    def load(folder: str | None) -> None:
        if folder is None:
            return
        optimizer = trainer.optimizer.optimizer
        load_optimizer_distributed(trainer.model, optimizer, str(Path(folder) / OPTIMIZER))
        state = torch.load(Path(folder) / SCHEDULER, weights_only=True)
        trainer.lr_scheduler.load_state_dict(state)

    trainer._save_optimizer_and_scheduler = save
    trainer._load_optimizer_and_scheduler = load
    trainer._load_from_checkpoint = lambda folder, *_: put_back(trainer.model, Path(folder))
    trainer._load_best_model = lambda: put_back(
        trainer.model, Path(trainer.state.best_model_checkpoint)
    )


@torch.no_grad()
def put_back(model: Any, folder: Path) -> None:
    """Give a cut model the whole weights of a checkpoint."""
    weights: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
    for name, weight in model.named_parameters():
        whole = weights[name].to(weight.dtype)
        if isinstance(weight, DTensor):
            # every process has read the file: nothing is sent
            whole = distribute_tensor(
                whole.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None
            )
        weight.copy_(whole)


def gathered(model: Any) -> dict[str, torch.Tensor]:
    """The whole weights of a cut model, in each process."""
    return {
        name: each.full_tensor() if isinstance(each, DTensor) else each
        for name, each in model.state_dict().items()
    }
