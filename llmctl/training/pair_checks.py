"""What is wrong with rows of preferences, found before training; every finding names its rows.

A fault that makes a row meaningless is refused (`refuse`). A row that teaches nothing, or teaches
the opposite of another one, leaves with its reason (`reasons`). What may be meant is a warning.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from llmctl.errors import InputError
from llmctl.records import Message, check_labelled, check_pair, check_prompt, flat
from llmctl.training.sources import Rows

FEWEST_WORDS = 3
"""A prompt of fewer words may well be the beginning of both of its answers."""
MOST = 0.5
"""A share of the rows above which a suspicion is a refusal."""


def places(found: Sequence[str]) -> tuple[str, str]:
    """(the first place, `; also rows 7, 9 and 4 more`) of places `file:row`."""
    others = [place.rpartition(":")[2] for place in found[1:]]
    shown = ", ".join(others[:8])
    if len(others) > 8:
        shown += f" and {len(others) - 8} more"
    return found[0], f"; also row{'s' if len(others) > 1 else ''} {shown}" if others else ""


def named(found: Sequence[str], sentence: str) -> str:
    """One line: the first place, what is wrong, and the other rows."""
    first, also = places(found)
    return f"{first}: {sentence}{also}"


def refuse(rows: Rows, faults: Callable[[dict[str, Any]], Iterator[str]]) -> None:
    """Raise InputError with a line for each kind of fault; each line names all of its rows."""
    found: dict[str, list[str]] = defaultdict(list)
    for where, row in rows:
        for sentence in faults(row):
            found[sentence].append(where)
    if found:
        raise InputError("\n".join(named(at, sentence) for sentence, at in found.items()))


def _shape(check: Callable[[dict[str, Any], str], None], row: dict[str, Any]) -> str:
    """What is wrong with the shape of a row, without its place; empty when nothing is."""
    try:
        check(row, "")
    except InputError as error:
        return str(error).removeprefix(": ")
    return ""


def _prompt_faults(prompt: Sequence[dict[str, Any]]) -> Iterator[str]:
    last = prompt[-1]["role"]
    if last not in ("user", "tool"):
        yield f"the prompt ends with {last}, not the user"
    if any(message["role"] == "system" for message in prompt[1:]):
        yield "the prompt has a system message that is not its first"
    if prompt[0]["role"] not in ("system", "user"):
        yield f"the prompt begins with {prompt[0]['role']}, not the user"
    if not any(m["role"] == "user" and m["content"].strip() for m in prompt):
        yield "the prompt is empty"


def _answer_faults(name: str, answer: Sequence[dict[str, Any]]) -> Iterator[str]:
    if len(answer) != 1 or answer[0]["role"] != "assistant":
        roles = ", ".join(message["role"] for message in answer)
        yield f"`{name}` must be one message of the assistant; found {roles}"
    elif not answer[0]["content"].strip():
        yield f"`{name}` is an empty answer"


def pair_faults(row: dict[str, Any]) -> Iterator[str]:
    """What makes a pair meaningless, each as a sentence."""
    wrong = _shape(check_pair, row)
    if wrong:
        yield wrong
        return
    yield from _prompt_faults(row["prompt"])
    began = [row[name][:-1] for name in ("chosen", "rejected")]
    if began[0] and began[1] and began[0] != began[1]:
        yield "the prompts differ inside the pair: `chosen` and `rejected` answer different ones"
        return
    for name in ("chosen", "rejected"):
        if row[name][0] == row["prompt"][0]:
            yield (
                f"`{name}` repeats the prompt; it must hold the answer only, so that both answers "
                f"have the same prompt"
            )
        else:
            yield from _answer_faults(name, row[name])
    scores = [_score(row, name) for name in ("chosen", "rejected")]
    if scores[0] is not None and scores[1] is not None and scores[0] < scores[1]:
        yield "the chosen answer has the lower score: chosen and rejected are swapped"


def _score(row: dict[str, Any], name: str) -> float | None:
    """The score that a row carries for one of its answers, as UltraFeedback's do."""
    meta = row.get("meta") or {}
    found = row.get(f"score_{name}", meta.get("scores", {}).get(name))
    return float(found) if isinstance(found, int | float) else None


def score_margin(row: dict[str, Any], where: str) -> float:
    """By how much the better answer's score exceeds the worse one's."""
    chosen, rejected = _score(row, "chosen"), _score(row, "rejected")
    if chosen is None or rejected is None:
        raise InputError(
            f"{where}: has no scores for a margin; give `meta.scores` with chosen and rejected, or "
            f"drop objective.margin"
        )
    return chosen - rejected


def labelled_faults(row: dict[str, Any]) -> Iterator[str]:
    """What makes an answer with a label meaningless, each as a sentence."""
    wrong = _shape(check_labelled, row)
    if wrong:
        yield wrong
        return
    yield from _prompt_faults(row["prompt"])
    if row["completion"][0] == row["prompt"][0]:
        yield "`completion` repeats the prompt; it must hold the answer only"
    else:
        yield from _answer_faults("completion", row["completion"])


