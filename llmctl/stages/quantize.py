"""quantize: a model in smaller files, each measured against the source."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from llmctl import modelref, pretrained, rows, shards, ui
from llmctl.artifact import Artifact
from llmctl.errors import GateError, InputError, LlmctlError
from llmctl.quantizers.base import Made, Measured
from llmctl.records import check_example
from llmctl.schema.quantize import Gate, QuantizeRecipe

MIB = 2**20
FEWEST = 8
"""Tokens of a window that says anything."""


@dataclass
class Source:
    """The source model on the test tokens."""

    windows: list[list[int]]
    perplexity: float
    parameters: int
    bytes: int


def run(recipe: QuantizeRecipe, artifact: Artifact) -> None:
    """Write `<name>-<TYPE>.gguf`, `table.json` and `report.html`; the first type is the model.

    A file that misses the gate is kept and recorded: no later stage takes the artifact.
    """
    artifact.determinism = "seeded"  # speeds differ, the files do not
    work = artifact.scratch
    folder = modelref.hf_folder(str(recipe.model))
    logprobs = work / "source"
    logprobs.mkdir(exist_ok=True)
    with ui.progress("measure the source") as advance:
        source = measure_source(recipe, folder, artifact.input("evaluate_on"), logprobs)
        advance(1)
    made = []
    with ui.progress("quantize") as advance:
        for each in recipe.method.quantize(folder, recipe.name, work):
            check_identity(folder, each.path)
            made.append(each)
            advance(1, each.type)
    table: list[dict[str, Any]] = []
    with recipe.method.runner() as runner, ui.progress("measure", len(made)) as advance:
        for each in made:
            found = runner.measure(each.path, source.windows, logprobs, recipe.prompt)
            table.append(row_of(each, found, source))
            advance(1, each.type)
    keep = recipe.method.wanted()
    _write(recipe, artifact, folder, source, table)
    for each in made:
        if each.type in keep:
            each.path.rename(artifact.path(each.path.name))
    first = artifact.folder / f"{recipe.name}-{recipe.method.main()}.gguf"
    base = artifact.manifest_of("model") or {}
    licence = modelref.identity(folder).get("licence") or base.get("model", {}).get("licence")
    artifact.model = {
        **modelref.identity(first),
        "base": str(recipe.model),
        "form": "gguf",
        "path": first.name,
        "licence": licence,
    }
    answered = bool(table[0]["answer"].strip())  # a base model may have nothing to say
    broken = [
        problem
        for row in table
        if row["type"] in keep
        for problem in problems(row, recipe.gate, answered)
    ]
    if broken:
        artifact.failed = GateError("; ".join(broken))


def texts_of(path: Path) -> Iterator[str]:
    """The test text: text files, or the texts or answers of rows."""
    if texts := shards.texts(path):
        yield from map(shards.text_of, texts)
        return
    files = shards.find(path, "test")
    shards.tell_part(files)
    for where, row in rows.placed(files):
        if isinstance(row.get("text"), str):
            yield row["text"]
        elif "messages" in row:
            check_example(row, where)
            yield "\n".join(message["content"] for message in row["messages"])
        else:
            raise InputError(f"{where}: has no `text` and no `messages`; found {', '.join(row)}")


def windows_of(recipe: QuantizeRecipe, tokenizer: Any, text: Path) -> list[list[int]]:
    """Token ids of windows of the text, drawn with the seed, in their own order."""
    ids: list[int] = []
    for piece in texts_of(text):
        ids += tokenizer(piece, add_special_tokens=False).input_ids
    windows = [ids[at : at + recipe.window] for at in range(0, len(ids), recipe.window)]
    windows = [window for window in windows if len(window) >= FEWEST]
    if not windows:
        raise InputError(f"{text}: has {len(ids)} tokens, at least {FEWEST} are needed to measure")
    full = [window for window in windows if len(window) == recipe.window]
    most = recipe.tokens // recipe.window
    if len(full) < most:
        return windows
    return [full[i] for i in sorted(Random(recipe.seed).sample(range(len(full)), most))]


def measure_source(recipe: QuantizeRecipe, folder: Path, text: Path, target: Path) -> Source:
    """Log-probabilities of the source in float32 arithmetic, float16 in a file a window."""
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    with modelref.silenced():
        tokenizer = pretrained.tokenizer(folder)
        model = pretrained.model(AutoModelForCausalLM, folder, dtype=torch.float32).eval()
    windows = windows_of(recipe, tokenizer, text)
    nll, count = 0.0, 0
    with torch.inference_mode():
        for number, window in enumerate(windows):
            logits = model(torch.tensor([window])).logits[0, :-1].float()
            found = torch.log_softmax(logits, -1)
            nll -= float(found[torch.arange(len(window) - 1), torch.tensor(window[1:])].sum())
            count += len(window) - 1
            np.save(target / f"{number}.npy", found.numpy().astype(np.float16))
            # in float16 the two likeliest tokens may look the same
            np.save(target / f"{number}.top.npy", found.argmax(-1).numpy())
    parameters = sum(p.numel() for p in model.parameters())
    size = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    return Source(windows, math.exp(nll / count), parameters, size)


def check_identity(folder: Path, file: Path) -> None:
    """The file has the folder's tokenizer and chat template, or both sides are named."""
    wanted, found = modelref.identity(folder), modelref.identity(file)
    for name in ("tokenizer", "chat_template"):
        if wanted[name] != found[name]:
            raise LlmctlError(
                f"{file.name}: its {name.replace('_', ' ')} ({str(found[name])[:12]}) is not that "
                f"of {folder} ({str(wanted[name])[:12]})"
            )


