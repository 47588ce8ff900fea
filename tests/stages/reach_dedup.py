"""Where every key of a dedup recipe lands."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

BASE = {"stage": "dedup", "data": "recipes/samples/repeats.jsonl"}

CHOICE = "recipes/samples/choice.jsonl"
KINDS: dict[str, dict[str, Any]] = {
    "keep": {"by": "highest", "field": "meta.n"},
    "decontaminate": {"benchmarks": [{"data": CHOICE}]},
    "decontaminate.benchmarks": {"data": CHOICE},
}
OTHER = {"kind": "sentence_transformers", "batch_size": 5}
ITEM = "a train leaves the city at noon and drives for three hours before it stops in the town"
PART = "a train leaves the city at noon and who knows what comes after that"
TEN = "one two three four five six seven eight nine ten"
LONG = " ".join(f"w{i}" for i in range(60))
POINTS = np.eye(8, dtype=np.float32)


def build(recipe: Any, tmp_path: Path) -> SimpleNamespace:
    """What the stage makes of a recipe: the methods, the kernel's settings, and the artifact."""
    from llmctl.data import benchmarks, entries, kernels, verdicts
    from llmctl.data.dedupers.base import Deduper, Rows
    from llmctl.stages import dedup

    methods = {each.kind: each for each in recipe.methods}
    minhash = methods.get("minhash")
    ranked = {"id": "a", "text": "a b", "meta": {"when": "2026-01-01", "n": 3, "m": 4}}
    parts = recipe.decontaminate.benchmarks if recipe.decontaminate else []
    every = np.arange(1)

    def hits(rows: list[str], items: list[str] | None = None) -> Any:
        """What the recipe's first rule finds of the items in the rows."""
        return recipe.decontaminate.rules[0].find(items or [ITEM], whole(rows), every)

    def whole(rows: list[str]) -> Rows:
        return Rows(rows, 0, kernels.NUMPY)

    return SimpleNamespace(
        recipe=recipe,
        of=lambda kind: methods[kind],
        found=lambda method, rows: (
            Deduper.of(method).find(whole(rows), np.ones(len(rows), bool)).twin.tolist()
        ),
        places=[str(p) for k, p in recipe.inputs().items() if k.startswith("decontaminate")],
        items=lambda: next(benchmarks.read(parts[0])),
        rule=recipe.decontaminate.rules[0] if recipe.decontaminate else None,
        hits=hits,
        files=recipe.files(),
        inputs=recipe.inputs(),
        methods=methods,
        exact=methods["exact"].folded("A  b! c") if "exact" in methods else None,
        shape=minhash.shape() if minhash else None,
        banding=minhash.banding() if minhash else None,
        rank=lambda: entries.preference(recipe.keep, ranked, "a b", Path("old.jsonl"), "x:1"),
        threads=verdicts.threads_of(recipe),
        fits=lambda size: dedup.fits(recipe, size),
        seed=kernels.permutations(2, recipe.seed)[0].tolist(),
    )


def _url(built: Any) -> Any:
    return built.of("key").value({"url": "x.org/a/"}, "")


def _cut(built: Any) -> Any:
    shortest = built.of("substring").shortest
    method = {"kind": "substring", "action": "cut", "shortest": shortest}
    return built.found(method, [LONG, f"{LONG.replace('w', 'v')[:120]} {LONG}"])


def _passage(built: Any) -> Any:
    return built.of("substring").rule


def _sure(built: Any) -> Any:
    return built.hits([ITEM]).drop.tolist()


def _own(key: str) -> Any:
    return lambda built: getattr(built.recipe, key)


