"""Rows with what judges said of them; those that were judged low leave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl import rows as files
from llmctl import ui
from llmctl.data.filters.base import answer_of, field_of
from llmctl.errors import InconclusiveError, InputError
from llmctl.evaluation import judging as figures
from llmctl.generation.spending import current
from llmctl.judges.base import POINTS, Answered, Contest, Judgement, LiveJudge, Preference
from llmctl.records import Dropped, check_example, check_pair, form_of
from llmctl.schema.judging import Judging, Shown

if TYPE_CHECKING:
    from llmctl.report.html import Report

Row = Mapping[str, Any]
SHOWN = 5
"""Best and worst rows in the report."""


@dataclass
class Judged:
    """One judge and what it said, for the manifest and the report."""

    setting: Judging
    figures: dict[str, Any]
    calibration: dict[str, Any] = field(default_factory=dict)
    extremes: list[tuple[str, str]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def line(self) -> str:
        """The judge in a few words, for the summary."""
        return figures.line(self.figures, self.calibration)


def judged(
    settings: Sequence[Judging], rows: Sequence[Row], cache: Path | None, told: list[Judged]
) -> Iterator[Row | Dropped]:
    """Every row with `meta.judgements`; each judge sees what the one before it left."""
    left = list(rows)
    for setting in settings:
        kept = []
        for each in _by_one(setting, left, cache, told):
            if isinstance(each, Dropped):
                yield each
            else:
                kept.append(each)
        left = kept
    yield from left


def _by_one(
    setting: Judging, rows: Sequence[Row], cache: Path | None, told: list[Judged]
) -> Iterator[Row | Dropped]:
    """Rows with this judge's word, or why they leave."""
    said: list[Judgement | Preference] = []
    label, account = f"judge {setting.title}", current()
    with setting.judge.open(cache) as live, ui.progress(label, len(rows)) as advance:
        for each in opinions(live, rows, setting.show):
            said.append(each)
            advance(1, account.told() if account is not None else "")
        agreement = calibrated(live, setting.labels, setting.show) if setting.labels else {}
    told.append(_told(setting, rows, said, agreement))
    silent = sum(_score(each) is None for each in said)
    if silent > setting.max_unmeasured * len(rows):
        why = next(each.reason for each in said if _score(each) is None)
        raise InconclusiveError(
            f"{setting.title}: {silent} of {len(rows)} rows were not judged ({why[:200]}); "
            f"allowed is a share of {setting.max_unmeasured:g}"
        )
    for row, each in zip(rows, said, strict=True):
        score = _score(each)
        if score is None and setting.unmeasured == "drop":
            yield Dropped(str(row["id"]), "unmeasured", f"{setting.title}: {each.reason[:200]}")
        elif score is not None and setting.min is not None and score < setting.min:
            detail = f"{setting.title}: {score:g} < {setting.min:g}"
            yield Dropped(str(row["id"]), "judged_low", detail)
        else:
            meta = row.get("meta") or {}
            words = [*meta.get("judgements", ()), word_of(setting.title, each)]
            yield {**row, "meta": {**meta, "judgements": words}}


def opinions(
    live: LiveJudge, rows: Sequence[Row], show: Shown
) -> Iterator[Judgement] | Iterator[Preference]:
    """Scores of single answers and texts, preferences between the answers of pairs."""
    form = form_of(rows[0]) if rows else "examples"
    if form == "candidates":
        raise InputError("judges: candidates have several answers; the builder best_worst judges")
    if form == "pairs":
        return live.compare([contest_of(row, show) for row in rows])
    return live.score([answered_of(row, show) for row in rows])


def answered_of(row: Row, show: Shown) -> Answered:
    """A row's last answer and what was asked; of raw text the text, with nothing asked."""
    if "prompt" in row:
        return Answered(str(row["id"]), row["prompt"], answer_of(row), **beside(row, show))
    turns = list(row.get("messages") or ())
    while turns and turns[-1]["role"] != "assistant":
        turns.pop()
    return Answered(str(row["id"]), turns[:-1], answer_of(row), **beside(row, show))


