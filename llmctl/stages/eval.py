"""eval: tasks for a model and a baseline on the same items, differences, a verdict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from llmctl import rows, ui
from llmctl.artifact import Artifact
from llmctl.errors import GateError, InconclusiveError, LlmctlError
from llmctl.evaluation import contamination, gates, statistics
from llmctl.evaluation.tasks.base import Item, Scored, Task
from llmctl.schema.eval import EvalRecipe

MODEL, BASELINE = "model", "baseline"


@dataclass
class Result:
    """A task's items and what each side got for them."""

    task: Task
    items: list[Item]
    scored: dict[str, list[Scored]] = field(default_factory=dict)
    contamination: dict[str, int] | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    """About the model's items together, beside their means."""

    @property
    def unmeasured(self) -> int:
        """Items that have no numbers on one side at least."""
        return sum(
            any(s.unmeasured for s in each) for each in zip(*self.scored.values(), strict=True)
        )


def run(recipe: EvalRecipe, artifact: Artifact) -> None:
    """Write results.json, samples.jsonl, report.html and junit.xml; a failed gate is recorded."""
    results = [Result(task, []) for task in recipe.tasks]
    for each in results:
        each.items = each.task.items(artifact.scratch, recipe.limit, recipe.seed)
    tables = contamination.known(artifact, "model")
    for each in results:
        each.contamination = contamination.of_task(each.task, each.items, tables)
    for side, ref in sides(recipe):
        with started(recipe, ref) as session:
            for each in results:
                each.scored[side] = _score(each, side, session, artifact.scratch)
    for each in results:
        folder = _folder(artifact.scratch, MODEL, each.task)
        each.figures = each.task.figures(each.scored[MODEL], folder, recipe.confidence)
    measured = measure(recipe, results)
    decisions = decide(recipe, measured)
    _write(recipe, artifact, results, measured, decisions)
    artifact.failed = verdict(recipe, results, decisions)


@contextmanager
def started(recipe: EvalRecipe, ref: str) -> Iterator[Any]:
    """The running model of one side; None when no task asks one."""
    if any(task.asks_model for task in recipe.tasks):
        with engine(recipe, ref).start() as session:
            yield session
    else:
        yield None


def sides(recipe: EvalRecipe) -> Iterator[tuple[str, str]]:
    """(side, model reference); one model is in memory at a time."""
    if recipe.baseline is not None:
        yield BASELINE, recipe.baseline
    yield MODEL, recipe.model or ""


def engine(recipe: EvalRecipe, ref: str) -> Any:
    """What runs one side."""
    from llmctl.engines.transformers import TransformersEngine

    return TransformersEngine(model=ref, dtype=recipe.dtype, device=recipe.device)


def _folder(work: Path, side: str, task: Task) -> Path:
    """Where a side of a task keeps what a killed run need not do again."""
    return work / f"{side}-{task.title}"


def _score(result: Result, side: str, session: Any, work: Path) -> list[Scored]:
    """Every item's numbers; those of a killed run are read, not measured again."""
    folder = _folder(work, side, result.task)
    folder.mkdir(exist_ok=True)
    done = folder / "scored.jsonl"
    found = _finished(done)
    left = [item for item in result.items if item.id not in found]
    label = f"{result.task.title}: {side}"
    with ui.progress(label, len(result.items)) as advance, done.open("a") as file:
        advance(len(result.items) - len(left))
        each = result.task.score(session, left, folder) if left else ()
        for item, scored in zip(left, each, strict=True):
            file.write(rows.dumps({"id": item.id, **asdict(scored)}) + "\n")
            file.flush()
            found[item.id] = scored
            advance(1)
    return [found[item.id] for item in result.items]


def _finished(path: Path) -> dict[str, Scored]:
    """What a killed run had measured."""
    return {row.pop("id"): Scored(**row) for row in rows.finished(path)}


def measure(recipe: EvalRecipe, results: list[Result]) -> dict[str, gates.Measured]:
    """TASK.METRIC -> what was measured."""
    return {name: metric for each in results for name, metric in metrics(each, recipe.confidence)}


def decide(recipe: EvalRecipe, measured: dict[str, gates.Measured]) -> list[gates.Decision]:
    """Every limit of the gate and how it came out."""
    return [
        decision
        for rule in recipe.gate
        for decision in gates.decide(rule, measured, recipe.confidence)
    ]


def too_few(recipe: EvalRecipe, result: Result) -> bool:
    """Whether more of a task's items are unmeasured than the recipe allows."""
    return result.unmeasured > recipe.max_unmeasured * len(result.items)


def metrics(result: Result, confidence: float) -> Iterator[tuple[str, gates.Measured]]:
    """(TASK.METRIC, what was measured), each over the items that every side has."""
    shared = [
        i
        for i in range(len(result.items))
        if not any(side[i].unmeasured for side in result.scored.values())
    ]
    names = dict.fromkeys(n for i in shared for n in result.scored[MODEL][i].values)
    for metric in names:
        name = f"{result.task.title}.{metric}"
        each: dict[str, list[float]] = {}
        weights: dict[str, list[float]] = {}
        for side, scored in result.scored.items():
            # a group of benchmarks may measure a metric in some of its tasks only
            has = [i for i in shared if metric in scored[i].values]
            each[side] = [scored[i].values[metric] for i in has]
            weights[side] = [scored[i].weights.get(metric, 1.0) for i in has]
        has = [i for i in shared if metric in result.scored[MODEL][i].values]
        clusters = [result.items[i].cluster for i in has]
        bounds = result.task.bounds(metric)
        estimates = {
            side: statistics.estimate(each[side], weights[side], clusters, confidence, bounds)
            for side in each
        }
        found = gates.Measured(
            name, estimates[MODEL], metric in result.task.lower_is_better, estimates.get(BASELINE)
        )
        yield name, _compared(found, each, weights, clusters, confidence, bounds)