def prompt_faults(row: dict[str, Any]) -> Iterator[str]:
    """What makes a prompt without an answer meaningless, each as a sentence."""
    if wrong := _shape(check_prompt, row):
        yield wrong
    else:
        yield from _prompt_faults(row["prompt"])


def check_classes(rows: Rows) -> None:
    """Refuse labels of one class only: there is nothing to prefer."""
    labels = {row["label"] for _, row in rows}
    if len(labels) == 1:
        first, also = places([where for where, _ in rows])
        kind = "good" if labels == {True} else "bad"
        raise InputError(
            f"{first}: every label is {str(labels.pop()).lower()}: with {kind} answers only there "
            f"is nothing to prefer; add some of the other kind{also}"
        )


def check_echo(rows: Rows, names: Sequence[str]) -> str:
    """A warning about answers that begin with their prompt's text; refused when most do."""
    at = [where for where, row in rows if _echoes(row, names)]
    if not at:
        return ""
    sentence = (
        "the answer begins with the text of its own prompt; it must hold what the model is to "
        "write, and nothing before"
    )
    if len(names) == 2:
        sentence = sentence.replace("the answer begins", "both answers begin").replace(
            "its own prompt; it", "their own prompt; they"
        )
    if len(at) > MOST * len(rows):
        raise InputError(named(at, sentence))
    return named(at, sentence)


def _echoes(row: dict[str, Any], names: Sequence[str]) -> bool:
    asked = row["prompt"][-1]["content"].strip()
    return len(asked.split()) >= FEWEST_WORDS and all(
        row[name][0]["content"].lstrip().startswith(asked) for name in names
    )


def same(row: dict[str, Any]) -> bool:
    """Whether the two answers are the same, so that nothing can be learnt from the pair."""
    return bool(row["chosen"][0]["content"].strip() == row["rejected"][0]["content"].strip())


Reasons = dict[int, tuple[str, str]]
"""Position of a row -> (reason, detail) why it is not trained on."""


def question(messages: Sequence[Message]) -> str:
    """A prompt but for case and white space: the same question is no measurement."""
    return " ".join(flat(messages).casefold().split())


def reasons(rows: Rows, held: Rows) -> Reasons:
    """Pairs that teach nothing, twice the same, or against each other, or that leak."""
    found: Reasons = {}
    kept: dict[tuple[str, str, str], int] = {}
    asked = {question(row["prompt"]) for _, row in held}
    for at, (where, row) in enumerate(rows):
        prompt, chosen, rejected = (flat(row[name]) for name in ("prompt", "chosen", "rejected"))
        if same(row):
            found[at] = ("identical_answers", "chosen and rejected are the same text")
        elif question(row["prompt"]) in asked:
            found[at] = ("in_held_out", "its prompt is in the held-out rows")
        elif (prompt, chosen, rejected) in kept:
            first = rows[kept[prompt, chosen, rejected]][0]
            if first != where:  # else `data.mix` repeats it on purpose
                found[at] = ("duplicate_pair", f"the same pair as {first}")
        elif (prompt, rejected, chosen) in kept:
            other = kept[prompt, rejected, chosen]
            found[at] = ("contradictory", f"{rows[other][0]} prefers the other answer")
            found.setdefault(other, ("contradictory", f"{rows[at][0]} prefers the other answer"))
        else:
            kept[prompt, chosen, rejected] = at
    return found


def labelled_reasons(rows: Rows, held: Rows) -> Reasons:
    """Labelled answers that are there twice, have both labels, or leak."""
    found: Reasons = {}
    kept: dict[tuple[str, str], int] = {}
    asked = {question(row["prompt"]) for _, row in held}
    for at, (where, row) in enumerate(rows):
        key = (flat(row["prompt"]), flat(row["completion"]))
        if question(row["prompt"]) in asked:
            found[at] = ("in_held_out", "its prompt is in the held-out rows")
        elif key not in kept:
            kept[key] = at
        elif rows[kept[key]][0] == where:
            continue  # `data.mix` repeats it on purpose
        elif rows[kept[key]][1]["label"] == row["label"]:
            found[at] = ("duplicate_answer", f"the same row as {rows[kept[key]][0]}")
        else:
            detail = "{} gives the same answer the other label"
            found[at] = ("contradictory", detail.format(rows[kept[key]][0]))
            found.setdefault(kept[key], ("contradictory", detail.format(rows[at][0])))
    return found


def worst(found: Iterable[tuple[float, str]], most: int = 5) -> list[str]:
    """Places of the largest values, the largest first."""
    return [where for _, where in sorted(found, key=lambda each: -each[0])[:most]]
