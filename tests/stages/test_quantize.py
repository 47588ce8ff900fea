"""quantize with llama.cpp itself, on a random model of two layers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_cpp")
pytest.importorskip("torch")
import yaml

from llmctl import modelref
from llmctl.quantizers.gguf import worker

pytestmark = pytest.mark.model
SAMPLES = Path(__file__).parents[2] / "recipes" / "samples"
TYPES = ["Q8_0", "Q4_0", "Q4_K_M"]


def written(folder: Path, **keys: Any) -> Path:
    path = folder / "recipe.yaml"
    recipe = {
        "stage": "quantize",
        "out": str(folder / "out"),
        "evaluate_on": str(SAMPLES / "docs" / "heat-pump.md"),
        "tokens": 128,
        "window": 64,
        "name": "tiny",
        "prompt": "Why?",
    }
    path.write_text(yaml.safe_dump({**recipe, **keys}))
    return path


@pytest.fixture(scope="module")
def wide(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model whose rows have 256 weights, which the k-quants need."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("wide") / "model"
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=512, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
        tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(llmctl: Any, wide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with three types and the f16 file."""
    folder = tmp_path_factory.mktemp("quantize")
    method = {"kind": "gguf", "types": TYPES, "keep_f16": True, "threads": 1}
    gate = {"max_perplexity_increase": 9.0, "min_agreement": 0.0}
    done = llmctl("quantize", written(folder, model=str(wide), method=method, gate=gate))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{folder / 'out'}\n"
    return folder / "out"


def test_each_type_is_measured_against_the_source(made: Path, wide: Path) -> None:
    table = json.loads((made / "table.json").read_text())
    rows = {row["type"]: row for row in table["files"]}
    assert list(rows) == ["F16", *TYPES]
    for row in rows.values():
        assert (made / row["file"]).stat().st_size == row["bytes"]
    assert rows["F16"]["bytes"] > rows["Q8_0"]["bytes"] > rows["Q4_0"]["bytes"]
    assert rows["F16"]["perplexity"] == pytest.approx(table["source"]["perplexity"], rel=1e-3)
    assert rows["F16"]["agreement"] > 0.97
    assert rows["F16"]["kl"] < rows["Q8_0"]["kl"] < rows["Q4_0"]["kl"]
    assert rows["Q8_0"]["agreement"] > rows["Q4_0"]["agreement"]
    assert 8 < rows["Q8_0"]["bits_per_weight"] < 12
    assert all(row["tokens"] == 2 * 63 for row in rows.values())
    assert table["source"]["bytes"] == (wide / "model.safetensors").stat().st_size


def test_the_first_type_is_the_model_with_the_sources_identity(made: Path, wide: Path) -> None:
    model = json.loads((made / "manifest.json").read_text())["model"]
    source = modelref.identity(wide)
    assert model["path"] == "tiny-Q8_0.gguf"
    assert (model["form"], model["base"]) == ("gguf", str(wide))
    assert model["tokenizer"] == source["tokenizer"]
    assert model["chat_template"] == source["chat_template"]
    assert modelref.locate(str(made)) == made / "tiny-Q8_0.gguf"


def test_llama_cpp_cuts_tokens_as_the_source_does(made: Path, wide: Path) -> None:
    from transformers import AutoTokenizer

    texts = ["Grüße: 12345 tokens!\n\n  don't 你好 🙂", "<|im_start|>user\nhi<|im_end|>\n"]
    tokenizer = AutoTokenizer.from_pretrained(wide)
    with worker(1) as run:
        found = run.tokenize(made / "tiny-Q4_K_M.gguf", texts)
    assert found == [tokenizer(text, add_special_tokens=False).input_ids for text in texts]


def test_a_report_shows_every_file(made: Path) -> None:
    html = (made / "report.html").read_text()
    assert all(each in html for each in ["F16", *TYPES])
    assert "<svg" in html and "http" not in html.replace("http-equiv", "")


def test_a_file_that_lost_quality_stops_the_chain(llmctl: Any, wide: Path, tmp_path: Path) -> None:
    method = {"kind": "gguf", "types": ["Q4_0"], "threads": 1}
    recipe = written(tmp_path, model=str(wide), method=method, gate={"min_agreement": 1.0})
    done = llmctl("quantize", recipe, "-q")
    assert done.returncode == 4
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{tmp_path / 'out'}: tiny-Q4_0.gguf: 0.")
    assert "(gate.min_agreement)" in line
    assert (tmp_path / "out" / "report.html").is_file(), "there to look at"

    later = tmp_path / "later.yaml"
    later.write_text(recipe.read_text().replace(str(wide), str(tmp_path / "out")))
    refused = llmctl("quantize", later, "--out", tmp_path / "later")
    assert refused.returncode == 2
    assert "did not pass its gate" in refused.stderr
    assert llmctl("quantize", recipe, "--set", "gate.min_agreement=0.0", "-q").returncode == 0


def test_a_killed_run_makes_no_file_twice(
    wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmctl.quantizers import gguf
    from llmctl.quantizers.base import Quantizer

    method = Quantizer.of({"kind": "gguf", "types": ["Q8_0", "Q4_0"], "threads": 1})
    steps = method.quantize(wide, "tiny", tmp_path)
    assert [next(steps).type, next(steps).type] == ["F16", "Q8_0"]
    steps.close()
    asked = []
    ask = gguf.Worker.ask

    def spy(self: Any, **request: Any) -> Any:
        asked.append((request["do"], request.get("type")))
        return ask(self, **request)

    monkeypatch.setattr(gguf.Worker, "ask", spy)
    assert [each.type for each in method.quantize(wide, "tiny", tmp_path)] == [
        "F16", "Q8_0", "Q4_0",
    ]  # fmt: skip
    assert asked == [("quantize", "Q4_0")]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"method": {"kind": "gguf", "types": ["Q4_K_N"]}}, "did you mean Q4_K_M?"),
        ({"method": {"kind": "gguf", "types": ["Q8_0", "Q8_0"]}}, "there twice"),
        ({"method": "gptqq"}, "no quantizer named 'gptqq'"),
        ({"tokens": 64, "window": 128}, "less than one window"),
        ({"name": "a/b"}, "name"),
        ({"evaluate_on": "none.md"}, "none.md is not there"),
    ],
)
def test_a_wrong_recipe_is_one_line(
    llmctl: Any, tiny_model: Path, tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    done = llmctl("quantize", written(tmp_path, model=str(tiny_model), **keys))
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"{tmp_path / 'recipe.yaml'}:")


def test_what_gguf_cannot_hold_is_said(llmctl: Any, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["OtherModel"]}))
    done = llmctl("quantize", written(tmp_path, model=str(folder)), "-q")
    assert done.returncode == 2
    assert "OtherModel cannot be written as GGUF yet" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_empty_text_is_said(llmctl: Any, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.md").write_text("\n")
    recipe = written(tmp_path, model=str(tiny_model), evaluate_on=str(tmp_path / "empty.md"))
    done = llmctl("quantize", recipe, "-q")
    assert done.returncode == 2
    assert "at least 8 are needed" in done.stderr