def _compared(
    found: gates.Measured,
    each: dict[str, list[float]],
    weights: dict[str, list[float]],
    clusters: list[str | None],
    confidence: float,
    bounds: statistics.Bounds | None,
) -> gates.Measured:
    if found.baseline is None:
        return found
    if weights[MODEL] != weights[BASELINE]:
        return replace(found, no_difference="the two models' tokenizers differ")
    difference = statistics.difference(
        each[BASELINE], each[MODEL], weights[MODEL], clusters, confidence, bounds
    )
    return replace(found, difference=difference)


def verdict(
    recipe: EvalRecipe, results: list[Result], decisions: list[gates.Decision]
) -> LlmctlError | None:
    """Why the run does not count as good; None when it does."""
    failed = [d for d in decisions if d.verdict == "failed"]
    if failed:
        return GateError("gate failed: " + "; ".join(f"{d.rule}: {d.detail}" for d in failed))
    lost = [each for each in results if too_few(recipe, each)]
    if lost:
        shown = "; ".join(
            f"{each.task.title}: {each.unmeasured} of {len(each.items)} items are unmeasured "
            f"({_first_reason(each)})"
            for each in lost
        )
        return InconclusiveError(f"{shown}; allowed is a share of {recipe.max_unmeasured}")
    undecided = [d for d in decisions if d.verdict == "inconclusive"]
    if undecided:
        shown = "; ".join(f"{d.rule}: {d.detail}" for d in undecided)
        return InconclusiveError(f"gate cannot be decided: {shown}")
    return None


def _first_reason(result: Result) -> str:
    return next(s.unmeasured for side in result.scored.values() for s in side if s.unmeasured)


def _write(
    recipe: EvalRecipe,
    artifact: Artifact,
    results: list[Result],
    measured: dict[str, gates.Measured],
    decisions: list[gates.Decision],
) -> None:
    from llmctl.evaluation import report

    artifact.write_jsonl("samples.jsonl", samples(results))
    artifact.write_json("results.json", document(recipe, results, measured, decisions))
    for name, each in measured.items():
        artifact.metrics[name] = each.model.value
        artifact.metrics[f"{name}_se"] = each.model.se
        artifact.metrics[f"{name}_n"] = each.model.n
        if each.difference is not None:
            artifact.metrics[f"{name}_diff"] = each.difference.value
            artifact.metrics[f"{name}_diff_se"] = each.difference.se
        artifact.summary.append((name, report.line(each)))
    for result in results:
        if result.contamination is not None:
            told = contamination.told(result.contamination)
            artifact.summary.append((f"{result.task.title} contamination", told))
        for name, value in result.figures.items():
            artifact.metrics[f"{result.task.title}.{name}"] = value
        if told := result.task.figures_line(result.figures):
            artifact.summary.append((f"{result.task.title} judge", told))
        if result.unmeasured:
            artifact.metrics[f"{result.task.title}.unmeasured"] = result.unmeasured
    artifact.summary += [(f"gate {d.verdict}", f"{d.rule}: {d.detail}") for d in decisions]
    report.write(recipe, artifact, results, measured, decisions)
    artifact.write_text("junit.xml", report.junit(recipe, results, decisions))


def samples(results: list[Result]) -> Iterator[dict[str, Any]]:
    """One row per item with what each side got."""
    for result in results:
        for number, item in enumerate(result.items):
            row: dict[str, Any] = {
                "id": item.id,
                "task": result.task.title,
                "source": {"uri": item.where},
                "meta": {"cluster": item.cluster},
            }
            for side, scored in result.scored.items():
                one = scored[number]
                row[side] = {"unmeasured": one.unmeasured} if one.unmeasured else {
                    **one.values, **one.shown,
                }  # fmt: skip
            yield row


def document(
    recipe: EvalRecipe,
    results: list[Result],
    measured: dict[str, gates.Measured],
    decisions: list[gates.Decision],
) -> dict[str, Any]:
    """results.json."""
    tasks: dict[str, Any] = {
        result.task.title: {
            "kind": result.task.kind,
            "items": len(result.items),
            "unmeasured": result.unmeasured,
            "contamination": result.contamination,
            "figures": result.figures,
            "metrics": {},
        }
        for result in results
    }
    for name, each in measured.items():
        title, _, metric = name.partition(".")
        row: dict[str, Any] = {"lower_is_better": each.lower_is_better}
        for side in (MODEL, BASELINE, "difference"):
            found = getattr(each, side)
            if found is not None:
                row[side] = asdict(found)
        if each.baseline is not None and each.difference is None:
            row["no_difference"] = each.no_difference
        tasks[title]["metrics"][metric] = row
    return {
        "model": recipe.model,
        "baseline": recipe.baseline,
        "confidence": recipe.confidence,
        "limit": recipe.limit,
        "seed": recipe.seed,
        "tasks": tasks,
        "gate": [gates.as_row(decision) for decision in decisions],
    }
