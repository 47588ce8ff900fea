"""From what a recipe calls a model to files that a backend can open.

    pkg:NAME           weights inside an installed Python package
    FILE.gguf          a llama.cpp file
    FOLDER             an ordinary Hugging Face folder (safetensors)
    ARTIFACT           a folder that sft, dpo or quantize wrote; its manifest has the model's path
    OWNER/NAME         a Hugging Face hub id, from the local cache first

Pickle checkpoints are refused. A GGUF is converted to a folder once and kept by its digest.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import struct
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, BinaryIO, Literal

from llmctl import digest
from llmctl.errors import InputError, MissingError, install_hint

FORMS = "a hub id, a folder, a .gguf file, pkg:NAME or an artifact folder"
SOFT = ("PROMPT_TUNING", "PREFIX_TUNING")
"""What PEFT calls the adapters that no weight of a model can take up."""
ON_ITS_BASE = (
    "write engine: {kind: transformers, model: BASE, adapter: FOLDER} to use it, or train with "
    "method: lora for one model or a GGUF file"
)
"""What can be done with a soft prompt or a prefix."""
WEIGHT_TYPES: dict[str, Literal["bf16", "fp16"]] = {"bfloat16": "bf16", "float16": "fp16"}
"""What config.json calls a type of 16 bits -> what a recipe calls it; every other is kept in 32."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def locate(ref: str) -> Path:
    """The GGUF file or the Hugging Face folder of a reference; raises one line otherwise."""
    if ref.startswith("pkg:"):
        return _in_package(ref.removeprefix("pkg:"))
    path = Path(ref).expanduser()
    if path.is_file():
        if path.suffix == ".gguf":
            check_gguf(path)
            return path
        raise InputError(f"{path}: is not a model; a model is {FORMS}")
    if path.is_dir():
        return _in_folder(path)
    if is_hub(ref):
        return _from_hub(ref)
    if path.with_name(path.name + ".partial").exists():
        raise InputError(f"{ref}: is not there (an unfinished run is there: finish it first)")
    raise InputError(f"{ref}: no such model; a model is {FORMS}")


def is_hub(ref: str) -> bool:
    """Whether a reference can only be the name of a model on the hub."""
    named = HUB_ID.fullmatch(ref) and not ref.startswith("build/")
    return bool(named) and not Path(ref).exists()


def _in_package(name: str) -> Path:
    try:
        files = distribution(name).files or []
    except PackageNotFoundError:
        hint = f"pip install {name}"
        raise MissingError(f"pkg:{name}: the package is not installed: {hint}") from None
    for file in files:
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    folders = [f.parent for f in files if f.name in ("modules.json", "config.json")]
    for folder in sorted(folders, key=lambda f: len(f.parts)):
        path = Path(str(distribution(name).locate_file(folder)))
        if (path / "config.json").is_file():
            return path
    raise InputError(f"pkg:{name}: the package has no .gguf file and no model folder")


def _in_folder(path: Path) -> Path:
    manifest = read_json(path / "manifest.json")
    model = manifest.get("model")
    if isinstance(model, dict) and isinstance(model.get("path"), str):
        found = path / model["path"]
        if found.resolve() == path.resolve():
            raise InputError(f"{path}: its manifest names the folder itself as its model")
        return found if found.is_file() else _in_folder(found)
    if str(manifest.get("schema")).startswith("llmctl."):  # else it is another program's
        raise InputError(f"{path}: is an artifact without a model")
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        kind = read_json(path / "adapter_config.json").get("peft_type")
        if kind in SOFT:
            raise InputError(
                f"{path}: is an adapter of kind {kind}, no part of any weight; {ON_ITS_BASE}"
            )
        raise InputError(
            f"{path}: is an adapter, no model; give the merged model beside it, make one with "
            "`llmctl merge`, or name the base as `model` and this as `adapter.path`"
        )
    if not (path / "config.json").is_file():
        ggufs = sorted(path.glob("*.gguf"))
        if len(ggufs) == 1:
            return ggufs[0]
        raise InputError(f"{path}: has no config.json; a model is {FORMS}")
    if not any(path.glob("*.safetensors")):
        pickles = [p.name for p in (*path.glob("*.bin"), *path.glob("*.pt"), *path.glob("*.pth"))]
        if pickles:
            raise InputError(
                f"{path}: {pickles[0]} is a pickle, which can run code when it is loaded; "
                "convert it to safetensors first"
            )
        raise InputError(f"{path}: has no .safetensors weights")
    return path


