"""Written answers scored by a judge, or compared with those of a reference, a baseline or a file.

Rows are those of `generate`, and conversations of several questions as MT-bench has them (`turns`):
the model answers each turn after its own answers to the ones before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llmctl import rows as files
from llmctl import ui
from llmctl.data import judging
from llmctl.errors import InputError
from llmctl.evaluation import judging as figures
from llmctl.evaluation import length_control
from llmctl.evaluation.tasks.base import Item, Scored, Task, draw, rows_of, too_long
from llmctl.judges.base import Answered, Contest, Judge, Judgement, Preference
from llmctl.schema.judging import Shown

ANSWERS = "answers.jsonl"
CALIBRATION = "calibration.json"
IDS = ("id", "question_id", "uid", "task_id")


class JudgeTask(Task):
    """`score` on the judge's scale, or `win_rate`: 1 for a win, 0.5 for a tie, 0 for a loss.

    Answers that the judge did not judge in form are unmeasured.
    """

    metrics: ClassVar[tuple[str, ...]] = ("score", "win_rate")
    shares: ClassVar[frozenset[str]] = frozenset({"win_rate"})

    data: Path = Field(
        description="Rows with `prompt` (a text or messages), `messages` or `turns` (questions)."
    )
    judge: Judge = Field(description="Who judges.")
    against: Literal["none", "reference", "baseline"] = Field(
        "none",
        description="What an answer is compared with: nothing (it is scored), the row's own "
        "answer, or the answer of the recipe's baseline.",
    )
    answers: Path | None = Field(
        None, description="Answers that are there already (`id`, `answer`): no model is asked."
    )
    opponent: Path | None = Field(
        None, description="Other answers (`id`, `answer`) to compare with, instead of `against`."
    )
    max_tokens: int = Field(256, ge=1, description="Longest answer, in tokens.")
    show: Shown = Field(
        default_factory=lambda: Shown.model_validate({}), description="What the judge is shown."
    )
    labels: Path | None = Field(
        None,
        description="Rows that people have judged, with `label` on the judge's scale (pairs: who "
        "wins, first, second or tie): the judge's agreement with them is measured.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.against != "none" and self.opponent is not None:
            raise ValueError("judge: give either `against` or `opponent`")
        if not self.compares and not self.judge.scores:
            raise ValueError(
                f"judge: {self.judge.kind} compares answers; say what with, in `against`"
            )
        if self.against == "baseline" and self.answers is not None:
            raise ValueError("judge: `answers` come from no model, so there is no baseline's")
        return self

    @property
    def compares(self) -> bool:
        """Whether answers are compared, not scored."""
        return self.against != "none" or self.opponent is not None

    @property
    def asks_model(self) -> bool:
        """Not when the answers are there."""
        return self.answers is None

    def bounds(self, metric: str) -> tuple[float, float] | None:
        """A score lies on the judge's scale."""
        return self.judge.scale if metric == "score" else super().bounds(metric)

    def inputs(self) -> dict[str, Path | str]:
        """Rows, answers, and what the judge reads."""
        found: dict[str, Path | str] = {"data": self.data}
        for key in ("answers", "opponent", "labels"):
            if getattr(self, key) is not None:
                found[key] = getattr(self, key)
        return found | {f"judge.{key}": ref for key, ref in self.judge.model_inputs().items()}

    def revisions(self) -> dict[str, str]:
        """The versions of the judge's prompts."""
        return {f"judge.{key}": version for key, version in self.judge.revisions().items()}

    def items(self, work: Path, limit: int | None, seed: int) -> list[Item]:
        """One item for each question of each row that is drawn."""
        found = draw(rows_of(self.data), limit, seed)
        return [each for item in found for each in questions(item)]

    def score(self, session: Any, items: Sequence[Item], work: Path) -> Iterator[Scored]:
        """Answers first, each kept as soon as it is there; then what the judge says of them."""
        answers = self.answered(session, items, work)
        if self.against == "baseline" and work.name.startswith("baseline-"):
            for item in items:  # it ties with itself; its answers are what the model has to beat
                yield _with(answers[item.id], lambda one: Scored({"win_rate": 0.5}, shown=one))
            return
        against = self._opponents(items, work)
        ready = [
            item
            for item in items
            if "answer" in answers[item.id] and (against is None or against.get(item.id))
        ]
        with self.judge.open(work / "judge.sqlite") as live:
            if self.labels is not None and not (work / CALIBRATION).exists():
                found = judging.calibrated(live, self.labels, self.show)
                (work / CALIBRATION).write_text(json.dumps(found), encoding="utf-8")
            if against is None:
                asked = [self._answered(item, answers) for item in ready]
                said: Iterator[Judgement | Preference] = live.score(asked)
            else:
                contests = [
                    self._answered(item, answers).against(against[item.id]) for item in ready
                ]
                said = live.compare(contests)
            for item in items:
                one = answers[item.id]
                if "answer" not in one:
                    yield Scored(unmeasured=one["unmeasured"])
                elif against is None:
                    yield scored(next(said), one)
                elif not against.get(item.id):
                    yield Scored(unmeasured="there is no answer to compare with")
                else:
                    yield scored(next(said), one, against[item.id])

    def answered(
        self, session: Any, items: Sequence[Item], work: Path
    ) -> dict[str, dict[str, Any]]:
        """Item -> {answer} or {unmeasured}; those of a killed run are read, not asked again."""
        if self.answers is not None:
            given = given_answers(self.answers)
            missing = {"unmeasured": f"{self.answers} has no answer with this id"}
            return {
                item.id: {"answer": given[item.id]} if item.id in given else missing
                for item in items
            }
        known = _kept(work / ANSWERS)
        left = [item for item in items if item.id not in known]
        with (
            ui.progress(f"{self.title}: answers", len(left)) as advance,
            (work / ANSWERS).open("a", encoding="utf-8") as file,
        ):
            for item in left:
                known[item.id] = self._asked(session, item, known)
                file.write(files.dumps({"id": item.id, **known[item.id]}) + "\n")
                file.flush()
                advance()
        return known

    def _asked(
        self, session: Any, item: Item, known: Mapping[str, dict[str, Any]]
    ) -> dict[str, Any]:
        from llmctl.engines.base import Request

        messages = []
        for turn in item.data["asked"]:
            if "of" not in turn:
                messages.append(turn)
                continue
            before = known.get(turn["of"], {})
            if "answer" not in before:
                return {"unmeasured": "an earlier turn of the conversation has no answer"}
            messages.append({"role": "assistant", "content": before["answer"]})
        request = Request(messages, max_tokens=self.max_tokens)
        wrong = too_long(session, session.prompt_ids(request).shape[1] + self.max_tokens)
        if wrong:
            return {"unmeasured": wrong}
        reply = session.chat(messages, max_tokens=self.max_tokens)
        cut = {"cut_off": True} if reply.finish_reason == "length" else {}
        return {"answer": reply.text, **cut}

    def _answered(self, item: Item, answers: Mapping[str, dict[str, Any]]) -> Answered:
        row = {"meta": {}, **item.data}
        beside = judging.beside(row, self.show)
        if self.against != "reference":
            beside["reference"] = beside["reference"] or item.data.get("right")
        turns = [
            {"role": "assistant", "content": answers.get(turn["of"], {}).get("answer", "")}
            if "of" in turn
            else turn
            for turn in item.data["asked"]
        ]
        return Answered(item.id, turns, answers[item.id]["answer"], **beside)

    def _opponents(self, items: Sequence[Item], work: Path) -> dict[str, str] | None:
        """Item -> the answer to compare with; None when answers are scored."""
        if not self.compares:
            return None
        if self.opponent is not None:
            return given_answers(self.opponent)
        if self.against == "reference":
            return {item.id: str(item.data.get("right") or "") for item in items}
        folder = work.parent / f"baseline-{self.title}"
        return {key: one.get("answer", "") for key, one in _kept(folder / ANSWERS).items()}

    def figures(self, scored: Sequence[Scored], work: Path, confidence: float) -> dict[str, Any]:
        """The judge's biases, the win rate at equal length, and its agreement with people."""
        answers = [str(each.shown.get("answer", "")) for each in scored]
        if not self.compares:
            judgements = [_judgement(each) for each in scored]
            found = figures.of_scores(answers, judgements)
        else:
            contests = [
                Contest("", (), answer, str(each.shown.get("opponent", "")))
                for answer, each in zip(answers, scored, strict=True)
            ]
            preferences = [_preference(each) for each in scored]
            found = figures.of_preferences(contests, preferences)
            found |= length_control.of_preferences(contests, preferences, confidence)
        if cut := sum(bool(each.shown.get("cut_off")) for each in scored):
            found["answers_cut_off"] = cut
        if (work / CALIBRATION).exists():
            found["calibration"] = json.loads((work / CALIBRATION).read_text(encoding="utf-8"))
        return found

    def figures_line(self, found: dict[str, Any]) -> str:
        """See Task."""
        return figures.line(found, found.get("calibration", {}))