def row_of(made: Made, found: Measured, source: Source) -> dict[str, Any]:
    """One line of the table."""
    size = made.path.stat().st_size
    return {
        "type": made.type,
        "file": made.path.name,
        "bytes": size,
        "bits_per_weight": round(8 * size / source.parameters, 3),
        **{name: value for name, value in asdict(found).items() if name != "extra"},
        "perplexity_increase": found.perplexity / source.perplexity - 1,
    }


def problems(row: dict[str, Any], gate: Gate, answered: bool = True) -> Iterator[str]:
    """What a file does not keep, with the figures; `answered`: the f16 file gave an answer."""
    if row["perplexity_increase"] > gate.max_perplexity_increase:
        yield (
            f"{row['file']}: perplexity {row['perplexity']:.2f} is "
            f"{100 * row['perplexity_increase']:.1f} % above the source, allowed are "
            f"{100 * gate.max_perplexity_increase:.1f} % (gate.max_perplexity_increase)"
        )
    if row["agreement"] < gate.min_agreement:
        yield (
            f"{row['file']}: {row['agreement']:.3f} of the likeliest tokens are the source's, "
            f"{gate.min_agreement} are asked for (gate.min_agreement)"
        )
    if answered and not row["answer"].strip():
        yield f"{row['file']}: gave no answer to the prompt"


def _write(
    recipe: QuantizeRecipe,
    artifact: Artifact,
    folder: Path,
    source: Source,
    table: list[dict[str, Any]],
) -> None:
    from llmctl.report.html import Report

    tokens = table[0]["tokens"]
    head = {
        "model": str(recipe.model),
        "perplexity": source.perplexity,
        "bytes": source.bytes,
        "parameters": source.parameters,
        "tokens": tokens,
        "window": recipe.window,
    }
    artifact.write_json("table.json", {"source": head, "files": table})
    artifact.metrics["source_perplexity"] = source.perplexity
    for row in table:
        for name in ("bytes", "perplexity", "agreement", "kl", "tokens_per_second"):
            artifact.metrics[f"{row['type']}.{name}"] = row[name]
    report = Report(f"quantize: {recipe.model}")
    report.facts(
        [
            ("source", f"{recipe.model}, {source.parameters:,} parameters"),
            ("perplexity of the source", f"{source.perplexity:.3f} (n={tokens} tokens)"),
            ("measured on", f"{recipe.evaluate_on}, windows of {recipe.window} tokens"),
        ]
    )
    columns = ("type", "bytes", "bits_per_weight", "perplexity", "agreement", "kl",
               "tokens_per_second", "answer")  # fmt: skip
    report.table(columns, [[row[name] for name in columns] for row in table])
    report.bars("size", [(r["type"], r["bytes"] / MIB, None) for r in table], "MiB")
    report.bars(
        "perplexity",
        [("source", source.perplexity, None), *((r["type"], r["perplexity"], None) for r in table)],
    )
    report.bars("KL from the source", [(r["type"], r["kl"], None) for r in table], "nats")
    report.write(artifact.path("report.html"))
    artifact.summary.append(("source", f"perplexity {source.perplexity:.2f} (n={tokens} tokens)"))
    for row in table:
        artifact.summary.append(
            (
                row["type"],
                f"{row['bytes'] / MIB:.0f} MiB, perplexity {row['perplexity']:.2f} "
                f"({row['perplexity_increase']:+.1%}), {row['agreement']:.1%} equal tokens, "
                f"KL {row['kl']:.4f}, {row['tokens_per_second']:.0f} tokens/s read",
            )
        )
