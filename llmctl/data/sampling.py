"""Answers of models to the prompts of rows, several for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmctl.generation.asking import Refused
from llmctl.records import Dropped, Message

if TYPE_CHECKING:
    from llmctl.data.material import Material, Row
    from llmctl.engines.base import Engine


@dataclass(frozen=True)
class Sampling:
    """One model, and how it is asked."""

    engine: Engine
    samples: int
    temperature: float
    max_tokens: int


@dataclass
class Sampled:
    """What was said to one row: its answers in a fixed order, and why others are missing."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def asked(row: Row) -> tuple[list[Message], list[dict[str, Any]]]:
    """(the prompt of a row, the answers that it has already)."""
    if "answers" in row:
        return list(row["prompt"]), list(row["answers"])
    turns = list(row["messages"])
    if turns and turns[-1]["role"] == "assistant":
        last = turns.pop()
        return turns, [{"content": last["content"]}]
    return turns, []


def sampled(
    material: Material, rows: Sequence[Row], samplings: Sequence[Sampling]
) -> list[Sampled]:
    """What each model answers to each row; the seed of sample n is the run's plus n.

    By the place of the row: the ids that rows came with need not differ.
    """
    found = [Sampled() for _ in rows]
    for sampling in samplings:
        with material.asking.open(sampling.engine) as asker:

            def work(item: Row, sampling: Sampling = sampling, asker: Any = asker) -> Iterator[Row]:
                prompt, _ = asked(item["row"])
                for number in range(sampling.samples):
                    options = {
                        "max_tokens": sampling.max_tokens,
                        "temperature": sampling.temperature,
                        "seed": material.seed + number,
                    }
                    try:
                        text = asker.ask(prompt, **options)
                    except Refused as refused:
                        yield {"id": item["id"], "refused": str(refused)}
                        continue
                    generator = {**asker.who(), **options}
                    answer = {"content": text.strip(), "generator": generator}
                    yield {"id": item["id"], "answer": answer}

            items = [{"id": place, "row": row} for place, row in enumerate(rows)]
            for each in asker.each(items, work, f"answers of {asker.who()['model']}"):
                said = found[int(each.id if isinstance(each, Dropped) else each["id"])]
                if isinstance(each, Dropped):
                    said.refused.append(each.reason)
                elif "refused" in each:
                    said.refused.append(each["refused"])
                elif each["answer"]["content"]:
                    said.answers.append(each["answer"])
                else:
                    said.refused.append("reply_empty")
    return found
