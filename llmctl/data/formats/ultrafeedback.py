"""UltraFeedback: several scored answers to an instruction, or its binarized form with scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from llmctl.data.formats.base import (
    Format,
    UnfitError,
    kind_of,
    pair_of,
    rest,
    text,
    turn,
)
from llmctl.data.formats.pair import PairFormat
from llmctl.errors import InputError


class UltrafeedbackFormat(Format):
    """The best against the worst of `completions`; ties and low margins are unfit."""

    shape: ClassVar[str] = "instruction, completions: [{response, overall_score}]"

    score: Literal["overall_score", "fine-grained_score", "ratings"] = Field(
        "overall_score",
        description="What completions are ranked by: one of their scores, or the mean of the "
        "ratings in their annotations.",
    )
    min_margin: float = Field(
        0.0, ge=0, description="Pairs whose scores differ by no more than this are left out."
    )

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """See Format."""
        scored = isinstance(row.get("completions"), list) and "instruction" in row
        return scored or {"chosen", "rejected", "score_chosen", "score_rejected"} <= row.keys()

    def read(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; the scores are kept in `meta.scores`."""
        if "completions" in row:
            return self._ranked(row, where)
        scores = {name: row.get(f"score_{name}") for name in ("chosen", "rejected")}
        for name, value in scores.items():
            if value is not None and not _is_number(value):
                raise InputError(f"{where}: `score_{name}` is {kind_of(value)}, no number")
        used = ("score_chosen", "score_rejected", "messages", "prompt", "chosen", "rejected")
        extra = rest(row, used)
        if None not in scores.values():
            extra["meta"]["scores"] = scores
            self._check(float(scores["chosen"] or 0), float(scores["rejected"] or 0))
        listed = isinstance(row.get("chosen"), list)  # they repeat the prompt, of any length
        sides = {name: row[name] for name in used[4 if listed else 3 :] if name in row}
        return {**PairFormat.of("pair").read(sides, where), **extra}

    def _ranked(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        asked = text(row, "instruction", where)
        completions = row["completions"]
        if not isinstance(completions, list):
            raise InputError(f"{where}: `completions` is {kind_of(completions)}, no list")
        if len(completions) < 2:
            raise UnfitError("too_few_answers", f"{len(completions)} completions")
        scored = []
        for number, each in enumerate(completions):
            place = f"{where}: completions.{number}"
            if not isinstance(each, Mapping):
                raise InputError(f"{place} is {kind_of(each)}, an object is needed")
            scored.append((self._score(each, place), text(each, "response", place), each))
        best, worst = max(scored, key=lambda s: s[0]), min(scored, key=lambda s: s[0])
        self._check(best[0], worst[0])
        extra = rest(row, ("instruction", "completions"))
        extra["meta"]["scores"] = {"chosen": best[0], "rejected": worst[0]}
        models = {"chosen": best[2].get("model"), "rejected": worst[2].get("model")}
        if any(models.values()):
            extra["meta"]["models"] = models
        chosen, rejected = ([turn("assistant", each[1])] for each in (best, worst))
        prompt = [turn("user", asked)]
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **extra}

    def _check(self, better: float, worse: float) -> None:
        if better == worse:
            raise UnfitError("tie", f"both have {better:g}")
        if better < worse:
            raise UnfitError("scores_disagree", f"chosen {better:g} < rejected {worse:g}")
        if better - worse <= self.min_margin:
            raise UnfitError("low_margin", f"{better - worse:g} <= {self.min_margin:g}")

    def _score(self, completion: Mapping[str, Any], where: str) -> float:
        if self.score != "ratings":
            value = completion.get(self.score)
            if not _is_number(value):
                found = kind_of(value) if self.score in completion else "missing"
                raise InputError(f"{where}: `{self.score}` is {found}, a number is needed")
            return float(value)  # type: ignore[arg-type]
        notes = completion.get("annotations")
        ratings = [
            each["Rating"]
            for each in (notes.values() if isinstance(notes, Mapping) else ())
            if isinstance(each, Mapping) and str(each.get("Rating", "")).isdecimal()
        ]
        if not ratings:
            raise UnfitError("no_rating", "no annotation has a number as its Rating")
        return sum(map(int, ratings)) / len(ratings)

    def write(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; the binarized form, with scores where the row has them."""
        pair_of(row, self.kind, where)
        asked = next((m["content"] for m in reversed(row["prompt"]) if m["role"] == "user"), "")
        scores = row.get("meta", {}).get("scores", {})
        return {
            "prompt": asked,
            "chosen": [*row["prompt"], *row["chosen"]],
            "rejected": [*row["prompt"], *row["rejected"]],
            "score_chosen": scores.get("chosen"),
            "score_rejected": scores.get("rejected"),
        }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
