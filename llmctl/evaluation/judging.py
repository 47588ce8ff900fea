"""What is known about a judge from what it said: silence, bias of length and position, agreement.

A number that cannot be computed (too few items, nothing varies) is left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean
from typing import Any

from llmctl.evaluation.agreement import cohen_kappa, correlation, fleiss_kappa, known
from llmctl.judges.base import POINTS, Contest, Judgement, Preference

REASON_CHARS = 60
"""Reasons of silence are counted by their beginning: the rest names the single case."""
MOST_GRADES = 25
"""With more different votes they are measurements rather than grades, and kappa says nothing."""


def of_scores(answers: Sequence[str], judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Figures of scores.

    length_correlation: Spearman's, of the score with the words of the answer; a judge that likes
    length is far above 0 where length is no merit. fleiss_kappa: of a jury's votes.
    """
    found = _heard([each.reason for each in judgements if each.score is None], len(judgements))
    heard = [(a, j.score) for a, j in zip(answers, judgements, strict=True) if j.score is not None]
    if heard:
        scores = [score for _, score in heard]
        words = [float(len(answer.split())) for answer, _ in heard]
        found |= {"mean": fmean(scores), "length_correlation": correlation(words, scores)}
    found["fleiss_kappa"] = _jury([each.votes for each in judgements])
    return known(found)


def of_preferences(
    contests: Sequence[Contest], preferences: Sequence[Preference]
) -> dict[str, Any]:
    """Figures of comparisons.

    position_consistency: share of the pairs that were asked in both orders and got one verdict.
    longer_wins: share of the decided pairs that the longer answer won; 0.5 is no bias.
    """
    found = _heard([p.reason for p in preferences if p.winner is None], len(preferences))
    heard = [(c, p) for c, p in zip(contests, preferences, strict=True) if p.winner is not None]
    asked = [p.consistent for _, p in heard if p.consistent is not None]
    if heard:
        found["first_wins"] = fmean(POINTS[p.winner] for _, p in heard if p.winner)
        found["ties"] = fmean(p.winner == "tie" for _, p in heard)
    if asked:
        found["position_consistency"] = fmean(asked)
    longer = []
    for contest, preference in heard:
        more = len(contest.first.split()) - len(contest.second.split())
        if more and preference.winner != "tie":
            longer.append((more > 0) == (preference.winner == "first"))
    if longer:
        found["longer_wins"] = fmean(longer)
    found["fleiss_kappa"] = _jury([each.votes for each in preferences])
    return known(found)


def calibration(labels: Sequence[float], scores: Sequence[float | None]) -> dict[str, Any]:
    """How far a judge agrees with people on the same answers; unmeasured ones are counted.

    Scores count as equal when they round to the same whole label (a share: to the same tenth).
    """
    both = [(a, b) for a, b in zip(labels, scores, strict=True) if b is not None]
    found: dict[str, Any] = {"labelled": len(labels), "unmeasured": len(labels) - len(both)}
    if both:
        grain = 1 if all(float(label).is_integer() for label in labels) else 10
        people = [round(a * grain) for a, _ in both]
        judge = [round(b * grain) for _, b in both]
        found |= {
            "accuracy": fmean(a == b for a, b in zip(people, judge, strict=True)),
            "cohen_kappa": cohen_kappa(people, judge),
            "correlation": correlation([a for a, _ in both], [b for _, b in both]),
            "most_frequent_label": max(Counter(people).values()) / len(people),
        }
    return known(found)


def line(found: Mapping[str, Any], agreement: Mapping[str, Any]) -> str:
    """The figures that matter most, in a few words."""
    words = [f"{found['judged']} judged, {found['unmeasured']} unmeasured"]
    for name in ("mean", "first_wins", "length_controlled_win_rate", "position_consistency",
                 "length_correlation", "longer_wins", "fleiss_kappa"):  # fmt: skip
        if name in found:
            words.append(f"{name.replace('_', ' ')} {found[name]:.3g}")
    if "cohen_kappa" in agreement:
        words.append(f"kappa with people {agreement['cohen_kappa']:.3g}")
    elif agreement:
        words.append(f"right as people {agreement.get('accuracy', 0):.3g}")
    return ", ".join(words)


def _heard(silent: Sequence[str], count: int) -> dict[str, Any]:
    reasons = Counter(reason[:REASON_CHARS] for reason in silent)
    found: dict[str, Any] = {"judged": count - len(silent), "unmeasured": len(silent)}
    return found | ({"unmeasured_reasons": dict(reasons.most_common(10))} if reasons else {})


def _jury(votes: Sequence[Sequence[Hashable]]) -> float:
    whole = [each for each in votes if each and None not in each]
    grades = {vote for each in whole for vote in each}
    return fleiss_kappa(whole) if 0 < len(grades) <= MOST_GRADES else math.nan
