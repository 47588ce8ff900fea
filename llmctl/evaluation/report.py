"""Results for people (HTML, a line each) and for CI (JUnit XML)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from llmctl.artifact import Artifact
from llmctl.evaluation import contamination
from llmctl.evaluation.gates import Decision, Measured
from llmctl.evaluation.statistics import Estimate
from llmctl.report.html import Report
from llmctl.schema.eval import EvalRecipe

if TYPE_CHECKING:
    from llmctl.stages.eval import Result


def line(found: Measured) -> str:
    """One metric in words, with the error and the comparison."""
    text = str(found.model)
    if found.name.endswith(".loss"):
        text += f", perplexity {math.exp(found.model.value):.2f}"
    if found.baseline is not None:
        text += f"; baseline {found.baseline.value:.4g}"
    if found.difference is not None:
        text += f", difference {found.difference}"
    elif found.baseline is not None:
        text += f" ({found.no_difference})"
    return text


def named(recipe: EvalRecipe) -> str:
    """What is measured, for titles."""
    return recipe.model or ", ".join(task.title for task in recipe.tasks)


def write(
    recipe: EvalRecipe,
    artifact: Artifact,
    results: list[Result],
    measured: dict[str, Measured],
    decisions: list[Decision],
) -> None:
    """report.html."""
    report = Report(f"eval: {named(recipe)}")
    report.facts(
        [
            ("model", recipe.model or "none"),
            ("baseline", recipe.baseline or "none"),
            ("intervals", f"{recipe.confidence:.0%}"),
            ("items", ", ".join(f"{r.task.title} {len(r.items)}" for r in results)),
            ("unmeasured", sum(r.unmeasured for r in results)),
        ]
    )
    if decisions:
        report.heading("Gate")
        report.table(
            ("rule", "verdict", "measured"), [(d.rule, d.verdict, d.detail) for d in decisions]
        )
    report.heading("Results")
    columns = ["metric", "model", "± SE", "interval", "n"]
    rows: list[list[object]] = []
    for name, each in measured.items():
        row: list[object] = [name, each.model.value, each.model.se, _span(each.model), each.model.n]
        if recipe.baseline is not None:
            row += _compared(each)
        rows.append(row)
    if recipe.baseline is not None:
        columns += ["baseline", "difference", "± SE", "interval", "p", "detectable"]
        report.text(
            "Differences are paired: model minus baseline on the same items. `detectable` is the "
            "smallest true difference that this many items show in 80 % of the cases."
        )
    report.table(columns, rows)
    if recipe.model:
        report.heading("Contamination")
        report.text(
            "Whether `dedup` found a task's items in the data that the model was tuned on. What "
            "the base model was trained on is not known."
        )
        report.table(
            ["task", "items in the training data"],
            [(r.task.title, contamination.told(r.contamination)) for r in results],
        )
    report.heading("Charts")
    first = {name.partition(".")[0]: name for name in reversed(measured)}
    for name in reversed(first.values()):
        each = measured[name]
        items = [("model", each.model.value, _error(each.model))]
        if each.baseline is not None:
            items.insert(0, ("baseline", each.baseline.value, _error(each.baseline)))
        report.bars(f"{name} (± 1 SE)", items)
    for result in results:
        flipped = list(_flipped(result))
        if flipped:
            report.examples(f"{result.task.title}: items that changed", flipped[:10])
    for result in results:
        if result.figures:
            report.heading(f"{result.task.title}: figures")
            report.facts(list(_flat(result.figures)))
        result.task.report(report, result.scored["model"], recipe.confidence)
    report.write(artifact.path("report.html"))


def _flat(figures: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Names and values, those of a group after the group's name."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}: {inner}", each) for inner, each in _flat(value))
        else:
            yield name.replace("_", " "), f"{value:.3g}" if isinstance(value, float) else value


def _compared(each: Measured) -> list[object]:
    base = each.baseline.value if each.baseline else None
    if each.difference is None:
        return [base, each.no_difference, None, None, None, None]
    d = each.difference
    return [base, d.value, d.se, _span(d), "< 0.0001" if d.p < 1e-4 else f"{d.p:.2g}", d.detectable]


def _span(found: Estimate) -> str:
    if not math.isfinite(found.low):
        return "unknown"
    return f"{found.low:.3g}\u00a0…\u00a0{found.high:.3g}"


def _error(found: Estimate) -> float | None:
    return found.se if math.isfinite(found.se) else None


def _flipped(result: Result) -> Any:
    """(what changed, the item) where the first metric is 0 or 1 and differs between the sides."""
    if "baseline" not in result.scored:
        return
    for item, model, base in zip(
        result.items, result.scored["model"], result.scored["baseline"], strict=True
    ):
        for name, value in model.values.items():
            before = base.values.get(name)
            if {value, before} == {0.0, 1.0}:
                data = item.data
                text = data.get("question") or data.get("prompt") or data.get("messages") or data
                change = "gained" if value else "lost"
                yield f"{change} ({name}): {item.where}", _plain(text)
            break


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(
            f"{m.get('role')}: {m.get('content')}" if isinstance(m, dict) else str(m) for m in value
        )
    return str(value)


def junit(
    recipe: EvalRecipe,
    results: list[Result],
    decisions: list[Decision],
) -> str:
    """One test case for each rule of the gate and one for each task's unmeasured items."""
    root = ElementTree.Element("testsuites", name=f"llmctl eval {named(recipe)}")
    for title, cases in (("gate", _gate(decisions)), ("measured", _measured(recipe, results))):
        suite = ElementTree.SubElement(root, "testsuite", name=title)
        counts = {"failure": 0, "error": 0}
        for name, kind, detail in cases:
            case = ElementTree.SubElement(suite, "testcase", classname=title, name=name)
            if kind:
                counts[kind] += 1
                ElementTree.SubElement(case, kind, message=detail)
            else:
                ElementTree.SubElement(case, "system-out").text = detail
        suite.set("tests", str(len(cases)))
        suite.set("failures", str(counts["failure"]))
        suite.set("errors", str(counts["error"]))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _gate(decisions: list[Decision]) -> list[tuple[str, str, str]]:
    kinds = {"passed": "", "failed": "failure", "inconclusive": "error"}
    return [(d.rule, kinds[d.verdict], d.detail) for d in decisions]


def _measured(recipe: EvalRecipe, results: list[Result]) -> list[tuple[str, str, str]]:
    from llmctl.stages.eval import too_few

    cases = []
    for result in results:
        lost = too_few(recipe, result)
        detail = f"{result.unmeasured} of {len(result.items)} items unmeasured"
        cases.append((result.task.title, "error" if lost else "", detail))
    return cases
