"""TRL's direct trainers with our tokens: what was checked is what is trained on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from datasets import Dataset, load_from_disk
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer

from llmctl import modelref
from llmctl.schema.dpo import DpoRecipe
from llmctl.schema.losses import PAIRED, UNPAIRED
from llmctl.training import config, direct_config, vocabulary
from llmctl.training.preference import LabelledTokens, PairTokens
from llmctl.training.vocabulary import Vocabulary

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # "experimental", as in direct_config.py
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer


class PairTrainer(DPOTrainer):
    """Pairs against a reference."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


class LabelTrainer(KTOTrainer):
    """Labelled answers against a reference."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


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


def stored(rows: list[dict[str, Any]], folder: Path) -> Dataset:
    """The rows as files in `folder`; TRL caches the reference's log-probabilities beside them."""
    if not (folder / "state.json").is_file():
        Dataset.from_list(rows).save_to_disk(str(folder))
    return load_from_disk(str(folder))


def build(
    recipe: DpoRecipe,
    scratch: Path,
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
    precomputed = recipe.precompute_reference
    folder = scratch / f"rows-{recipe.batch_size}"  # kto's neighbours are those of a batch
    return kind(
        model=policy,
        args=direct_config.config_of(recipe, scratch / "checkpoints"),
        train_dataset=stored(rows, folder) if precomputed else Dataset.from_list(rows),
        processing_class=words.tokenizer,
        peft_config=config.adapter_of(
            recipe, modelref.hf_folder(recipe.model), vocabulary.layers(policy, words)
        ),
    )
