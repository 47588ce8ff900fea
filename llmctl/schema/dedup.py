"""What may be asked of `dedup`: where rows are, what is compared, who stays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from llmctl.data.dedupers.base import Deduper
from llmctl.data.detectors.base import Detector
from llmctl.data.runners.base import Runner
from llmctl.schema.base import Part, Recipe
from llmctl.schema.parts import Paths

EDITED = {"kind": "overlap", "ngram": 3, "weighted": True, "coverage": 0.67, "strict": 0.72,
          "flag": None, "shortest": 8}  # fmt: skip
"""Finds items with changed words, and short ones; chosen by bench/decontaminate.py."""
Threshold = Annotated[float, Field(gt=0, le=1)]
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


class Benchmark(Part):
    """Where the items of a benchmark come from: rows, an eval recipe, or an lm-eval task."""

    data: Path | None = Field(
        None,
        description="File of rows, artifact folder (its test split), folder whose files are one "
        "benchmark each, or an eval recipe (.yaml): all that its tasks read. With `task`, the "
        "folder of lm-eval's data under its hub ids.",
    )
    task: str | None = Field(None, min_length=1, description="Task or group of lm-eval, by name.")
    name: str | None = Field(
        None, min_length=1, description="Name in the report; else that of the file or the task."
    )
    fields: list[str] = Field(
        default_factory=list,
        description="Dotted fields that make the item; else question, problem, instruction, "
        "prompt, text or the user's messages, whichever is there.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return cls.in_full(str(value)) if isinstance(value, str | Path) else value

    @classmethod
    def in_full(cls, text: str) -> dict[str, Any]:
        """A text alone is its `data`."""
        return {"data": text}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """A path, or the mapping."""
        return {"anyOf": [{"type": "string", "format": "path"}, handler(core)]}

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.data is None and self.task is None:
            raise ValueError("say where the items are: `data` or `task`")
        return self

    def evaluation(self) -> Any:
        """The eval recipe that `data` names, or None."""
        from llmctl.schema.base import load

        if self.data is None or self.task or self.data.suffix not in (".yaml", ".yml"):
            return None
        return load("eval", self.data).recipe if self.data.is_file() else None


class Decontaminate(Part):
    """Benchmarks that may not stand in the data, and how they are looked for."""

    benchmarks: list[Benchmark] = Field(
        min_length=1,
        description="Files and folders of items, or mappings with `data`, `task`, `recipe`.",
    )
    rules: list[Detector] = Field(
        default_factory=lambda: [Detector.of("overlap"), Detector.of(EDITED)],
        min_length=1,
        description="How items are found; a row goes when one rule drops it.",
    )


class DedupRecipe(Recipe):
    """Rows in, the same rows without repeats out."""

    impl: ClassVar[int] = 2
    needs: ClassVar[dict[str, str]] = {"numpy": ""}

    stage: Literal["dedup"] = Field(description="Always `dedup`.")
    data: Paths = Field(
        description="Folder with a train split (an artifact of build-dataset, or shards as the Hub "
        "names them), a file of rows (.jsonl, .jsonl.gz, .parquet), a pattern of files, a folder "
        "of .txt and .md files, or a list of these."
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
    sweep: list[Threshold] = Field(
        default_factory=list,
        description="Other thresholds of minhash: the report says how many rows each would drop.",
    )
    keep: Keep = Field(
        default_factory=lambda: Keep.model_validate({}), description="Which of the twins stays."
    )
    against: list[Path] = Field(
        default_factory=list,
        description="Files of rows, or dedup artifacts, that are never dropped and whose repeats "
        "in `data` are.",
    )
    decontaminate: Decontaminate | None = Field(
        None, description="Look for benchmark items in the rows, before anything is compared."
    )
    leaks: bool = Field(
        True,
        description="Whether rows of train that occur in the artifact's validation or test split "
        "are dropped.",
    )
    kernel: Literal["auto", "numpy", "numba"] = Field(
        "auto", description="The inner loops: equal results, numba (extra `fast`) is faster."
    )
    runner: Runner = Field(
        default_factory=lambda: Runner.of("local"),
        description="Where rows are signed and compared: equal results.",
    )
    index: bool = Field(
        False,
        description="Whether to keep what a later run with this artifact in `against` needs to "
        "compare new rows without signing these again.",
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
        if self.cuts and (len(self.text) > 1 or any("." in name for name in self.text)):
            raise ValueError("substring: `action: cut` changes one field; name it alone in `text`")
        if self.cuts and self.index:
            raise ValueError("index: a run that cuts passages leaves none; run dedup on its result")
        return self

    @model_validator(mode="after")
    def _swept(self) -> Self:
        """What is to be swept is asked of the method."""
        if not self.sweep:
            return self
        if not any(each.kind == "minhash" for each in self.methods):
            raise ValueError("sweep: only minhash has a threshold to sweep; it is not in `methods`")
        for i, each in enumerate(self.methods):
            if each.kind == "minhash":
                asked = {"kind": each.kind, **each.model_dump(), "sweep": self.sweep}
                self.methods[i] = Deduper.of(asked)
        return self

    @property
    def cuts(self) -> bool:
        """Whether passages are taken out of rows."""
        return any(getattr(each, "action", None) == "cut" for each in self.methods)

    def files(self) -> dict[str, Path]:
        """Recipe key -> the file or folder of rows to deduplicate."""
        if isinstance(self.data, Path):
            return {"data": self.data}
        return {f"data.{i}": path for i, path in enumerate(self.data)}

    def inputs(self) -> dict[str, Path | str]:
        """The rows, and what they are compared with."""
        found: dict[str, Path | str] = {**self.files()}
        found |= {f"against.{i}": path for i, path in enumerate(self.against)}
        for i, each in enumerate(self.decontaminate.benchmarks if self.decontaminate else ()):
            key = f"decontaminate.benchmarks.{i}"
            if each.data is not None:
                found[key] = each.data
            evaluation = each.evaluation()
            for number, task in enumerate(evaluation.tasks if evaluation else ()):
                found |= {f"{key}.{number}.{k}": path for k, path in task.inputs().items()}
        return found

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
