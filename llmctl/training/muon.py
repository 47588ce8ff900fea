"""torch's Muon for matrices and AdamW for the rest, as the one optimizer that a trainer wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class MuonWithAdamW(torch.optim.Optimizer):
    """Two optimizers with one list of groups: a scheduler sets the rates of both."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        # the very groups of the parts: a rate that is set here is the part's rate
        self.param_groups = [group for part in parts for group in part.param_groups]
        for part in parts:  # one state: what is saved and shared out among processes is whole
            part.state = self.state

    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One step of both."""
        for part in self.parts:
            part.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What `state_dict` gave, for both."""
        super().load_state_dict(state_dict)
        rest = iter(self.param_groups)
        for part in self.parts:
            part.param_groups = [next(rest) for _ in part.param_groups]
            part.state = self.state


class Factory:
    """What transformers' trainer calls to have an optimizer built from a model."""

    def __call__(
        self, model: nn.Module, lr: float, weight_decay: float, momentum: float
    ) -> torch.optim.Optimizer:
        """Matrices inside the layers go to Muon; the token tables and vectors to AdamW."""
        tables = {
            id(parameter)
            for module in model.modules()
            if isinstance(module, nn.Embedding)
            for parameter in module.parameters()
        }
        trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in trained:
            inner = parameter.ndim == 2 and id(parameter) not in tables and "lm_head" not in name
            (matrices if inner else others).append(parameter)
        parts: list[torch.optim.Optimizer] = []
        if matrices:
            parts.append(
                torch.optim.Muon(
                    matrices,
                    lr=lr,
                    weight_decay=weight_decay,
                    momentum=momentum,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        if others:
            parts.append(torch.optim.AdamW(others, lr=lr, weight_decay=weight_decay))
        return MuonWithAdamW(parts)
