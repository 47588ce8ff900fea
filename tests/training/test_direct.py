"""Direct losses: the formulas behind the names, and curves that are those of bare TRL."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from tiny_tokenizer import tiny_llama
from training_runs import PAIRS, log, recipe, run

from llmctl.artifact import Artifact
from llmctl.schema.losses import PAIRED
from llmctl.training import direct_config

pytestmark = pytest.mark.model

STEPS = 4


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("letters") / "model")


def split(folder: Path) -> tuple[Path, Path, list[dict[str, Any]]]:
    """(rows to learn from, rows to measure with, the former as columns)."""
    lines = PAIRS.read_text().splitlines()
    train, held = folder / "train.jsonl", folder / "held.jsonl"
    train.write_text("\n".join(lines[:12]) + "\n")
    held.write_text("\n".join(lines[12:]) + "\n")
    rows = [json.loads(line) for line in lines[:12]]
    return (
        train,
        held,
        [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows],
    )


def arguments(folder: Path) -> dict[str, Any]:
    """What `training_runs.recipe` asks, in TRL's words."""
    return {
        "output_dir": str(folder), "max_steps": STEPS, "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2, "learning_rate": 1e-3, "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1, "max_length": 256, "bf16": False, "gradient_checkpointing": False,
        "use_cpu": True, "logging_steps": 1, "save_strategy": "no", "seed": 42, "data_seed": 42,
        "beta": 0.1, "report_to": "none", "disable_tqdm": True,
    }  # fmt: skip


def ours(model: Path, folder: Path, **keys: Any) -> list[float]:
    train, held, _ = split(folder)
    made = recipe(
        "dpo", model, train, max_steps=STEPS, batch_size=2, gradient_accumulation=2,
        data={"validation": str(held)}, **keys,
    )  # fmt: skip
    return [row["loss"] for row in log(run(made, folder / "ours"))]


def bare(trainer: type, args: Any, model: Path, columns: list[dict[str, Any]]) -> list[float]:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = trainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=args, train_dataset=Dataset.from_list(columns),
        processing_class=AutoTokenizer.from_pretrained(model),
    )  # fmt: skip
    made.train()
    return [row["loss"] for row in made.state.log_history if "loss" in row]


@pytest.mark.parametrize("precomputed", [False, True])
def test_full_training_has_the_curve_of_bare_trl(
    letters: Path, tmp_path: Path, precomputed: bool
) -> None:
    from trl import DPOConfig, DPOTrainer

    found = ours(letters, tmp_path, method="full", precompute_reference=precomputed)
    theirs = bare(
        DPOTrainer, DPOConfig(**arguments(tmp_path / "bare")), letters, split(tmp_path)[2]
    )
    assert found[0] == pytest.approx(math.log(2), abs=1e-4)
    assert found == pytest.approx(theirs, abs=1e-5)
    assert found[-1] < found[0] - 0.01


