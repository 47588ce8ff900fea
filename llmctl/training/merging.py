"""How changes of one tensor are joined; a change is a source's weight minus the base's.

Task arithmetic: Ilharco et al. 2022; TIES: Yadav et al. 2023, section 3; DARE: Yu et al. 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def joined(
    changes: Sequence[Tensor],
    weights: Sequence[float],
    method: str,
    density: float,
    generator: torch.Generator,
) -> Tensor:
    """One change from several, all of the same shape."""
    if method.startswith("dare"):
        changes = [dropped(each, density, generator) for each in changes]
    elif method == "ties":
        changes = [trimmed(each, density) for each in changes]
    if method.endswith("ties"):
        return agreed(changes, weights)
    return linear(changes, weights)


def linear(changes: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted sum."""
    total = torch.zeros_like(changes[0])
    for change, weight in zip(changes, weights, strict=True):
        total += weight * change
    return total


def trimmed(change: Tensor, density: float) -> Tensor:
    """The change where it is among the largest `density` of all places, 0 elsewhere."""
    keep = max(1, round(density * change.numel()))
    flat = change.flatten()
    kept = torch.zeros_like(flat)
    places = flat.abs().topk(keep).indices
    kept[places] = flat[places]
    return kept.view_as(change)


def dropped(change: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """The change at a random `density` of all places, enlarged so that its mean stays."""
    kept = torch.rand(change.shape, generator=generator) < density
    return torch.where(kept, change / density, 0)


def agreed(changes: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """At each place the weighted mean of the changes whose sign is that of the weighted sum."""
    sign = linear(changes, weights).sign()
    total, mass = torch.zeros_like(changes[0]), torch.zeros_like(changes[0])
    for change, weight in zip(changes, weights, strict=True):
        same = (change * weight).sign() == sign
        same &= change != 0
        total += torch.where(same, weight * change, 0)
        mass += torch.where(same, abs(weight), 0)
    return torch.where(mass > 0, total / mass.clamp(min=1e-12), 0)
