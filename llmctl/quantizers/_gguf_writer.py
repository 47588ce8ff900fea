"""Hugging Face folder -> GGUF in f16, for the Llama family with a byte-level BPE tokenizer.

Keys and tensor names come from the `gguf` package (llama.cpp's own). llama.cpp rotates pairs of
neighbouring dimensions where Transformers rotates halves, so the rows of q and k are reordered.
The name of the pre-tokenizer is not in a folder: it is found by trying, with equal token ids as
the test (see `gguf.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmctl.errors import InputError

ARCHITECTURES = ("LlamaForCausalLM",)
PRETOKENIZERS = ("smollm", "llama-bpe", "gpt-2", "qwen2", "default")
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5


def write(folder: Path, target: Path, pretokenizer: str, *, vocabulary_only: bool = False) -> None:
    """Write the file; raises InputError for an architecture or tokenizer that it cannot hold."""
    import gguf

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = (config.get("architectures") or ["unknown"])[0]
    if architecture not in ARCHITECTURES:
        raise InputError(
            f"{folder}: {architecture} cannot be written as GGUF yet; "
            f"{', '.join(ARCHITECTURES)} can"
        )
    writer = gguf.GGUFWriter(target, "llama")
    _shape(writer, config)
    _tokenizer(writer, folder, config, pretokenizer)
    if not vocabulary_only:
        _tensors(writer, folder, config)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    if not vocabulary_only:
        writer.write_tensors_to_file()
    writer.close()


def _shape(writer: Any, config: dict[str, Any]) -> None:
    import gguf

    heads = config["num_attention_heads"]
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", "default") != "default":
        raise InputError(f"rope type {rope['rope_type']} cannot be written as GGUF yet")
    writer.add_name(Path(config.get("_name_or_path") or "model").name or "model")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads", heads))
    writer.add_rope_dimension_count(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta", 10000.0)))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def _tokenizer(writer: Any, folder: Path, config: dict[str, Any], pretokenizer: str) -> None:
    data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    if data["model"].get("type", "BPE") != "BPE":
        raise InputError(f"{folder}: only BPE tokenizers can be written as GGUF yet")
    size = config["vocab_size"]
    words = [f"[PAD{n}]" for n in range(size)]
    types = [UNUSED] * size
    for word, index in data["model"]["vocab"].items():
        words[index], types[index] = word, NORMAL
    for added in data.get("added_tokens", []):
        words[added["id"]] = added["content"]
        types[added["id"]] = CONTROL if added.get("special") else USER_DEFINED
    merges = data["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pretokenizer)
    writer.add_token_list(words)
    writer.add_token_types(types)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    index_of = {word: index for index, word in enumerate(words)}
    for name, add in (
        ("bos_token", writer.add_bos_token_id),
        ("eos_token", writer.add_eos_token_id),
        ("pad_token", writer.add_pad_token_id),
        ("unk_token", writer.add_unk_token_id),
    ):
        token = settings.get(name)
        content = token.get("content") if isinstance(token, dict) else token
        if content in index_of:
            add(index_of[content])
    writer.add_add_bos_token(bool(settings.get("add_bos_token", False)))
    template = settings.get("chat_template")
    if (folder / "chat_template.jinja").is_file():
        template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    if template:
        writer.add_chat_template(template)


def _tensors(writer: Any, folder: Path, config: dict[str, Any]) -> None:
    import gguf
    import torch
    from safetensors import safe_open

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads", heads)
    tied = config.get("tie_word_embeddings", False)
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (not a mapping)
                if name.endswith("rotary_emb.inv_freq") or (tied and name == "lm_head.weight"):
                    continue
                target = names.get_name(name, try_suffixes=(".weight", ".bias"))
                if target is None:
                    raise InputError(f"{file}: GGUF has no name for the tensor {name}")
                tensor = tensors.get_tensor(name).to(torch.float32)
                if name.endswith(("q_proj.weight", "k_proj.weight")):
                    tensor = paired(tensor, heads if "q_proj" in name else kv_heads)
                if tensor.ndim > 1:
                    tensor = tensor.to(torch.float16)  # norms stay in float32, as llama.cpp wants
                writer.add_tensor(target, tensor.contiguous().numpy())


def paired(weight: Any, heads: int) -> Any:
    """Rows of each head from halves (x1 x2 ... y1 y2 ...) to pairs (x1 y1 x2 y2 ...)."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)