def adapter_folder(path: Path) -> Path:
    """The folder of PEFT in an artifact of a training stage, or the folder itself."""
    for folder in (path / "adapter", path):
        if (folder / "adapter_config.json").is_file():
            if not (folder / "adapter_model.safetensors").is_file():
                raise InputError(f"{folder}: has no adapter_model.safetensors")
            return folder
    raise InputError(f"{path}: has no adapter_config.json; an adapter is what sft and dpo write")


def _from_hub(ref: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise MissingError(f"{ref}: a hub model needs {install_hint('train')}") from None
    wanted = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
    try:
        return _in_folder(Path(snapshot_download(ref, local_files_only=True)))
    except (LocalEntryNotFoundError, InputError):
        pass
    try:
        return _in_folder(Path(snapshot_download(ref, allow_patterns=wanted)))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "True")
        why = "HF_HUB_OFFLINE is set" if offline else type(error).__name__
        raise MissingError(
            f"{ref}: is no folder here, is not in the local cache and cannot be fetched ({why}); "
            f"while online run: hf download {ref}"
        ) from None


def gguf_file(ref: str) -> Path:
    """The GGUF file of a reference; a folder of other weights is an error that says what to do."""
    path = locate(ref)
    if path.is_file():
        return path
    raise InputError(
        f"{ref}: is a Hugging Face folder, llama.cpp needs a .gguf file; "
        "make one with `llmctl quantize` or use the engine `transformers`"
    )


def hf_folder(ref: str) -> Path:
    """An ordinary Hugging Face folder; a GGUF file is converted once and cached by its digest."""
    path = locate(ref)
    if path.is_dir():
        return path
    folder = digest.cache_folder() / "models" / digest.of_file(path)
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(folder.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be converting the same file
        if not (folder / "config.json").is_file():
            partial = folder.with_name(folder.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            _convert(path, partial)
            partial.rename(folder)
    return folder


def _convert(path: Path, target: Path) -> None:
    """Dequantize a GGUF to bf16 safetensors with its tokenizer and chat template."""
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        raise MissingError(f"{path}: converting GGUF needs {install_hint('train')}") from None
    from llmctl import ui

    ui.note(f"converting {path.name} to a Hugging Face folder (once, about half a minute)")
    where, name = str(path.parent), path.name
    with silenced():
        tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
        model = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.bfloat16)
        for mark in ("hf_quantizer", "quantization_method"):  # they forbid saving
            if hasattr(model, mark):
                delattr(model, mark)
        model.is_quantized = False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)


