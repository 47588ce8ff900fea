"""Where every key of a dedup recipe lands."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

BASE = {"stage": "dedup", "data": "recipes/samples/repeats.jsonl"}

KINDS = {"keep": {"by": "highest", "field": "meta.n"}}


def build(recipe: Any, tmp_path: Path) -> SimpleNamespace:
    """What the stage makes of a recipe: the methods, the kernel's settings, and the artifact."""
    from llmctl.data import kernels
    from llmctl.stages import dedup

    methods = {each.kind: each for each in recipe.methods}
    minhash = methods.get("minhash")
    ranked = {"id": "a", "text": "a b", "meta": {"when": "2026-01-01", "n": 3, "m": 4}}
    return SimpleNamespace(
        recipe=recipe,
        files=recipe.files(),
        inputs=recipe.inputs(),
        methods=methods,
        exact=methods["exact"].folded("A  b! c") if "exact" in methods else None,
        shape=minhash.shape() if minhash else None,
        banding=minhash.banding() if minhash else None,
        rank=lambda: dedup.preference(recipe.keep, ranked, "a b", Path("old.jsonl"), "x:1"),
        threads=dedup.threads_of(recipe),
        fits=lambda size: dedup.fits(recipe, size),
        seed=kernels.permutations(2, recipe.seed)[0].tolist(),
    )


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
    "methods[overlap].ngram": (13, lambda b: b.methods["overlap"].rule, "13-gram coverage >= 0.5"),
    "methods[overlap].coverage": (
        0.9,
        lambda b: b.methods["overlap"].rule,
        "8-gram coverage >= 0.9",
    ),
    "methods[overlap].shortest": (9, lambda b: b.methods["overlap"].shortest),
    "methods[overlap].symbols": (
        True,
        lambda b: int(b.methods["overlap"]._shape(8).classes[43]),
        3,
    ),
    "against": (["recipes/samples/chat.jsonl"], lambda b: [str(p) for p in b.recipe.against]),
    "leaks": (False, _own("leaks")),
    "kernel": ("numpy", _own("kernel")),
    "threads": (3, lambda b: b.threads),
    "examples": (5, _own("examples")),
    "methods[minhash].bands": (20, lambda b: b.banding, (20, 6)),
    "methods[minhash].rows": (6, lambda b: b.banding, (21, 6)),
    "keep.prefer": (["new*", "old*"], lambda b: b.rank()[0], 1),
    "keep.by": ("lowest", lambda b: b.rank(), (0, 3)),
    "keep.field": ("meta.m", lambda b: b.rank(), (0, -4)),
}
