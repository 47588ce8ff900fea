"""What may be asked of `dedup`: where rows are, what is compared, who stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llmctl.data.dedupers.base import Deduper
from llmctl.schema.base import Part, Recipe

BY_FIELD = ("highest", "lowest", "newest")


class Keep(Part):
    """Which of the twins stays; what is still equal is decided by the order of the rows."""

    by: Literal["first", "longest", "shortest", "highest", "lowest", "newest"] = Field(
        "first", description="The row that stays; the last three look at `field`."
    )
    field: str | None = Field(
        None, min_length=1, description="Dotted field with a number, or a date for `newest`."
    )
    prefer: list[str] = Field(
        default_factory=list,
        description="Patterns of preferred sources, best first, tried before `by`: the row's file, "
        "source.uri or source.document.",
    )

    @model_validator(mode="after")
    def _field_where_needed(self) -> Self:
        if (self.by in BY_FIELD) != (self.field is not None):
            raise ValueError(f"`field` goes with {', '.join(BY_FIELD)}; `by` is {self.by}")
        return self


class DedupRecipe(Recipe):
    """Rows in, the same rows without repeats out."""

    needs: ClassVar[dict[str, str]] = {"numpy": ""}

    stage: Literal["dedup"] = Field(description="Always `dedup`.")
    data: Path | list[Path] = Field(
        description="Artifact folder of build-dataset (its train split), or a file of rows "
        "(.jsonl, .jsonl.gz, .parquet), or a list of files."
    )
    text: list[str] = Field(
        default_factory=list,
        description="Dotted fields that are compared; by the type of row when empty: the contents "
        "of messages, or prompt, chosen and rejected, or text.",
    )
    methods: list[Deduper] = Field(
        default_factory=lambda: [Deduper.of("exact"), Deduper.of("minhash")],
        min_length=1,
        description="How rows are compared; each kind at most once, cheap kinds run first.",
    )
    keep: Keep = Field(
        default_factory=lambda: Keep.model_validate({}), description="Which of the twins stays."
    )
    against: list[Path] = Field(
        default_factory=list,
        description="Files of rows that are never dropped and whose repeats in `data` are.",
    )
    leaks: bool = Field(
        True,
        description="Whether rows of train that occur in the artifact's validation or test split "
        "are dropped.",
    )
    kernel: Literal["auto", "numpy", "numba"] = Field(
        "auto", description="The inner loops: equal results, numba (extra `fast`) is faster."
    )
    threads: int = Field(0, ge=0, le=1024, description="Threads; 0: one for each processor.")
    memory_mb: int = Field(
        4096, ge=256, description="Memory to use, in MB; a larger input is worked on from files."
    )
    examples: int = Field(
        20, ge=0, le=1000, description="Dropped rows beside their twins in the report, per reason."
    )

    @model_validator(mode="after")
    def _methods_agree(self) -> Self:
        methods: dict[str, Any] = {each.kind: each for each in self.methods}
        if len(methods) < len(self.methods):
            raise ValueError("methods: each kind may be there once")
        exact, minhash = methods.get("exact"), methods.get("minhash")
        if exact and minhash:
            # else the kept twin of an exact repeat could be unlike it for minhash
            if exact.ignore_case and not minhash.ignore_case:
                raise ValueError("methods: exact ignores case and minhash does not; set both alike")
            if exact.ignore_punctuation and minhash.symbols:
                raise ValueError("methods: exact ignores the symbols that minhash compares")
        return self

    def files(self) -> dict[str, Path]:
        """Recipe key -> the file or folder of rows to deduplicate."""
        if isinstance(self.data, Path):
            return {"data": self.data}
        return {f"data.{i}": path for i, path in enumerate(self.data)}

    def inputs(self) -> dict[str, Path | str]:
        """The rows, and what they are compared with."""
        return {**self.files(), **{f"against.{i}": path for i, path in enumerate(self.against)}}

    def estimate(self) -> dict[str, str]:
        """The chance to find pairs, and memory from the size of the files."""
        from llmctl.data.dedupers.minhash import MinhashDeduper

        lines = {}
        for each in self.methods:
            if isinstance(each, MinhashDeduper):
                bands, rows = each.banding()
                points = _around(each.threshold)
                curve = ", ".join(f"{each.chance(t):.4f} at {t:g}" for t in points)
                lines["bands x rows"] = f"{bands} x {rows}; a pair is compared with chance {curve}"
        paths = [Path(str(p)) for p in self.inputs().values() if Path(str(p)).is_file()]
        size = sum(p.stat().st_size for p in paths) / 2**20
        if size:
            needed = min(4 * size + 120, self.memory_mb)
            lines["memory"] = f"about {needed:.0f} MB for {size:.0f} MB of rows"
        return lines


def _around(threshold: float) -> list[float]:
    points = (round(threshold + step, 4) for step in (-0.2, -0.1, 0.0, 0.1))
    return [point for point in points if 0 < point <= 1]
