"""Recipe -> the settings of TRL's direct trainers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from trl.trainer.dpo_config import DPOConfig
from trl.trainer.kto_config import KTOConfig

from llmctl.schema.dpo import DpoRecipe
from llmctl.schema.losses import PAIRED, UNPAIRED
from llmctl.training import config

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # "experimental": this file is what keeps up with its changes
    from trl.experimental.cpo import CPOConfig
    from trl.experimental.orpo import ORPOConfig

OF_CPO = {"simpo": "simpo", "alphapo": "simpo", "cpo": "sigmoid"}


def config_of(recipe: DpoRecipe, folder: Path) -> Any:
    """The settings of the trainer that has the recipe's loss."""
    if recipe.loss in PAIRED:
        return dpo_config(recipe, folder)
    if recipe.loss in UNPAIRED:
        return kto_config(recipe, folder)
    return orpo_config(recipe, folder) if recipe.loss == "orpo" else cpo_config(recipe, folder)


def _reference(recipe: DpoRecipe) -> dict[str, Any]:
    found: dict[str, Any] = {"precompute_ref_log_probs": recipe.precompute_reference}
    if recipe.reference_sync is not None:
        found |= {
            "sync_ref_model": True,
            "ref_model_sync_steps": recipe.reference_sync.every,
            "ref_model_mixup_alpha": recipe.reference_sync.share,
        }
    return found


def dpo_config(recipe: DpoRecipe, folder: Path) -> DPOConfig:
    """Pairs against a reference."""
    loss, smoothing = recipe.loss, recipe.label_smoothing
    if loss == "cdpo":
        loss, smoothing = "robust", robust_smoothing(smoothing)
    parts = {str(loss): 1.0} | recipe.more_losses
    if recipe.sft_weight:
        parts["sft"] = recipe.sft_weight
    return config.made(
        DPOConfig,
        **config.arguments(recipe, folder),
        **_reference(recipe),
        loss_type=list(parts),
        loss_weights=list(parts.values()),
        beta=recipe.beta,
        label_smoothing=smoothing,
        ld_alpha=recipe.ld_alpha,
        f_divergence_type=recipe.divergence,
        f_alpha_divergence_coef=recipe.divergence_alpha,
        discopop_tau=recipe.tau,
        use_weighting=recipe.weigh_by_policy,
    )


def robust_smoothing(flipped: float) -> float:
    """The smoothing with which TRL's `robust` is the conservative loss of `flipped`.

    Conservative DPO (Mitchell 2023) is -(1-e) log s(h) - e log s(-h), robust DPO (Chowdhury et al.
    2024, eq. 12) is (-(1-r) log s(h) + r log s(-h)) / (1 - 2r): they are the same formula with
    r = -e / (1 - 2e).
    """
    return -flipped / (1 - 2 * flipped)


def kto_config(recipe: DpoRecipe, folder: Path) -> KTOConfig:
    """Labelled answers against a reference."""
    return config.made(
        KTOConfig,
        **config.arguments(recipe, folder),
        **_reference(recipe),
        loss_type=recipe.loss,
        beta=recipe.beta,
        desirable_weight=recipe.desirable_weight,
        undesirable_weight=recipe.undesirable_weight,
    )


def cpo_config(recipe: DpoRecipe, folder: Path) -> CPOConfig:
    """Pairs without a reference: CPO (Xu et al. 2024), SimPO (Meng et al. 2024), AlphaPO."""
    default = 1.0 if recipe.loss == "cpo" else 0.0
    return config.made(
        CPOConfig,
        **config.arguments(recipe, folder),
        loss_type=OF_CPO[recipe.loss],
        beta=recipe.beta,
        label_smoothing=recipe.label_smoothing,
        cpo_alpha=default if recipe.sft_weight is None else recipe.sft_weight,
        simpo_gamma=recipe.gamma,
        alpha=recipe.alpha,
        remove_unused_columns=False,
    )


def orpo_config(recipe: DpoRecipe, folder: Path) -> ORPOConfig:
    """Pairs without a reference: ORPO (Hong et al. 2024); `beta` is its lambda."""
    return config.made(
        ORPOConfig,
        **config.arguments(recipe, folder),
        beta=recipe.beta,
        remove_unused_columns=False,
    )