def questions(item: Item) -> Iterator[Item]:
    """The item of each question of a row; `asked` is the conversation, `right` a right answer."""
    row = item.data
    name = next((str(row[key]) for key in IDS if row.get(key) is not None), item.id)
    if isinstance(row.get("turns"), list) and row["turns"]:
        right = row.get("reference")
        asked: list[dict[str, str]] = []
        for number, text in enumerate(row["turns"], 1):
            if not isinstance(text, str):
                raise InputError(f"{item.where}: `turns` is a list of questions")
            asked = [*asked, {"role": "user", "content": text}]
            known = right[number - 1] if isinstance(right, list) and number <= len(right) else None
            data = {**row, "question": text, "asked": asked, "right": known}
            yield Item(f"{name}:{number}", item.where, data, item.cluster or name)
            asked = [*asked, {"role": "assistant", "of": f"{name}:{number}"}]
        return
    turns: list[dict[str, str]]
    right = row.get("reference", row.get("answer"))
    if isinstance(row.get("messages"), list) and row["messages"]:
        turns = row["messages"]
        if turns[-1].get("role") == "assistant":
            turns, right = turns[:-1], turns[-1]["content"]
    elif isinstance(row.get("prompt"), list):
        turns = row["prompt"]
    elif isinstance(row.get("prompt"), str):
        turns = [{"role": "user", "content": row["prompt"]}]
    else:
        found = ", ".join(row)
        raise InputError(f"{item.where}: needs `prompt`, `messages` or `turns`; found {found}")
    if not turns:
        raise InputError(f"{item.where}: asks nothing")
    right = right[0] if isinstance(right, list) and right else right
    data = {**row, "asked": turns, "right": None if right is None else str(right)}
    yield Item(name, item.where, data, item.cluster)


