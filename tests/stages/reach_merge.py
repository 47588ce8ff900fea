"""Where each key of a merge recipe lands."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

BASE: dict[str, Any] = {"model": "some/model", "sources": [{"adapter": "one"}, {"model": "two"}]}
AROUND: dict[str, dict[str, Any]] = {
    "density": {"method": "ties"},
    "sources.model": {"sources": [{"model": "two"}]},
}

SEVENTH = torch.rand(3, generator=torch.Generator().manual_seed(7)).tolist()


def build(recipe: Any, tmp_path: Path) -> SimpleNamespace:
    from llmctl.stages.merge import Parts
    from llmctl.training import merging

    parts = Parts.__new__(Parts)
    parts.recipe, parts.folder = recipe, tmp_path
    (tmp_path / "config.json").write_text('{"dtype": "float32"}')
    draws = torch.Generator().manual_seed(recipe.seed)
    drawn = torch.rand(3, generator=draws)
    change = torch.arange(10.0)
    return SimpleNamespace(
        inputs=recipe.inputs(),
        weights=recipe.weights(),
        drawn=drawn.tolist(),
        dtype=str(parts.dtype()),
        needs=recipe.all_needs(),
        scale=recipe.scale,
        kept=int((merging.joined([change], [1.0], recipe.method, recipe.density, draws) > 0).sum()),
    )


ROWS: dict[str, Any] = {
    "stage": None,
    "version": None,
    "out": None,
    "seed": (7, lambda built: built.drawn, SEVENTH),
    "model": ("other/model", lambda built: built.inputs["model"]),
    "sources.adapter": ("x", lambda built: built.inputs["sources.0.adapter"], Path("x")),
    "sources.model": ("x", lambda built: built.inputs["sources.0.model"]),
    "sources.weight": (0.3, lambda built: built.weights[0]),
    "method": ("ties", lambda built: built.kept, 5),
    "density": (0.2, lambda built: built.kept, 2),
    "scale": (0.5, lambda built: built.scale),
    "dequantize": (True, lambda built: "bitsandbytes" in built.needs),
    "dtype": ("bf16", lambda built: built.dtype, "torch.bfloat16"),
}  # fmt: skip
