"""Pairs from people's votes: those that rows have, and those of `build-dataset annotate`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from pydantic import Field

from llmctl import rows as files
from llmctl.data.builders.base import Builder, Dropped, Material, Row
from llmctl.data.builders.best_worst import written_by
from llmctl.data.formats.candidates import vote
from llmctl.errors import InputError
from llmctl.evaluation.agreement import cohen_kappa, known, krippendorff_alpha
from llmctl.records import answer, pair

Between = tuple[int, int]


class VotesBuilder(Builder):
    """A pair of every two answers on which most voters agree; ties leave."""

    reads: ClassVar[tuple[str, ...]] = ("candidates",)
    form: ClassVar[str] = "pairs"

    votes: Path | None = Field(
        None, description="File that `llmctl build-dataset annotate` wrote; none takes the rows'."
    )
    min_votes: int = Field(1, ge=1, description="Fewest votes on two answers.")
    min_margin: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Pairs are left out whose votes for one answer, less those for the other, "
        "are no larger share of all votes than this.",
    )

    def model_inputs(self) -> dict[str, Path | str]:
        """The file of votes."""
        return {"votes": self.votes} if self.votes else {}

    def build(self, material: Material) -> Iterator[Row | Dropped]:
        """See Builder."""
        later = self.annotated(material.rows)
        ballots: list[list[dict[str, Any]]] = []
        for row in material.rows:
            given = [*(row.get("votes") or ()), *later[row["id"]]]
            if not given:
                yield Dropped(str(row["id"]), "no_vote")
            tallies: dict[Between, list[dict[str, Any]]] = defaultdict(list)
            for each in given:
                one, other = sorted(each["between"])
                tallies[one, other].append(each)
            for between, found in sorted(tallies.items()):
                ballots.append(found)
                yield self.counted(row, between, found)
        if agreed := agreement(ballots):
            material.figures[self.kind] = agreed

    def counted(self, row: Row, between: Between, votes: list[dict[str, Any]]) -> Row | Dropped:
        """The pair of two answers, or why there is none."""
        name = f"{row['id']}:{between[0]}-{between[1]}"
        tally = Counter(each["winner"] for each in votes)
        first, second = (tally[number] for number in between)
        told = f"{first} to {second}, {tally[None]} ties"
        if len(votes) < self.min_votes:
            return Dropped(name, "too_few_votes", f"{len(votes)} < {self.min_votes}")
        if first == second:
            return Dropped(name, "tie", told)
        if abs(first - second) / len(votes) <= self.min_margin:
            return Dropped(name, "low_margin", told)
        best, worst = between if first > second else between[::-1]
        answers = row["answers"]
        meta = row["meta"] | {
            "builder": self.kind,
            "votes": {"chosen": max(first, second), "rejected": min(first, second),
                      "ties": tally[None]},
        }  # fmt: skip
        people = sorted({str(each["annotator"]) for each in votes if each.get("annotator")})
        meta |= {"annotators": people} if people else {}
        return pair(
            row["prompt"],
            answer(answers[best]["content"]),
            answer(answers[worst]["content"]),
            row["source"],
            meta | written_by(answers, best, worst),
        )

    def annotated(self, rows: list[Row]) -> dict[str, list[dict[str, Any]]]:
        """Row id -> the votes of the file; a vote on a row that is not there is a mistake."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        if self.votes is None:
            return found
        counts = {str(row["id"]): len(row["answers"]) for row in rows}
        for line, each in files.numbered(self.votes):
            where = f"{self.votes}:{line}"
            if each.get("skipped"):
                continue
            key = str(each.get("id"))
            if key not in counts:
                raise InputError(f"{where}: votes on row '{key}', which the source does not have")
            found[key].append(vote(each, counts[key], where))
        return found


def agreement(ballots: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """How far people agree; a ballot is all votes on the same two answers.

    Of somebody who voted twice on them the last vote counts; a vote without a name is of somebody
    else. Empty when no two people voted on the same answers.
    """
    ratings = [{_name(v, at): _side(v) for at, v in enumerate(votes)} for votes in ballots]
    shared = [each for each in ratings if len(each) > 1]
    if not shared:
        return {}
    found = {
        "with_several_votes": len(shared),
        "equal_votes": fmean(a == b for each in shared for a, b in combinations(each.values(), 2)),
        "krippendorff_alpha": krippendorff_alpha([[*each.values()] for each in shared]),
    }
    people = {who for each in shared for who in each}
    if len(people) == 2 and all(isinstance(who, str) for who in people):
        one, other = people
        found["cohen_kappa"] = cohen_kappa([e[one] for e in shared], [e[other] for e in shared])
    return known(found)


def _name(vote: Mapping[str, Any], number: int) -> str | int:
    return str(vote["annotator"]) if vote.get("annotator") else number


def _side(vote: Mapping[str, Any]) -> int | None:
    """0 or 1 for the answer that won, by its number; None for a tie."""
    return None if vote["winner"] is None else sorted(vote["between"]).index(vote["winner"])
