"""What a training run needs before it starts: memory by its parts, steps, disk, and what would fit.

Nothing heavy is imported: the shapes come from the header of the weights or of the GGUF file. The
sum is that of the run's largest moment, in the forward and backward pass; its coefficients were
counted (saved tensors of a Llama layer, by torch's own hooks) and fitted (the loss) on a CPU, see
bench/memory.py.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmctl import digest, modelref, rows, shards
from llmctl.errors import LlmctlError
from llmctl.optimizers.base import Shape, elements
from llmctl.runner import device_class
from llmctl.schema.method import UNMERGED
from llmctl.schema.training import TrainingRecipe

LIBRARIES = {"cpu": 495_000_000, "cuda": 700_000_000}
"""Bytes of torch, transformers and TRL themselves; on a GPU those of the CUDA context."""
LOSS_COPIES = {"sft": 10.9, "dpo": 7.0}
"""Tables of logits in fp32 that a loss and its figures hold at once (sft: the accuracy); fitted."""
PASSING = 1.54
"""What the two passes hold at once, as a multiple of the tensors that are saved; fitted."""
METHODS = ("full", "lora", "qlora")
"""Those that a plan compares."""
FRACTION = 0.9
"""Share of the memory that a run may plan with: the rest is the system's."""


@dataclass(frozen=True)
class Model:
    """What the sizes depend on."""

    shapes: dict[str, Shape]
    hidden: int
    inner: int
    layers: int
    vocabulary: int
    heads: int
    kv_width: int
    """Width of the keys, and of the values, of one token in one layer."""
    weight_type: str
    """`fp32`, `bf16` or `fp16`: what `save_dtype: auto` saves."""

    @property
    def parameters(self) -> int:
        """Numbers in all weights."""
        return elements(self.shapes.values())

    def matrices(self) -> Iterator[tuple[str, Shape]]:
        """The linear layers inside the blocks: not the token tables."""
        for name, shape in self.shapes.items():
            if len(shape) == 2 and ".layers." in f".{name}":
                yield name, shape


def describe(ref: str) -> Model | None:
    """The model of a reference that lies on this machine; None for one that cannot be told."""
    try:
        found = modelref.locate(ref)
        if found.is_file():
            kept = digest.cache_folder() / "models" / digest.of_file(found)
            return _of_folder(kept) if (kept / "config.json").is_file() else _of_gguf(found)
        return _of_folder(found)
    except (LlmctlError, OSError, KeyError, ValueError, TypeError):
        return None


def _of_folder(folder: Path) -> Model | None:
    about = json.loads((folder / "config.json").read_bytes())
    shapes: dict[str, Shape] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            head = json.loads(opened.read(length))
        shapes |= {k: tuple(v["shape"]) for k, v in head.items() if k != "__metadata__"}
    heads = about["num_attention_heads"]
    width = about.get("head_dim") or about["hidden_size"] // heads
    return Model(
        shapes,
        about["hidden_size"],
        about["intermediate_size"],
        about["num_hidden_layers"],
        about["vocab_size"],
        heads,
        width * (about.get("num_key_value_heads") or heads),
        modelref.weight_type(folder),
    )


def _of_gguf(file: Path) -> Model | None:
    """A Llama-shaped model as its GGUF header describes it; the tables count as tied."""
    head = modelref.read_gguf(file)
    kind = head["general.architecture"]
    hidden, inner = head[f"{kind}.embedding_length"], head[f"{kind}.feed_forward_length"]
    layers, heads = head[f"{kind}.block_count"], head[f"{kind}.attention.head_count"]
    words = len(head["tokenizer.ggml.tokens"])
    kv = hidden // heads * head.get(f"{kind}.attention.head_count_kv", heads)
    shapes: dict[str, Shape] = {"model.embed_tokens.weight": (words, hidden)}
    for i in range(layers):
        at = f"model.layers.{i}."
        shapes |= {f"{at}self_attn.{n}_proj.weight": (hidden, hidden) for n in "qo"}
        shapes |= {f"{at}self_attn.{n}_proj.weight": (kv, hidden) for n in "kv"}
        shapes |= {f"{at}mlp.{n}_proj.weight": (inner, hidden) for n in ("gate", "up")}
        shapes[f"{at}mlp.down_proj.weight"] = (hidden, inner)
        shapes |= {f"{at}{n}_layernorm.weight": (hidden,) for n in ("input", "post_attention")}
    return Model(shapes, hidden, inner, layers, words, heads, kv, "bf16")


