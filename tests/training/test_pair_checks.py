"""Faults put into preference data on purpose; each is found before training, with its rows."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

pytest.importorskip("trl")
from tiny_tokenizer import TEMPLATE, tiny_tokenizer
from training_runs import recipe

from llmctl.artifact import Artifact
from llmctl.errors import InputError
from llmctl.judges.base import Preference
from llmctl.training import pair_checks, preference_rows, swapped

Row = dict[str, Any]


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def pair(number: int) -> Row:
    return {
        "prompt": [said("user", f"what is the number {number}?")],
        "chosen": [said("assistant", f"the number {number}")],
        "rejected": [said("assistant", f"I forgot it {number}")],
    }


def labelled(number: int) -> Row:
    return {
        "prompt": [said("user", f"what is the number {number}?")],
        "completion": [said("assistant", f"the number {number}")],
        "label": number % 2 == 0,
    }


def read(folder: Path, rows: list[Row], template: str = TEMPLATE, **keys: Any) -> Any:
    """(what was prepared, the artifact, the warnings) of rows, read with a toy tokenizer."""
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = {"max_length": 512, "data": {"hold_out": 0}, **keys}
    made = recipe("dpo", Path("some/model"), file, **keys)
    artifact, warned = Artifact(folder / "out"), list[str]()
    with patch("llmctl.ui.warn", warned.append):
        found = preference_rows.read(made, artifact, tiny_tokenizer(template))
    return found, artifact, warned


def swap(row: Row) -> None:
    row["chosen"], row["rejected"] = row["rejected"], row["chosen"]


def put(name: str, value: Any) -> Callable[[Row], None]:
    return lambda row: row.update({name: value})


def conversation(*prompts: str) -> Callable[[Row], None]:
    def change(row: Row) -> None:
        for name, text in zip(("chosen", "rejected"), prompts, strict=True):
            row[name] = [said("user", text), *row[name]]

    return change


REFUSED: dict[str, tuple[Callable[[Row], None], str]] = {
    "no rejected answer": (lambda row: row.pop("rejected"), "a pair has `prompt`, `chosen`"),
    "an empty list": (put("chosen", []), "`chosen` must be a non-empty list"),
    "text that is no text": (
        put("chosen", [said("assistant", "a") | {"content": 7}]),
        "must be text",
    ),
    "an unknown role": (put("prompt", [said("human", "hello")]), "no role named 'human'"),
    "an answer of the user": (
        put("chosen", [said("user", "five")]),
        "one message of the assistant",
    ),
    "an answer of two turns": (
        put("chosen", [said("assistant", "a"), said("assistant", "b")]),
        "`chosen` must be one message of the assistant; found assistant, assistant",
    ),
    "a prompt that ends with the assistant": (
        put("prompt", [said("user", "a"), said("assistant", "b")]),
        "the prompt ends with assistant",
    ),
    "a prompt that begins with the assistant": (
        put("prompt", [said("assistant", "b"), said("user", "a")]),
        "the prompt begins with assistant",
    ),
    "a system message in the middle": (
        put("prompt", [said("user", "a"), said("system", "b"), said("user", "c")]),
        "a system message that is not its first",
    ),
    "an empty prompt": (put("prompt", [said("user", " \n")]), "the prompt is empty"),
    "an empty chosen answer": (put("chosen", [said("assistant", "  ")]), "`chosen` is an empty"),
    "an empty rejected answer": (
        put("rejected", [said("assistant", "")]),
        "`rejected` is an empty",
    ),
    "a prompt inside the answer": (
        lambda row: row.update(chosen=row["prompt"] + row["chosen"]),
        "`chosen` repeats the prompt",
    ),
    "two prompts in one pair": (conversation("how?", "why?"), "the prompts differ inside the pair"),
    "the template's mark in the answer": (
        put("chosen", [said("assistant", "five<|im_end|>six")]),
        "`chosen` holds the chat template's own mark <|im_end|>",
    ),
    "scores against the labels": (
        lambda row: row.update(score_chosen=1.5, score_rejected=4),
        "the chosen answer has the lower score",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_meaningless_pair_is_refused_with_all_its_rows(name: str, tmp_path: Path) -> None:
    fault, sentence = REFUSED[name]
    rows = [pair(number) for number in range(8)]
    for at in (2, 4, 7):
        fault(rows[at])
    with pytest.raises(InputError, match=r"pairs.jsonl:3: ") as error:
        read(tmp_path, rows)
    first = str(error.value).splitlines()[0]
    assert sentence in first
    assert first.endswith("; also rows 5, 8")
    assert error.value.exit_code == 2


LEFT: dict[str, tuple[Callable[[list[Row]], Any], dict[str, Any], str, str]] = {
    "identical answers": (
        lambda rows: rows[2].update(rejected=rows[2]["chosen"]),
        {},
        "identical_answers",
        "pairs.jsonl:3: left out: identical answers: chosen and rejected are the same text",
    ),
    "a pair twice": (
        lambda rows: rows.append(copy.deepcopy(rows[1])),
        {},
        "duplicate_pair",
        "pairs.jsonl:9: left out: duplicate pair: the same pair as",
    ),
    "a pair and its opposite": (
        lambda rows: (rows.append(copy.deepcopy(rows[1])), swap(rows[8])),
        {},
        "contradictory",
        "pairs.jsonl:2: left out: contradictory: ",
    ),
    "one answer over the limit": (
        lambda rows: rows[3].update(chosen=[said("assistant", "a" * 900)]),
        {"too_long": "truncate"},
        "cut_on_one_side",
        "pairs.jsonl:4: left out: cut on one side: only `chosen` is longer than 512",
    ),
    "a prompt over the limit": (
        lambda rows: rows[3].update(prompt=[said("user", "a" * 900)]),
        {"too_long": "truncate"},
        "no_trained_tokens",
        "pairs.jsonl:4: left out: no trained tokens: the prompt fills 512 tokens",
    ),
    "a pair over the limit": (
        lambda rows: rows[3].update(chosen=[said("assistant", "a" * 900)]),
        {},
        "too_long",
        "pairs.jsonl:4: left out: too long: ",
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_a_pair_that_teaches_nothing_leaves_with_its_reason(name: str, tmp_path: Path) -> None:
    fault, keys, reason, sentence = LEFT[name]
    rows = [pair(number) for number in range(8)]
    fault(rows)
    found, artifact, warned = read(tmp_path, rows, **keys)
    left = artifact.dropped[reason]
    assert left == (2 if reason == "contradictory" else 1)
    assert len(found.train) == len(rows) - left
    assert any(sentence in line for line in warned), warned
    dropped = [json.loads(line) for line in (tmp_path / "out/dropped.jsonl").open()]
    assert {row["reason"] for row in dropped} == {reason}
    assert all(row["where"] and row["detail"] for row in dropped)


@pytest.mark.parametrize("same", ["prompt", "row", "but for case and space"])
def test_a_prompt_of_the_held_out_rows_is_not_trained_on(tmp_path: Path, same: str) -> None:
    rows = [pair(number) for number in range(8)]
    held = tmp_path / "held.jsonl"
    other = pair(3)
    if same != "row":
        other["chosen"] = [said("assistant", "another good answer")]
    if same == "but for case and space":
        other["prompt"] = [{**m, "content": m["content"].upper() + " "} for m in other["prompt"]]
    held.write_text(json.dumps(other) + "\n")
    found, artifact, warned = read(tmp_path, rows, data={"validation": str(held)})
    assert artifact.dropped == {"in_held_out": 1}
    assert len(found.train) == 7
    assert "pairs.jsonl:4: left out: in held out: its prompt is in the held-out rows" in warned[0]


def test_better_answers_that_are_only_longer_are_told(tmp_path: Path) -> None:
    rows = [pair(number) for number in range(8)]
    for row in rows:
        row["chosen"] = [said("assistant", "a long answer " * 9)]
    _, _, warned = read(tmp_path, rows)
    assert any("times longer than the worse ones" in line for line in warned)
    with pytest.raises(InputError, match=r"pairs.jsonl:\d: the better answers are .* also rows"):
        read(tmp_path, rows, checks={"refuse_length": True})
    assert read(tmp_path, rows, checks={"length_ratio": 20})[2] == []


def test_a_template_without_an_end_of_turn_is_refused(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    template += "{% if add_generation_prompt %}assistant: {% endif %}"
    with pytest.raises(InputError, match=r"pairs.jsonl:1: .* no special token"):
        read(tmp_path, [pair(number) for number in range(3)], template)


def test_answers_that_begin_with_their_prompt_are_refused_when_most_do(tmp_path: Path) -> None:
    rows = [pair(number) for number in range(8)]
    for at, row in enumerate(rows):
        for name in ("chosen", "rejected") if at > 1 else ():
            row[name][0]["content"] = row["prompt"][0]["content"] + " " + row[name][0]["content"]
    with pytest.raises(
        InputError, match=r"pairs.jsonl:3: both answers begin with .* 4, 5, 6, 7, 8"
    ):
        read(tmp_path, rows)
    _, _, warned = read(tmp_path, rows[:4] + [pair(number) for number in range(20, 26)])
    assert any("pairs.jsonl:3: both answers begin" in line for line in warned)


def test_pairs_and_labels_in_one_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"jsonl:2: is an answer with a label, .*:1 is a pair"):
        read(tmp_path, [pair(0), labelled(1)])
    with pytest.raises(InputError, match="needs pairs; write loss: kto"):
        read(tmp_path, [labelled(0), labelled(1)])


LABELS: dict[str, tuple[Callable[[list[Row]], Any], str]] = {
    "a label that is a number": (
        lambda rows: rows[2].update(label=1),
        "pairs.jsonl:3: `label` must be true or false; found 1",
    ),
    "a label that is a text": (
        lambda rows: rows[2].update(label="true"),
        "pairs.jsonl:3: `label` must be true or false; found 'true'",
    ),
    "labels of one class": (
        lambda rows: [row.update(label=True) for row in rows],
        "pairs.jsonl:1: every label is true",
    ),
    "no answer": (
        lambda rows: rows[2].update(completion=[said("assistant", "")]),
        "pairs.jsonl:3: `completion` is an empty answer",
    ),
    "a prompt inside the answer": (
        lambda rows: rows[2].update(completion=[*rows[2]["prompt"], *rows[2]["completion"]]),
        "pairs.jsonl:3: `completion` repeats the prompt",
    ),
}


@pytest.mark.parametrize("name", LABELS)
def test_meaningless_labels_are_refused(name: str, tmp_path: Path) -> None:
    fault, sentence = LABELS[name]
    rows = [labelled(number) for number in range(8)]
    fault(rows)
    with pytest.raises(InputError) as error:
        read(tmp_path, rows, loss="kto", batch_size=2)
    assert sentence in str(error.value)


def test_an_answer_with_both_labels_leaves(tmp_path: Path) -> None:
    rows = [labelled(number) for number in range(8)]
    rows += [rows[1] | {"label": True}, rows[2]]
    found, artifact, _ = read(tmp_path, rows, loss="kto", batch_size=2)
    assert artifact.dropped == {"contradictory": 2, "duplicate_answer": 1}
    assert len(found.labelled) == 7


def test_unequal_classes_get_the_weight_that_balances_them(tmp_path: Path) -> None:
    rows = [labelled(number) | {"label": number > 1} for number in range(8)]
    _, _, warned = read(tmp_path, rows, loss="kto", batch_size=2)
    assert any("set desirable_weight: 0.33" in line for line in warned)
    assert read(tmp_path, rows, loss="kto", batch_size=2, desirable_weight=0.4)[2] == []


def test_a_judge_that_disagrees_with_most_labels_refuses_them() -> None:
    places = [f"pairs.jsonl:{row}" for row in range(1, 11)]
    against = [Preference("second", margin=-float(row)) for row in range(1, 11)]
    with pytest.raises(InputError, match=r"jsonl:10: the judge prefers .* 10 of 10 .* rows 9, 8"):
        swapped.judged(places, against)
    half = [Preference("first"), Preference("second")] * 5
    assert swapped.judged(places, half) == "the judge prefers the rejected answer in 5 of 10 pairs"
    assert swapped.judged(places, [Preference("tie")] * 10) == "no pair could be decided"


def test_the_model_s_own_likelihood_warns_of_swapped_labels() -> None:
    found = preference_rows.Prepared(held_places=[f"pairs.jsonl:{row}" for row in range(1, 11)])
    against = [(-20.0 - row, 4, -8.0, 4) for row in range(10)]
    warning = swapped.warn_by_likelihood(found, against)
    assert warning.startswith("pairs.jsonl:10: the model finds the rejected answer likelier in 10")
    assert swapped.warn_by_likelihood(found, [(-8.0, 4, -20.0, 4)] * 10) == ""


def test_places_name_eight_rows_and_count_the_rest() -> None:
    found = [f"a.jsonl:{row}" for row in range(1, 13)]
    assert pair_checks.named(found, "wrong") == (
        "a.jsonl:1: wrong; also rows 2, 3, 4, 5, 6, 7, 8, 9 and 3 more"
    )
    assert pair_checks.named(found[:2], "wrong") == "a.jsonl:1: wrong; also row 2"
