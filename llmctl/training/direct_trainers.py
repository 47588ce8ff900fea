"""TRL's direct trainers with our tokens: what was checked is what is trained on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from datasets import Dataset
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer

from llmctl import modelref
from llmctl.artifact import Artifact
from llmctl.schema.dpo import DpoRecipe
from llmctl.schema.losses import PAIRED, UNPAIRED
from llmctl.training import config, direct_config, reference, vocabulary
from llmctl.training.preference import LabelledTokens, PairTokens
from llmctl.training.vocabulary import Vocabulary

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # "experimental", as in direct_config.py
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer


REFERENCE = ("ref_chosen_logps", "ref_logps")
"""Columns of the reference's log-probabilities."""


class PairTrainer(DPOTrainer):
    """Pairs against a reference."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *rest: Any, **named: Any) -> Any:
        if any(name in dataset.column_names for name in REFERENCE):
            return dataset  # known from an earlier run
        return super()._precompute_ref_logps(dataset, *rest, **named)


class LabelTrainer(KTOTrainer):
    """Labelled answers against a reference."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *rest: Any, **named: Any) -> Any:
        if any(name in dataset.column_names for name in REFERENCE):
            return dataset  # known from an earlier run
        return super()._precompute_ref_logps(dataset, *rest, **named)


def _concatenated(row: dict[str, Any], max_length: int) -> dict[str, list[int]]:
    """The columns of TRL's older trainers, with labels on the answers only."""
    found = {
        "prompt_input_ids": row["prompt_ids"],
        "prompt_attention_mask": [1] * len(row["prompt_ids"]),
    }
    for side in ("chosen", "rejected"):
        ids = (row["prompt_ids"] + row[f"{side}_ids"])[:max_length]
        found[f"{side}_input_ids"] = ids
        found[f"{side}_attention_mask"] = [1] * len(ids)
        found[f"{side}_labels"] = [-100] * len(row["prompt_ids"]) + ids[len(row["prompt_ids"]) :]
    return found


class ContrastTrainer(CPOTrainer):
    """Pairs without a reference; TRL's own rows would get a second beginning and end of turn."""

    def tokenize_row(self, feature: Any, model: Any = None) -> dict[str, Any]:
        """Our tokens."""
        return _concatenated(feature, self.max_length)


class OddsTrainer(ORPOTrainer):
    """Pairs without a reference, by odds."""

    def tokenize_row(self, feature: Any, model: Any = None) -> dict[str, Any]:
        """Our tokens."""
        return _concatenated(feature, self.max_length)


def pair_rows(pairs: Sequence[PairTokens]) -> list[dict[str, Any]]:
    """Columns of pairs."""
    return [
        {"prompt_ids": p.prompt, "chosen_ids": p.chosen, "rejected_ids": p.rejected} for p in pairs
    ]


def label_rows(
    answers: Sequence[LabelledTokens], batch_size: int, seed: int, kl: bool
) -> list[dict[str, Any]]:
    """Columns of labelled answers, in the order in which they are trained.

    TRL reads them in order, so they are shuffled here. For the KL term each prompt of a batch also
    gets the answer of its neighbour (Ethayarajh et al. 2024, section 4.2).
    """
    order = list(answers)
    Random(seed).shuffle(order)
    rows = []
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        for at, each in enumerate(batch):
            row = {"prompt_ids": each.prompt, "completion_ids": each.answer, "label": each.good}
            if kl:
                row["KL_completion_ids"] = batch[at - 1].answer
            rows.append(row)
    return rows


def build(
    recipe: DpoRecipe,
    artifact: Artifact,
    policy: Any,
    words: Vocabulary,
    pairs: Sequence[PairTokens],
    labelled: Sequence[LabelledTokens] = (),
) -> Any:
    """The trainer of the recipe's loss; it adds the adapter to `policy`."""
    if recipe.loss in UNPAIRED:
        rows = label_rows(labelled, recipe.batch_size, recipe.seed, recipe.loss == "kto")
    else:
        rows = pair_rows(pairs)
    kind: Any = PairTrainer if recipe.loss in PAIRED else LabelTrainer
    if recipe.loss not in (*PAIRED, *UNPAIRED):
        kind = OddsTrainer if recipe.loss == "orpo" else ContrastTrainer
        rows = [{"prompt": "", "chosen": "", "rejected": "", **row} for row in rows]
    args = direct_config.config_of(recipe, artifact.scratch / "checkpoints")
    key, known = "", None
    if recipe.precompute_reference:
        key = reference.key_of(recipe, policy, rows)
        known = reference.known(recipe, artifact, key)
    if known is not None:
        dataset = reference.beside(rows, known)
    elif recipe.precompute_reference:
        # beside the checkpoints, which all processes share
        dataset = reference.stored(rows, Path(args.output_dir) / f"rows-{key[:16]}", args)
    else:
        dataset = Dataset.from_list(rows)
    trainer = kind(
        model=policy,
        args=args,
        train_dataset=dataset,
        processing_class=words.tokenizer,
        peft_config=config.adapter_of(
            recipe, modelref.hf_folder(recipe.model), vocabulary.layers(policy, words)
        ),
    )
    if recipe.precompute_reference and known is None:
        reference.keep(artifact, key, reference.computed(trainer.train_dataset, rows[0]))
    return trainer