ROWS: dict[str, Any] = {
    "out": None,
    "stage": None,
    "version": None,
    "seed": (7, lambda b: b.seed, [4058335883, 2684764585]),
    "data": ("recipes/samples/chat.jsonl", lambda b: str(b.files["data"])),
    "text": (["id"], _own("text")),
    "memory_mb": (512, lambda b: b.fits(200 * 2**20), False),
    "methods": (["exact"], lambda b: sorted(b.methods)),
    "methods[exact].ignore_case": (False, lambda b: b.exact, "A b! c"),
    "methods[exact].ignore_space": (False, lambda b: b.exact, "a  b! c"),
    "methods[exact].ignore_punctuation": (True, lambda b: b.exact, "a b c"),
    "methods[minhash].threshold": (0.7, lambda b: b.methods["minhash"].threshold),
    "methods[minhash].ngram": (3, lambda b: b.shape.n),
    "methods[minhash].unit": ("characters", lambda b: int(b.shape.classes[97]), 3),
    "methods[minhash].permutations": (256, lambda b: b.banding, (36, 7)),
    "methods[minhash].recall": (0.9, lambda b: b.banding, (16, 8)),
    "methods[minhash].ignore_case": (False, lambda b: int(b.shape.codes[65]), 65),
    "methods[minhash].symbols": (True, lambda b: int(b.shape.classes[43]), 3),
    "methods[minhash].sweep": ([0.5], lambda b: b.banding, (64, 2)),
    "methods[key].fields": (
        ["url"],
        _url,
        "x.org/a",
    ),
    "methods[key].form": ("title", lambda b: b.of("key").folded("A, b"), "a b"),
    "methods[semantic].threshold": (0.5, lambda b: b.of("semantic").rule, "cosine >= 0.5"),
    "methods[semantic].embedder": (OTHER, lambda b: b.of("semantic").embedder.batch_size, 5),
    "methods[semantic].cells": (4, lambda b: b.of("semantic").cells_of(POINTS, 42).max() > 0, True),
    "methods[semantic].probes": (
        2,
        lambda b: b.of("semantic").model_copy(update={"cells": 4}).cells_of(POINTS, 42).shape[1],
    ),
    "methods[cluster].clusters": (2, lambda b: b.of("cluster").rule, "1 of each of 2 clusters"),
    "methods[cluster].keep": (3, lambda b: b.of("cluster").rule, "3 of each of 100 clusters"),
    "methods[cluster].embedder": (OTHER, lambda b: b.of("cluster").embedder.batch_size, 5),
    "methods[substring].words": (
        7,
        lambda b: b.of("substring").rule,
        "7 equal words, share >= 0.5",
    ),
    "methods[substring].action": ("cut", lambda b: b.recipe.cuts, True),
    "methods[substring].share": (
        0.9,
        lambda b: b.of("substring").rule,
        "50 equal words, share >= 0.9",
    ),
    "methods[substring].shortest": (
        70,
        lambda b: b.found(
            {"kind": "substring", "action": "cut", "shortest": b.of("substring").shortest},
            [LONG, f"{LONG.replace('w', 'v')[:120]} {LONG}"],
        ),
        [-1, 0],
    ),
    "decontaminate.benchmarks.data": (
        "recipes/eval/smoke.yaml",
        lambda b: b.places[:2],
        ["recipes/eval/smoke.yaml", "recipes/eval/../samples/chat.jsonl"],
    ),
    "decontaminate.benchmarks.task": (
        "arc_easy",
        lambda b: b.recipe.decontaminate.benchmarks[0].task,
    ),
    "decontaminate.benchmarks.name": ("n", lambda b: b.items().name, "n"),
    "decontaminate.benchmarks.fields": (
        ["choices"],
        lambda b: b.items().texts[0],
        '["ingest", "dedup", "quantize", "serve"]',
    ),
    "decontaminate.rules": (["minhash"], lambda b: b.rule.kind, "minhash"),
    "decontaminate.rules[overlap].action": (
        "flag",
        _sure,
        [False],
    ),
    "decontaminate.rules[overlap].ngram": (5, lambda b: b.rule.rule, "5-gram coverage >= 0.5"),
    "decontaminate.rules[overlap].unit": (
        "characters",
        lambda b: b.rule.rule,
        "character 8-gram coverage >= 0.5",
    ),
    "decontaminate.rules[overlap].coverage": (0.9, lambda b: b.rule.rule, "8-gram coverage >= 0.9"),
    "decontaminate.rules[overlap].flag": (None, lambda b: len(b.hits([PART]).row), 0),
    "decontaminate.rules[overlap].shortest": (30, lambda b: len(b.hits([ITEM]).row), 0),
    "decontaminate.rules[overlap].weighted": (
        True,
        lambda b: b.rule.rule,
        "weighted 8-gram coverage >= 0.5",
    ),
    "decontaminate.rules[overlap].strict": (
        0.9,
        lambda b: b.hits(["one two three four five six seven eight"], [TEN]).drop.tolist(),
        [False],
    ),
    "decontaminate.rules[overlap].symbols": (
        True,
        lambda b: b.rule.shape(8).classes[43] == 3,
        True,
    ),
    "decontaminate.rules[minhash].action": (
        "flag",
        _sure,
        [False],
    ),
    "decontaminate.rules[minhash].threshold": (0.9, lambda b: b.rule.method().threshold),
    "decontaminate.rules[minhash].ngram": (3, lambda b: b.rule.method().ngram),
    "decontaminate.rules[minhash].unit": ("characters", lambda b: b.rule.method().unit),
    "decontaminate.rules[semantic].action": (
        "drop",
        _sure,
        [True],
    ),
    "decontaminate.rules[semantic].threshold": (0.5, lambda b: b.rule.rule, "cosine >= 0.5"),
    "decontaminate.rules[semantic].nearest": (
        2,
        lambda b: len(b.hits([ITEM], [ITEM, ITEM, ITEM, ITEM]).row),
    ),
    "decontaminate.rules[semantic].embedder": (OTHER, lambda b: b.rule.embedder.batch_size, 5),
    "decontaminate.rules[semantic].confirm": (
        "echo",
        lambda b: b.hits([ITEM]).verdicts,
        {0: "yes"},
    ),
    "against": (["recipes/samples/chat.jsonl"], lambda b: [str(p) for p in b.recipe.against]),
    "index": (True, _own("index")),
    "runner": ("ray", lambda b: b.recipe.runner.remote, True),
    "runner[ray].address": ("auto", lambda b: b.recipe.runner.options()["address"]),
    "runner[ray].workers": (3, lambda b: b.recipe.runner.options()["num_cpus"]),
    "leaks": (False, _own("leaks")),
    "kernel": ("numpy", _own("kernel")),
    "sweep": (
        [0.5, 0.9],
        lambda b: [m.sweep for m in b.recipe.methods if m.kind == "minhash"],
        [(0.5, 0.9)],
    ),
    "threads": (3, lambda b: b.threads),
    "examples": (5, _own("examples")),
    "methods[minhash].bands": (20, lambda b: b.banding, (20, 6)),
    "methods[minhash].rows": (6, lambda b: b.banding, (21, 6)),
    "keep.prefer": (["new*", "old*"], lambda b: b.rank()[0], 1),
    "keep.by": ("lowest", lambda b: b.rank(), (0, 3)),
    "keep.field": ("meta.m", lambda b: b.rank(), (0, -4)),
}