def cache_key() -> str:
    """What the installed transformers calls a model's keys and values, in calls and in outputs.

    Release 5.24 gave them another name and warns of the old one.
    """
    from transformers.modeling_outputs import CausalLMOutputWithPast

    new = "cache"
    return new if new in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keep the model libraries' progress bars and warnings from the user.

    Also those of an import inside: PEFT brings bitsandbytes, which warns on some processors that it
    could fetch a kernel from a hub.
    """
    from transformers.utils import logging as hf_logging

    before = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with open(os.devnull, "w") as sink, contextlib.redirect_stderr(sink):
            yield
    finally:
        logging.disable(previous)
        hf_logging.set_verbosity(before)


def weight_type(folder: Path) -> Literal["fp32", "bf16", "fp16"]:
    """What the weights of a folder are numbers of, by its config.json."""
    config = read_json(folder / "config.json")
    name = config.get("dtype") or config.get("torch_dtype")
    return WEIGHT_TYPES.get(str(name), "fp32")


def identity(path: Path) -> dict[str, Any]:
    """What the next stage compares: tokenizer, chat template, special tokens, licence, format.

    `path` is a Hugging Face folder or a GGUF file; neither torch nor transformers is imported.
    The tokenizer's digest covers the vocabulary in order of the ids, and the merges.
    """
    return _identity_of_gguf(path) if path.is_file() else _identity_of_folder(path)


def _identity_of_folder(path: Path) -> dict[str, Any]:
    config = read_json(path / "config.json")
    settings = read_json(path / "tokenizer_config.json")
    tokenizer = read_json(path / "tokenizer.json").get("model", {})
    vocabulary = tokenizer.get("vocab") or {}
    if isinstance(vocabulary, dict):
        words = sorted(vocabulary, key=vocabulary.__getitem__)
    else:
        words = [str(word) for word, *_ in vocabulary]
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer.get("merges") or []]
    template = settings.get("chat_template")
    if (path / "chat_template.jinja").is_file():
        template = (path / "chat_template.jinja").read_text(encoding="utf-8")
    special = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        token = settings.get(name)
        special[name] = token.get("content") if isinstance(token, dict) else token
    return {
        "format": "safetensors",
        "architecture": (config.get("architectures") or [None])[0],
        "tokenizer": _words_digest(words, merges),
        "chat_template": _text_digest(template),
        "special_tokens": special,
        "licence": _licence(path),
    }


def _licence(path: Path) -> str | None:
    card = path / "README.md"
    if card.is_file():
        match = re.search(r"^license:\s*(\S+)", card.read_text(encoding="utf-8"), re.M)
        return match[1] if match else None
    return None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file of JSON; empty when there is no file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise InputError(f"{path}: not valid JSON") from None
    return found if isinstance(found, dict) else {}


def _text_digest(text: str | None) -> str | None:
    return hashlib.sha256(text.encode()).hexdigest() if text else None


def _words_digest(words: list[str], merges: list[str]) -> str | None:
    if not words:
        return None
    return hashlib.sha256("\0".join([*words, "", *merges]).encode()).hexdigest()


def _identity_of_gguf(path: Path) -> dict[str, Any]:
    head = read_gguf(path)
    words = head.get("tokenizer.ggml.tokens") or []
    special = {}
    for name, key in (("bos_token", "bos"), ("eos_token", "eos"), ("pad_token", "padding"),
                      ("unk_token", "unknown")):  # fmt: skip
        index = head.get(f"tokenizer.ggml.{key}_token_id")
        special[name] = words[index] if index is not None and index < len(words) else None
    return {
        "format": "gguf",
        "architecture": head.get("general.architecture"),
        "tokenizer": _words_digest(words, head.get("tokenizer.ggml.merges") or []),
        "chat_template": _text_digest(head.get("tokenizer.chat_template")),
        "special_tokens": special,
        "licence": head.get("general.license"),
        "context_length": head.get(f"{head.get('general.architecture')}.context_length"),
    }


_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?",
            10: "<Q", 11: "<q", 12: "<d"}  # fmt: skip


def check_gguf(path: Path) -> None:
    """Refuse a file that is not a whole GGUF header, before llama.cpp's parser sees it."""
    read_gguf(path)


def read_gguf(path: Path) -> dict[str, Any]:
    """The key-value header of a GGUF v2/v3 file (spec: ggml docs/gguf.md); sizes are checked."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise InputError(f"{path}: is not a GGUF file (its first bytes are not 'GGUF')")
        try:
            version, tensors, count = struct.unpack("<IQQ", _bytes(file, 20))
            if version not in (2, 3):
                raise InputError(f"{path}: GGUF version {version} is not supported, 2 and 3 are")
            if tensors > size or count > size:
                raise ValueError("counts larger than the file")
            head = {}
            for _ in range(count):
                key = _text(file, size)
                (kind,) = struct.unpack("<I", _bytes(file, 4))
                head[key] = _value(file, kind, size)
            return head
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: the GGUF header is damaged: {error}") from None


def _bytes(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise ValueError("the file ends inside it")
    return data


def _form(kind: int) -> str:
    if kind not in _SCALARS:
        raise ValueError(f"no value type {kind}")
    return _SCALARS[kind]


def _text(file: BinaryIO, size: int) -> str:
    (length,) = struct.unpack("<Q", _bytes(file, 8))
    if length > size:
        raise ValueError("a text longer than the file")
    return _bytes(file, length).decode("utf-8", errors="replace")


def _value(file: BinaryIO, kind: int, size: int) -> Any:
    if kind == 8:
        return _text(file, size)
    if kind == 9:
        inner, count = struct.unpack("<IQ", _bytes(file, 12))
        if count > size:
            raise ValueError("an array longer than the file")
        if inner not in (8, 9):
            form = _form(inner)
            data = _bytes(file, struct.calcsize(form) * count)
            return [v for (v,) in struct.iter_unpack(form, data)]
        return [_value(file, inner, size) for _ in range(count)]
    form = _form(kind)
    return struct.unpack(form, _bytes(file, struct.calcsize(form)))[0]