def given_answers(path: Path) -> dict[str, str]:
    """id -> answer of a file; a question of a conversation has the id `ID:NUMBER`."""
    found = {}
    for number, row in enumerate(files.read(path), 1):
        key = next((str(row[name]) for name in IDS if row.get(name) is not None), None)
        answer = row.get("answer", row.get("model"))
        if isinstance(answer, dict):  # samples.jsonl of an earlier eval
            answer = answer.get("answer")
        if key is None or not isinstance(answer, str):
            raise InputError(f"{path}:{number}: an answer has `id` and `answer`")
        found[key] = answer
    return found


def scored(
    said: Judgement | Preference, one: Mapping[str, Any], opponent: str | None = None
) -> Scored:
    """The item's number and what stands beside it in samples.jsonl."""
    shown: dict[str, Any] = {**one, "reason": said.reason}
    if said.votes:
        shown["votes"] = list(said.votes)
    if isinstance(said, Judgement):
        if said.score is None:
            return Scored(unmeasured=said.reason, shown=shown)
        return Scored({"score": said.score}, shown=shown)
    shown |= {"opponent": opponent, "consistent": said.consistent}
    if said.points is None:
        return Scored(unmeasured=said.reason, shown=shown)
    return Scored({"win_rate": said.points}, shown=shown)


def _with(one: dict[str, Any], made: Any) -> Scored:
    if "answer" not in one:
        return Scored(unmeasured=one["unmeasured"])
    found: Scored = made({"answer": one["answer"]})
    return found


def _judgement(each: Scored) -> Judgement:
    votes = tuple(each.shown.get("votes", ()))
    return Judgement(each.values.get("score"), each.unmeasured or "", votes)


def _preference(each: Scored) -> Preference:
    points = each.values.get("win_rate")
    winner: Any = None if points is None else {1.0: "first", 0.5: "tie", 0.0: "second"}[points]
    votes = tuple(each.shown.get("votes", ()))
    return Preference(winner, each.unmeasured or "", each.shown.get("consistent"), votes=votes)


def _kept(path: Path) -> dict[str, dict[str, Any]]:
    """The answers that a killed run had."""
    return {row.pop("id"): row for row in files.finished(path)}