def trained(recipe: TrainingRecipe, model: Model) -> list[Shape]:
    """Shapes of the tensors that are trained."""
    if recipe.method == "full":
        return list(model.shapes.values())
    if recipe.method in ("lora", "qlora"):
        found: list[Shape] = []
        for name, (rows, columns) in model.matrices():
            layer = name.rpartition(".")[0].rpartition(".")[2]
            if recipe.lora.target_modules == "all-linear" or layer in recipe.lora.target_modules:
                found += [(recipe.lora.r, columns), (rows, recipe.lora.r)]
        whole = recipe.lora.modules_to_save
        found += [s for n, s in model.shapes.items() if any(f"{w}." in n for w in whole)]
        return found
    return [(16, model.layers * 2 * model.kv_width)]  # prompt, prefix, ia3: a few vectors


@dataclass(frozen=True)
class Memory:
    """Bytes by part at the run's largest moment, in one process."""

    parts: dict[str, int]
    available: int | None
    """What this machine has free for it; None when that is not known."""
    model: Model = field(repr=False)

    @property
    def peak(self) -> int:
        """All parts together."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool | None:
        """Whether the machine has as much; None when that is not known."""
        return None if self.available is None else self.peak <= self.available * FRACTION


def precision(recipe: TrainingRecipe) -> str:
    """The arithmetic that `auto` would take here."""
    if recipe.precision != "auto":
        return recipe.precision
    return "bf16" if device_class() == "cuda" else "fp32"


def memory(recipe: TrainingRecipe, model: Model | None = None) -> Memory | None:
    """The memory of one process of a recipe; None when its model cannot be told."""
    task = getattr(recipe, "task", None)
    if task is not None and task.kind != "causal":
        return None  # an encoder: other layers, another loss
    model = model or describe(recipe.model)
    if model is None:
        return None
    shapes = trained(recipe, model)
    share = 1 if recipe.launch.strategy == "ddp" else recipe.launch.processes
    half = precision(recipe) != "fp32"
    weights = 4 * model.parameters
    if recipe.method == "qlora":
        inside = sum(rows * columns for _, (rows, columns) in model.matrices())
        weights = 4 * (model.parameters - inside) + round(inside * 0.53)
    if recipe.method != "full":
        weights += 4 * elements(shapes)
    elif recipe.stage == "dpo":
        weights *= 2  # the reference is a frozen copy
    parts = {
        "libraries": LIBRARIES[device_class()],
        "weights": weights // share,
        "gradients": 4 * elements(shapes) // share,
        "optimizer": state(recipe, model, shapes) // share,
        "activations": activations(recipe, model, half=half),
        "loss": round(LOSS_COPIES[recipe.stage] * 4 * recipe.logits_at_once(model.vocabulary)),
    }
    if half and recipe.method != "qlora":
        parts["copies in 16 bits"] = 2 * model.parameters // share
    if recipe.gradient_accumulation == recipe.launch.replicas():
        # freed before the next forward pass, they come as the activations go
        kept = parts["activations"] + parts["loss"]
        parts["gradients"] = max(parts["gradients"] - kept, 0)
    return Memory(parts, available(), model)


def activations(recipe: TrainingRecipe, model: Model, *, half: bool) -> int:
    """Bytes that the forward pass keeps for the backward pass."""
    tokens = recipe.tokens_at_once()
    mask = recipe.max_length  # a row of the mask for each token, in each layer
    d, f = model.hidden, model.inner
    beside = 0
    layer = 4 * (8.5 * d + 2 * f + mask) if half else 4 * (10 * d + 4 * f + mask)
    if recipe.method in ("lora", "qlora"):
        layer += 4 * 7 * recipe.lora.r  # what A gives in each of a layer's seven matrices
        beside = 4 * 12 * (d + f)  # the adapters' results beside the base's; fitted
    if recipe.gradient_checkpointing:
        return round(tokens * (PASSING * (4 * d * model.layers + layer) + beside))
    return round(tokens * (PASSING * layer * model.layers + beside))


def state(recipe: TrainingRecipe, model: Model, shapes: list[Shape]) -> int:
    """Bytes of the optimizer: its state, with what it keeps otherwise for the token tables.

    bitsandbytes works on a CPU through fp32 copies: three of the largest tensor, as was measured.
    """
    found = recipe.optimizer.state_bytes(shapes)
    if recipe.method == "full":
        tables = elements(s for n, s in model.shapes.items() if "embed_tokens" in n)
        found += {"adamw_8bit": 6, "muon": 4}.get(recipe.optimizer.kind, 0) * tables
    if device_class() == "cpu" and "bitsandbytes" in recipe.optimizer.needs:
        found += 3 * 4 * max((elements([shape]) for shape in shapes), default=0)
    return found


def available() -> int | None:
    """Bytes that this machine has free: of the GPU's memory where there is one, else of RAM."""
    if device_class() == "cuda":
        return _gpu_memory()
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
        return min(free * 1024, _limit())
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _limit() -> int:
    """The container's own limit (cgroup v2); endless without one."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return 1 << 62
    return 1 << 62 if text == "max" else int(text)


def _gpu_memory() -> int | None:
    import subprocess

    asked = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True)
        return min(int(line) for line in done.stdout.split()) * 1024**2
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def smaller_batches(recipe: TrainingRecipe) -> Iterator[dict[str, int]]:
    """At most half the batch with as many rows in a step, the largest first."""
    sizes = range(recipe.batch_size // 2, 0, -1)
    if "gradient_accumulation" in getattr(getattr(recipe, "objective", None), "unused", ()):
        yield from ({"batch_size": size} for size in sizes if recipe.batch_size % size == 0)
        return
    step = recipe.rows_a_step()
    for size in sizes:
        if step % (size * recipe.launch.replicas()) == 0:
            yield {"batch_size": size, "gradient_accumulation": step // size}


def changes(recipe: TrainingRecipe) -> Iterator[dict[str, Any]]:
    """Changes of a recipe that need less memory, the cheapest in time and quality first."""
    change: dict[str, Any] = {}
    for each in smaller_batches(recipe):
        change = dict(each)
        yield change
    if not recipe.gradient_checkpointing:
        change = change | {"gradient_checkpointing": True}
        yield change
    if recipe.method == "full" and recipe.optimizer.kind == "adamw":
        yield change | {"optimizer": "adamw_8bit"}
    if recipe.method == "full":
        yield change | {"method": "lora"}
    if recipe.method != "qlora":
        change = change | {"method": "qlora"}
        yield change
    for length in (recipe.max_length // 2, recipe.max_length // 4):
        if length >= 128:
            yield change | {"max_length": length}


def allowed_changes(recipe: TrainingRecipe) -> Iterator[dict[str, Any]]:
    """Those of `changes` that no other key of the recipe forbids."""
    return (change for change in changes(recipe) if _changed(recipe, change) is not None)


def cheapest(recipe: TrainingRecipe, known: Memory) -> str | None:
    """The first change with which the run would fit, as a recipe has it; None when none does."""
    for change in changes(recipe):
        other = _changed(recipe, change)
        found = other and memory(other, known.model)
        if found and found.fits:
            return ", ".join(f"{key}: {_yaml(value)}" for key, value in change.items())
    return None


def _yaml(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def shortage(recipe: TrainingRecipe) -> str | None:
    """A line when the run will not fit in what is free here, with what would; else None."""
    known = memory(recipe)
    if known is None or known.fits is not False:
        return None
    change = cheapest(recipe, known)
    free = gigabytes(known.available or 0)
    return f"estimated at {gigabytes(known.peak)} of memory, {free} are free here" + (
        f"; would fit with {change}" if change else "; no change of the recipe would fit"
    )


def gigabytes(count: float) -> str:
    """Bytes for people."""
    return f"{count / 1e9:.2f} GB"


def lines(recipe: TrainingRecipe) -> dict[str, str]:
    """What `plan` shows: steps, tokens, memory by its parts, disk, and what would fit."""
    step = recipe.rows_a_step()
    tokens = step // recipe.batch_size * recipe.tokens_at_once()
    found = {"one step": f"{step} rows, at most {tokens} tokens"}
    if most := _most_steps(recipe):
        exact = "" if recipe.max_steps else "at most "  # a pack holds several rows
        found["steps"] = f"{exact}{most}, a checkpoint each {recipe.save_every}"
        found["tokens"] = f"at most {most * tokens:,}"
    known = memory(recipe)
    if known is None:
        return found
    for name, count in known.parts.items():
        found[f"memory: {name}"] = gigabytes(count)
    each = " in each process" if recipe.launch.processes > 1 else ""
    free = "" if known.available is None else f"; {gigabytes(known.available)} free here"
    found["memory"] = f"{gigabytes(known.peak)}{each}{free}"
    if known.fits is not None:
        found["fits"] = "yes" if known.fits else "no"
    found["memory otherwise"] = ", ".join(
        f"{change} {gigabytes(other.peak)}" for change, other in _otherwise(recipe, known.model)
    )
    if known.fits is False:
        found["would fit with"] = cheapest(recipe, known) or "nothing on this machine"
    found["disk"] = gigabytes(disk(recipe, known.model))
    if "samples" not in getattr(getattr(recipe, "objective", None), "unused", ()):
        answer = recipe.max_length + recipe.samples.max_tokens
        cached = 2 * 4 * answer * known.model.layers * known.model.kv_width
        held = gigabytes(cached * (recipe.samples.rows + len(recipe.samples.prompts)))
        found["memory of samples"] = f"{held} of keys and values, before and after"
    return found


def _most_steps(recipe: TrainingRecipe) -> int | None:
    """Optimizer steps of all epochs if each row of the files is learnt from by itself."""
    if recipe.max_steps is not None:
        return recipe.max_steps
    if recipe.data.mix or getattr(recipe, "too_long", "") == "split":
        return None  # `--probe` counts them
    try:
        count = sum(map(rows.count, shards.find(recipe.data.train)))
    except (LlmctlError, OSError):
        return None  # the run says what is wrong with the rows
    return recipe.steps_of(count)


def _otherwise(recipe: TrainingRecipe, model: Model) -> Iterator[tuple[str, Memory]]:
    """What the run would take with another method, and with and without checkpointing."""
    others: list[dict[str, Any]] = [{"method": m} for m in METHODS if m != recipe.method]
    others.append({"gradient_checkpointing": not recipe.gradient_checkpointing})
    for change in others:
        other = _changed(recipe, change)
        found = other and memory(other, model)
        if found:
            yield ", ".join(f"{key}: {_yaml(value)}" for key, value in change.items()), found


def _changed(recipe: TrainingRecipe, change: dict[str, Any]) -> TrainingRecipe | None:
    """The recipe with a change; None when another key of it forbids the change."""
    keys = recipe.model_dump(exclude_unset=True) | change
    if change.get("method", recipe.method) not in ("lora", "qlora"):
        keys.pop("lora", None)
    try:
        return type(recipe).model_validate(keys)
    except ValueError:
        return None


def disk(recipe: TrainingRecipe, model: Model) -> int:
    """Bytes of the checkpoints that are kept at once, and of the model and adapter at the end."""
    shapes = trained(recipe, model)
    one = 4 * elements(shapes) + recipe.optimizer.state_bytes(shapes)
    kept = 4 if recipe.keep_best else 3  # the newest is written before the oldest goes
    if recipe.method == "full":
        return kept * one + saved(recipe, model)
    return kept * one + saved(recipe, model) + 4 * elements(shapes)


def saved(recipe: TrainingRecipe, model: Model) -> int:
    """Bytes of the weights that are saved, merged or trained whole."""
    if recipe.method in UNMERGED:
        return 0
    kind = model.weight_type if recipe.save_dtype == "auto" else recipe.save_dtype
    return (4 if kind == "fp32" else 2) * model.parameters