def contest_of(row: Row, show: Shown) -> Contest:
    """The chosen answer against the rejected one."""
    first, second = (row[side][-1]["content"] for side in ("chosen", "rejected"))
    return Contest(str(row["id"]), row["prompt"], first, second, **beside(row, show))


def beside(row: Row, show: Shown) -> dict[str, Any]:
    """What a judge is shown beside question and answer."""
    found: dict[str, Any] = {"row": row}
    for name in ("reference", "context", "note"):
        value = field_of(row, getattr(show, name))
        found[name] = None if value is None else str(value)
    return found


def word_of(name: str, each: Judgement | Preference) -> dict[str, Any]:
    """What a row keeps of a judge's word."""
    found: dict[str, Any] = {"judge": name, "score": _score(each), "reason": each.reason}
    if isinstance(each, Preference):
        found |= {"winner": each.winner, "consistent": each.consistent}
    if each.votes:
        found["votes"] = list(each.votes)
    return found


def _score(each: Judgement | Preference) -> float | None:
    return each.score if isinstance(each, Judgement) else each.points


def _told(
    setting: Judging,
    rows: Sequence[Row],
    said: Sequence[Judgement | Preference],
    agreement: dict[str, Any],
) -> Judged:
    scored = [each for each in said if isinstance(each, Judgement)]
    compared = [each for each in said if isinstance(each, Preference)]
    if compared:
        contests = [contest_of(row, setting.show) for row in rows]
        found = figures.of_preferences(contests, compared)
    else:
        found = figures.of_scores([answer_of(row) for row in rows], scored)
    order = [
        (score, number) for number, each in enumerate(said) if (score := _score(each)) is not None
    ]
    order.sort(key=lambda each: (each[0], each[1]))
    ends = [*order[:SHOWN], *order[max(SHOWN, len(order) - SHOWN) :]]
    extremes = [
        (f"{score:g}: {said[number].reason[:300]}", answer_of(rows[number])[:1500])
        for score, number in ends
    ]
    return Judged(setting, found, agreement, extremes, [score for score, _ in order])


def calibrated(live: LiveJudge, path: Path, show: Shown) -> dict[str, Any]:
    """The judge's agreement with people on the rows of a file of labels."""
    rows = []
    labels = []
    for number, row in enumerate(files.read(path), 1):
        where = f"{path}:{number}"
        label = row.get("label")
        if "chosen" in row:
            check_pair(row, where)
            if label not in POINTS:
                raise InputError(f"{where}: `label` is {', '.join(POINTS)}; found {label!r}")
            labels.append(POINTS[label])
        else:
            check_example(row, where)
            if not isinstance(label, int | float):
                raise InputError(f"{where}: `label` is a number on the judge's scale")
            labels.append(float(label))
        rows.append({"id": where, **row})
    if not rows:
        raise InputError(f"{path}: has no rows")
    return figures.calibration(labels, [_score(each) for each in opinions(live, rows, show)])


def metrics(told: Sequence[Judged]) -> dict[str, Any]:
    """For the manifest, by judge."""
    return {
        each.setting.title: each.figures
        | ({"calibration": each.calibration} if each.calibration else {})
        for each in told
    }


def write_sections(report: Report, told: Sequence[Judged]) -> None:
    """What judges said, how far they can be trusted, and the rows at both ends."""
    for each in told:
        report.heading(f"Judge {each.setting.title}")
        plain = [
            (name.replace("_", " "), value if isinstance(value, int) else f"{value:.3g}")
            for name, value in each.figures.items()
            if isinstance(value, int | float)
        ]
        report.facts(plain)
        for reason, count in each.figures.get("unmeasured_reasons", {}).items():
            report.text(f"{count} unmeasured: {reason}")
        if each.scores:
            report.histogram("scores", {each.setting.title: each.scores}, "score")
        if each.calibration:
            report.text("Agreement with people on the labelled rows:")
            report.facts([(k.replace("_", " "), f"{v:.3g}") for k, v in each.calibration.items()])
        report.examples(f"{each.setting.title}: lowest and highest", each.extremes)
