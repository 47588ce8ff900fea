"""The losses of direct preference optimisation, and which keys of a recipe each of them uses."""

from __future__ import annotations

from typing import Literal, get_args

Paired = Literal[
    "sigmoid",
    "cdpo",
    "robust",
    "ipo",
    "hinge",
    "exo_pair",
    "nca_pair",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sigmoid_norm",
]
"""Pairs against a reference: TRL's DPOTrainer."""
ReferenceFree = Literal["simpo", "cpo", "alphapo", "orpo"]
"""Pairs without a reference: TRL's CPOTrainer and ORPOTrainer."""
Unpaired = Literal["kto", "apo_zero_unpaired"]
"""Single answers labelled good or bad: TRL's KTOTrainer."""
Loss = Literal[Paired, ReferenceFree, Unpaired]
Added = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "nca_pair",
    "bco_pair",
    "sppo_hard",
    "apo_zero",
    "apo_down",
    "sigmoid_norm",
]
"""Paired losses without keys of their own: they can be added to another."""

PAIRED: tuple[str, ...] = get_args(Paired)
REFERENCE_FREE: tuple[str, ...] = get_args(ReferenceFree)
UNPAIRED: tuple[str, ...] = get_args(Unpaired)

DIVERGENT = ("sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "cdpo", "discopop")
"""Losses of the difference of two rewards: only there does a divergence other than KL make sense
(Wang et al. 2023, "Beyond Reverse KL")."""

USED_BY: dict[str, tuple[str, ...]] = {
    "label_smoothing": ("robust", "cdpo", "exo_pair", "aot", "aot_unpaired", "simpo", "cpo"),
    "gamma": ("simpo", "alphapo"),
    "alpha": ("alphapo",),
    "sft_weight": (*PAIRED, "cpo", "simpo"),
    "more_losses": PAIRED,
    "ld_alpha": PAIRED,
    "divergence": DIVERGENT,
    "divergence_alpha": DIVERGENT,
    "tau": ("discopop",),
    "weigh_by_policy": tuple(name for name in PAIRED if not name.startswith("aot")),
    "precompute_reference": (*PAIRED, *UNPAIRED),
    "reference_sync": (*PAIRED, *UNPAIRED),
    "desirable_weight": UNPAIRED,
    "undesirable_weight": UNPAIRED,
}
"""Key of a recipe -> the losses that it means something to."""
DIRECT_KEYS = tuple(USED_BY)
"""Keys that say something only where a loss is chosen: to objective direct."""