def test_kto_has_the_curve_of_bare_trl(letters: Path, tmp_path: Path) -> None:
    from trl import KTOConfig, KTOTrainer

    found = ours(letters, tmp_path, method="full", loss="kto")
    columns = [
        {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"}
        for row in split(tmp_path)[2]
        for name in ("chosen", "rejected")
    ]
    Random(42).shuffle(columns)  # TRL reads them in order
    theirs = bare(KTOTrainer, KTOConfig(**arguments(tmp_path / "bare")), letters, columns)
    assert found == pytest.approx(theirs, abs=1e-5)


def test_a_resumed_run_does_not_compute_the_reference_again(letters: Path, tmp_path: Path) -> None:
    def build() -> Any:
        return trainer_of("sigmoid", letters, tmp_path, precompute_reference=True)

    first = build()
    kept = tmp_path / "reference.json"
    shutil.rmtree(tmp_path / "scratch")  # a finished artifact has none
    second = build()
    assert not list(tmp_path.glob("scratch/checkpoints/rows-*"))
    for name in ("ref_chosen_logps", "ref_rejected_logps"):
        assert list(second.train_dataset[name]) == list(first.train_dataset[name])
        assert json.loads(kept.read_text())["columns"][name] == list(first.train_dataset[name])


def test_another_run_takes_the_reference_from_the_artifact_before(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import DPOTrainer

    keys: dict[str, Any] = {"precompute_reference": True, "samples": {"rows": 0}}
    keys |= {"out": str(tmp_path / "out")}
    run(recipe("dpo", letters, PAIRS, **keys), tmp_path / "out")
    monkeypatch.delattr(DPOTrainer, "compute_ref_log_probs")
    slower = recipe("dpo", letters, PAIRS, **keys, learning_rate=1e-4)
    again = run(slower, tmp_path / "other")
    files = [folder / "reference.json" for folder in (tmp_path / "out", again.folder)]
    assert files[0].read_bytes() == files[1].read_bytes()
    for change in ({"max_length": 250}, {"batch_size": 2}):
        with pytest.raises(AttributeError, match="compute_ref_log_probs"):
            run(recipe("dpo", letters, PAIRS, **keys | change), tmp_path / "third")


def test_answers_before_and_after_tell_the_distance(letters: Path, tmp_path: Path) -> None:
    train, held, _ = split(tmp_path)
    made = recipe(
        "dpo", letters, train, method="full", learning_rate=1e-1, data={"validation": str(held)},
        answers={"rows": 4, "max_tokens": 24, "judge": {"kind": "match"}},
    )  # fmt: skip
    artifact = run(made, tmp_path / "ours")
    found = artifact.metrics
    assert found["kl"] > 2 * found["kl_se"] > 0
    assert 0 < found["length_after"] <= 24
    assert found["length_diff"] == found["length_after"] - found["length_before"]
    assert found["win_rate_unmeasured"] == 4 and "win_rate" not in found  # no row has a reference
    kept = json.loads((tmp_path / "ours/scratch/answers.json").read_text())
    assert len(kept) == 4 and all(0 < len(each) <= 24 for each in kept)


NEEDS: dict[str, dict[str, Any]] = {
    "exo_pair": {"label_smoothing": 1e-3},
    "alphapo": {"alpha": 0.2, "beta": 1.0},
    "cdpo": {"label_smoothing": 0.1},
    "robust": {"label_smoothing": 0.1},
}


def trainer_of(loss: str, model: Path, folder: Path, **keys: Any) -> Any:
    """The trainer of a loss for four pairs."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llmctl.training import direct_trainers, preference, preference_rows
    from llmctl.training.vocabulary import Vocabulary

    keys = {"batch_size": 2, "gradient_accumulation": 1, **NEEDS.get(loss, {}), **keys}
    made = recipe("dpo", model, PAIRS, loss=loss, max_steps=1, **keys)
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = [json.loads(line) for line in PAIRS.read_text().splitlines()[:4]]
    pairs = [preference.tokens_of(tokenizer, row, "here") for row in rows]
    weights = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    return direct_trainers.build(
        made,
        Artifact(folder),
        weights,
        Vocabulary(tokenizer),
        pairs,
        preference_rows.unpaired(pairs),
    )


def test_every_paired_loss_has_a_gradient(letters: Path, tmp_path: Path) -> None:
    asked = {}
    for loss in PAIRED:
        made = recipe("dpo", letters, PAIRS, loss=loss, batch_size=2, **NEEDS.get(loss, {}))
        asked[loss] = direct_config.config_of(made, tmp_path)
    trainer = trainer_of("sigmoid", letters, tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    weights = [p for p in trainer.model.parameters() if p.requires_grad]
    found = {}
    for loss, args in asked.items():
        trainer.loss_types, trainer.label_smoothing = args.loss_type, args.label_smoothing
        value = trainer.compute_loss(trainer.model, batch)
        slopes = torch.autograd.grad(value, weights)
        assert math.isfinite(float(value)) and any(each.abs().sum() > 0 for each in slopes), loss
        found[loss] = float(value)
    assert found["sigmoid"] == found["cdpo"] == pytest.approx(math.log(2), abs=1e-5)
    assert found["hinge"] == pytest.approx(1, abs=1e-5)  # no margin at the start
    assert found["ipo"] == pytest.approx((1 / 0.2) ** 2, abs=1e-3)


def test_losses_are_added_with_their_weights(letters: Path, tmp_path: Path) -> None:
    def first(loss: str, **keys: Any) -> float:
        trainer = trainer_of(loss, letters, tmp_path, **keys)
        return float(
            trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
        )

    alone = {loss: first(loss) for loss in ("sigmoid", "ipo", "hinge")}
    together = first("sigmoid", more_losses={"ipo": 0.5, "hinge": 2.0})
    wanted = alone["sigmoid"] + 0.5 * alone["ipo"] + 2.0 * alone["hinge"]
    assert together == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"loss": "ipo", "more_losses": {"ipo": 1.0}}, "ipo is the loss already"),
        ({"loss": "simpo", "more_losses": {"ipo": 1.0}}, "has no effect on loss: simpo"),
        ({"more_losses": {"ipo": 0.0}}, "greater than 0"),
        ({"more_losses": {"bco_pair": 1.0}, "divergence": "forward_kl"}, "losses of margins"),
    ],
)
def test_losses_that_cannot_be_added(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        recipe("dpo", Path("model"), PAIRS, **keys)


@pytest.mark.parametrize("loss", ["cpo", "alphapo", "orpo", "apo_zero_unpaired"])
def test_every_trainer_takes_a_step(loss: str, letters: Path, tmp_path: Path) -> None:
    trainer = trainer_of(loss, letters, tmp_path)
    trainer.train()
    logged = next(row for row in trainer.state.log_history if "loss" in row)
    assert math.isfinite(logged["loss"]) and logged["grad_norm"] > 0


@pytest.mark.parametrize("flipped", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("margin", [-2.0, 0.3, 5.0])
def test_conservative_dpo_is_robust_dpo_with_another_smoothing(
    flipped: float, margin: float
) -> None:
    def log_sigmoid(x: float) -> float:
        return -math.log1p(math.exp(-x))

    wanted = -(1 - flipped) * log_sigmoid(margin) - flipped * log_sigmoid(-margin)
    r = direct_config.robust_smoothing(flipped)
    robust = (-(1 - r) * log_sigmoid(margin) + r * log_sigmoid(-margin)) / (1 - 2 * r)
    assert robust == pytest.approx(wanted, abs=1e-12)


def test_simpo_is_what_its_paper_says(letters: Path, tmp_path: Path) -> None:
    """-log s(beta/|w| log p(w) - beta/|l| log p(l) - gamma) (Meng et al. 2024, eq. 6)."""
    from llmctl.training import preference

    trainer = trainer_of("simpo", letters, tmp_path, beta=2.0, gamma=1.0, batch_size=4)
    pairs = [
        preference.PairTokens("x", row["prompt_ids"], row["chosen_ids"], row["rejected_ids"])
        for row in trainer.train_dataset
    ]
    scores = preference.scores(trainer.model, pairs, "scores")
    wanted = [
        math.log1p(math.exp(-(2.0 * chosen / c - 2.0 * rejected / r - 1.0)))
        for chosen, c, rejected, r in scores
    ]
    trainer.train()
    found = next(row["loss"] for row in trainer.state.log_history if "loss" in row)
    assert found == pytest.approx(sum(wanted) / 4, abs=1e-4)


def test_the_held_out_pairs_are_measured_on_the_way(letters: Path, tmp_path: Path) -> None:
    train, held, _ = split(tmp_path)
    made = recipe(
        "dpo", letters, train, max_steps=4, eval_every=2, data={"validation": str(held)},
        samples={"rows": 1, "max_tokens": 4},
    )  # fmt: skip
    artifact = run(made, tmp_path / "out")
    measured = [row for row in log(artifact) if "eval_loss" in row]
    assert [row["step"] for row in measured] == [2, 4]
    assert measured[-1]["eval_loss"] < math.log(2)
    assert measured[-1]["eval_reward_accuracy"] == artifact.metrics["reward_accuracy"]
    assert {json.loads(line)["step"] for line in (tmp_path / "out/samples.jsonl").open()} == {
        0, 2, 4,
    }  # fmt: skip


def test_a_loss_of_margins_is_that_of_its_formula() -> None:
    from llmctl.training import preference

    found = preference.eval_loss([(-9.0, 3, -7.0, 2)], [(-8.0, 3, -7.5, 2)], [], 0.2)
    margin = 0.2 * (1.0 + 0.5)
    assert found["eval_loss"] == pytest.approx(math.log(1 + math.exp(-margin)))
    assert found["eval_reward_accuracy"] == 1
    both = preference.eval_loss([(-9.0, 3)] * 2, [(-8.0, 3)] * 2, [True, False], 0.2)
    wanted = [math.log(1 + math.exp(-0.2)), math.log(1 + math.exp(0.2))]
    assert both["eval_loss"] == pytest.approx(sum(wanted) / 2)
