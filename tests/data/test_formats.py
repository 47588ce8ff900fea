"""Formats: what is written is read again, rows tell their format, mistakes are one line."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import llmctl.data.formats
from llmctl import rows
from llmctl.data import material, reading
from llmctl.data.formats.base import Format, UnfitError
from llmctl.errors import InputError
from llmctl.plugins import kinds
from llmctl.records import FORMS, form_of

KINDS = kinds(llmctl.data.formats)
COLUMNS = [
    {"kind": "columns", "user": "q", "assistant": "a", "system": "s"},
    {"kind": "pair_columns", "user": "q", "chosen": "c", "rejected": "r"},
    {"kind": "text", "field": "t"},
]
NAMED = ("columns", "pair_columns")
ALL = [Format.of(kind) for kind in KINDS if kind not in NAMED] + [Format.of(c) for c in COLUMNS]

said = st.text(min_size=1, max_size=30).map(str.strip).filter(bool)
turns = st.lists(st.tuples(said, said), min_size=1, max_size=3)


@st.composite
def conversation(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = [{"role": "system", "content": draw(said)}] if draw(st.booleans()) else []
    for asked, answered in draw(turns):
        if draw(st.integers(0, 4)) == 0:
            call = {"name": "look", "arguments": json.dumps({"at": draw(said)}, ensure_ascii=False)}
            found += [
                {"role": "user", "content": draw(said)},
                {"role": "assistant", "content": "",
                 "tool_calls": [{"type": "function", "function": call}]},
                {"role": "tool", "content": draw(said)},
                {"role": "assistant", "content": draw(said)},
            ]  # fmt: skip
        found.append({"role": "user", "content": asked})
        found.append({"role": "assistant", "content": answered})
    return found


@st.composite
def own(draw: st.DrawFn) -> dict[str, Any]:
    """Any row of ours."""
    form = draw(st.sampled_from(FORMS))
    if form == "texts":
        return {"text": draw(said)}
    messages = draw(conversation())
    tools = [{"type": "function", "function": {"name": "look"}}]
    more = {"tools": tools} if draw(st.integers(0, 3)) == 0 else {}
    if form == "pairs":
        other = {"role": "assistant", "content": draw(said)}
        assume(other != messages[-1])
        return {"prompt": messages[:-1], "chosen": messages[-1:], "rejected": [other], **more}
    if form == "candidates":
        answers = [{"content": each} for each in draw(st.lists(said, min_size=2, max_size=3))]
        one = {"between": [1, 0], "winner": draw(st.sampled_from([0, 1, None]))}
        votes = {"votes": [{**one, "between": [0, 1]}]} if draw(st.booleans()) else {}
        return {"prompt": messages[:-1], "answers": answers, **votes, **more}
    if form == "labelled":
        label = draw(st.booleans())
        return {"prompt": messages[:-1], "completion": messages[-1:], "label": label, **more}
    return {"messages": messages, **more}


def content(row: dict[str, Any]) -> dict[str, Any]:
    """What has to survive."""
    return {k: v for k, v in row.items() if k != "meta"}


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.kind)
@settings(max_examples=60)
@given(row=own())
def test_what_is_written_is_read_again(each: Format, row: dict[str, Any]) -> None:
    try:
        written = each.write(row, "f:1")
    except InputError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:  # what cannot be held is said in one line
        assert refused.startswith("f:1: ") and "\n" not in refused
        return
    assert json.loads(json.dumps(written)) == written
    assert content(each.read(written, "g:1")) == content(row)
    if each.dump() not in COLUMNS and each.kind not in NAMED:
        assert reading.claimants(written) == [each.kind]


def test_every_form_can_be_written_by_some_format() -> None:
    question, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    examples: dict[str, dict[str, Any]] = {
        "examples": {"messages": [question, answer]},
        "pairs": {"prompt": [question], "chosen": [answer],
                  "rejected": [{"role": "assistant", "content": "b"}]},
        "texts": {"text": "t"},
        "candidates": {"prompt": [question], "answers": [{"content": "a"}, {"content": "b"}],
                       "votes": [{"between": [0, 1], "winner": 1}]},
        "labelled": {"prompt": [question], "completion": [answer], "label": False},
    }  # fmt: skip
    held: dict[str, set[str]] = {}
    for each in ALL:
        for form, row in examples.items():
            try:
                found = each.read(each.write(row, "f:1"), "f:1")
            except InputError:
                continue
            held.setdefault(form, set()).add(each.kind)
            assert form_of(found) == form
    assert held["pairs"] == {"sharegpt", "pair", "hh", "ultrafeedback", "pair_columns"}
    assert held["texts"] == {"text"}
    assert held["examples"] == {"openai", "alpaca", "sharegpt", "prompt_completion", "columns"}
    assert held["candidates"] == {"candidates", "votes"}
    assert held["labelled"] == {"kto"}


def file(tmp_path: Path, *given: dict[str, Any], name: str = "r.jsonl") -> Path:
    path = tmp_path / name
    rows.write_jsonl(path, given)
    return path


def only(path: Path, format: Any = None) -> list[dict[str, Any]]:
    found = reading.read(path, Format.of(format) if format else None)
    return [row for _, row in found if isinstance(row, dict)]


ALPACA = {"instruction": "Name a pump.", "input": "For heat.", "output": "A circulator.", "n": 3}
SHARE = {
    "id": "identity_7",
    "conversations": [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "Weather?"},
        {"from": "function_call", "value": '{"name": "look", "arguments": {"at": "Rome"}}'},
        {"from": "observation", "value": '{"sky": "blue"}'},
        {"from": "gpt", "value": "Blue sky."},
    ],
    "tools": '[{"name": "look"}]',
}


def test_alpaca_as_it_is_found(tmp_path: Path) -> None:
    history = {**ALPACA, "input": "", "system": "s", "history": [["a", "b"]]}
    one, other = only(file(tmp_path, ALPACA, history))
    assert one["messages"] == [
        {"role": "user", "content": "Name a pump.\n\nFor heat."},
        {"role": "assistant", "content": "A circulator."},
    ]
    assert one["meta"] == {"n": 3}
    assert [m["content"] for m in other["messages"]] == [
        "s", "a", "b", "Name a pump.", "A circulator.",
    ]  # fmt: skip


def test_sharegpt_with_tools_as_it_is_found(tmp_path: Path) -> None:
    (found,) = only(file(tmp_path, SHARE))
    assert [m["role"] for m in found["messages"]] == [
        "system", "user", "assistant", "tool", "assistant",
    ]  # fmt: skip
    call = found["messages"][2]["tool_calls"][0]["function"]
    assert (call["name"], json.loads(call["arguments"])) == ("look", {"at": "Rome"})
    assert found["tools"] == [{"name": "look"}] and found["id"] == "identity_7"
    written = Format.of("sharegpt").write(found, "f:1")
    assert written == {key: SHARE[key] for key in ("conversations", "tools")}


def test_sharegpt_pairs_as_they_are_found(tmp_path: Path) -> None:
    row = {
        "conversations": [{"from": "human", "value": "Hi"}],
        "chosen": {"from": "gpt", "value": "Hello!"},
        "rejected": {"from": "gpt", "value": "What?"},
    }
    (found,) = only(file(tmp_path, row))
    assert (found["chosen"][0]["content"], found["prompt"][0]["role"]) == ("Hello!", "user")
    assert Format.of("sharegpt").write(found, "f:1") == row


def test_openai_as_it_is_found(tmp_path: Path) -> None:
    row = {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": each} for each in "ab"]},
            {"role": "assistant", "content": None, "function_call": {"name": "f"}},
            {"role": "function", "name": "f", "content": "1"},
            {"role": "assistant", "content": "One."},
        ],
        "weight": 2,
    }  # fmt: skip
    (found,) = only(file(tmp_path, row))
    assert [m["role"] for m in found["messages"]] == [
        "system", "user", "assistant", "tool", "assistant",
    ]  # fmt: skip
    assert found["messages"][1]["content"] == "ab" and found["weight"] == 2
    assert found["messages"][2]["tool_calls"][0]["function"]["name"] == "f"


def test_openai_rows_that_repeat_the_question_as_prompt(tmp_path: Path) -> None:
    found = only(file(tmp_path, {"prompt": "q", "prompt_id": "7", "messages": TURNS}))[0]
    assert found == {"prompt_id": "7", "messages": TURNS, "meta": {"prompt": "q"}}
    placed = material.placed({**found, "meta": "old"}, "r.jsonl", 1)
    assert placed["id"] and placed["meta"] == {"meta": "old"}


HH = "\n\nHuman: {}\n\nAssistant: {}"


def test_hh_as_it_is_found(tmp_path: Path) -> None:
    begun = HH.format("Hi", "Hello. Human: is not a turn here.")
    good = {
        "chosen": begun + HH.format("Why?", "Because."),
        "rejected": begun + HH.format("Why?", " No."),
    }
    long = {"chosen": HH.format("a", "b"), "rejected": HH.format("a", "c") + HH.format("d", "e")}
    found = list(reading.read(file(tmp_path, good, long)))
    assert isinstance(found[0][1], dict) and isinstance(found[1][1], UnfitError)
    assert found[0][1]["prompt"][-1] == {"role": "user", "content": "Why?"}
    assert found[0][1]["rejected"] == [{"role": "assistant", "content": "No."}]
    assert found[1][1].reason == "answers_of_several_turns"
    static = {"prompt": "\n\nHuman: a\n\nAssistant:", "chosen": " b", "rejected": " c"}
    assert only(file(tmp_path, static)) == only(
        file(tmp_path, {"chosen": HH.format("a", "b"), "rejected": HH.format("a", "c")})
    )


def completions(*scores: float) -> dict[str, Any]:
    each = [{"model": f"m{s}", "response": f"answer {s}", "overall_score": s} for s in scores]
    return {"source": "evol", "instruction": "Do it.", "completions": each}


def test_ultrafeedback_is_best_against_worst(tmp_path: Path) -> None:
    path = file(tmp_path, completions(7, 9.5, 2, 8), completions(5, 5), completions(5, 5.5))
    found = [
        row for _, row in reading.read(path, Format.of({"kind": "ultrafeedback", "min_margin": 1}))
    ]
    best, tie, low = found
    assert isinstance(best, dict) and best["chosen"][0]["content"] == "answer 9.5"
    assert best["rejected"][0]["content"] == "answer 2"
    assert best["meta"]["scores"] == {"chosen": 9.5, "rejected": 2.0}
    assert best["meta"]["models"]["rejected"] == "m2" and best["meta"]["source"] == "evol"
    assert [each.reason for each in (tie, low) if isinstance(each, UnfitError)] == [
        "tie",
        "low_margin",
    ]
    row = completions(1, 2)
    for i, each in enumerate(row["completions"]):
        each["annotations"] = {"honesty": {"Rating": str(5 - i)}, "helpfulness": {"Rating": "4"}}
    (rated,) = only(file(tmp_path, row), {"kind": "ultrafeedback", "score": "ratings"})
    assert rated["chosen"][0]["content"] == "answer 1"
    written = Format.of("ultrafeedback").write(rated, "f:1")
    assert written["score_chosen"] == 4.5 and len(written["chosen"]) == 2


def test_trl_preferences_with_an_implicit_prompt(tmp_path: Path) -> None:
    begun = [{"role": "user", "content": "q"}]
    answers = {n: [*begun, {"role": "assistant", "content": n}] for n in ("chosen", "rejected")}
    (implicit,) = only(file(tmp_path, answers))
    (explicit,) = only(file(tmp_path, {"prompt": begun, **answers}))
    assert implicit == explicit and implicit["prompt"] == begun
    assert implicit["chosen"] == answers["chosen"][1:]


CSV = 'id,question,answer\n1,"Is it\nwarm?","Yes, ""very"" warm."\n2,Cold?,\n3,Wet?,No.\n'


def test_csv_with_named_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode())
    named = {"kind": "columns", "user": "question", "assistant": "answer"}
    found = list(reading.read(path, Format.of(named)))
    first = found[0][1]
    assert isinstance(first, dict) and first["messages"][1]["content"] == 'Yes, "very" warm.'
    assert first["id"] == "1"
    assert isinstance(found[1][1], UnfitError) and found[1][1].reason == "empty_cell"
    assert [where.rpartition(":")[2] for where, _ in found] == ["2", "4", "5"]
    with pytest.raises(
        InputError, match=r"t.csv:2: no known format .* user: question, assistant: answer"
    ):
        list(reading.read(path))
    (tmp_path / "s.csv").write_text("instruction;output\na;b\n")
    assert only(tmp_path / "s.csv")[0]["messages"][1]["content"] == "b"


@given(st.lists(own().filter(lambda row: "messages" in row and "label" not in row), max_size=4))
@settings(max_examples=30)
def test_a_json_list_has_the_lines_of_its_rows(tmp_path_factory: pytest.TempPathFactory,
                                               given: list[dict[str, Any]]) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("list")
    for indent in (None, 2):
        path = folder / "r.json.gz"
        path.write_bytes(gzip.compress(json.dumps(given, indent=indent).encode()))
        found = list(rows.numbered(path))
        assert [row for _, row in found] == given
        text = json.dumps(given, indent=indent).splitlines()
        assert all(text[line - 1].strip().lstrip("[, ").startswith("{") for line, _ in found)


TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
WRONG: dict[str, tuple[str, str, str | None, str]] = {
    "a text that is null": ("r.jsonl", '{"text": null}', None, "r.jsonl:1: `text` is null, text"),
    "nothing known": ("r.jsonl", '{"a": 1}', None, "r.jsonl:1: no known format has the keys"),
    "two formats": (
        "r.jsonl",
        '{"instruction": "a", "output": "b", "text": "c"}',
        None,
        "r.jsonl:1: could be alpaca or text; say which: `format: alpaca` or `format: text`",
    ),
    "mixed": (
        "r.jsonl",
        '{"instruction": "a", "output": "b"}\n\n{"text": "b"}',
        None,
        "r.jsonl:3: is text, the rows before it are alpaca (instruction, input, output)",
    ),
    "mixed forms": (
        "r.jsonl",
        json.dumps({"conversations": [{"from": "human", "value": "q"}]})
        + "\n"
        + json.dumps({"conversations": [{"from": "human", "value": "q"}],
                      "chosen": {"from": "gpt", "value": "a"},
                      "rejected": {"from": "gpt", "value": "b"}}),
        None,
        "r.jsonl:2: is of the form pairs, the rows before it are examples",
    ),
    "not as said": ("r.jsonl", '{"text": "a"}', "alpaca", "r.jsonl:1: `instruction` is missing"),
    "number": ("r.jsonl", '{"instruction": 3, "output": "b"}', None, "`instruction` is a number"),
    "history": (
        "r.jsonl", '{"instruction": "a", "output": "b", "history": [["x"]]}', None,
        "`history` must be a list of [question, answer]",
    ),
    "speaker": (
        "r.jsonl", '{"conversations": [{"from": "robot", "value": "x"}]}', None,
        "r.jsonl:1: conversations.0: no speaker named 'robot'; there are: human",
    ),
    "call": (
        "r.jsonl", '{"conversations": [{"from": "function_call", "value": "{"}]}', None,
        "conversations.0: not valid JSON",
    ),
    "picture": (
        "r.jsonl", '{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', None,
        "messages.0: `content` has a part that is image_url",
    ),
    "role": (
        "r.jsonl", '{"messages": [{"role": ["user"], "content": "q"}]}', None,
        "messages.0 needs `role` and `content`",
    ),
    "votes": (
        "r.jsonl", '{"prompt": "q", "answers": ["a", "b"], "votes": 3}', None,
        "r.jsonl:1: `votes` is a number, no list",
    ),
    "thumbs": (
        "r.jsonl", '{"prompt": "q", "answers": ["a", {"content": "b", "up": "two"}]}', None,
        "r.jsonl:1: answers.1: `up` is text, a count is needed",
    ),
    "transcript": (
        "r.jsonl", '{"chosen": "hello", "rejected": "x", "prompt": "\\n\\nHuman: a"}', "hh",
        "r.jsonl:1: chosen and rejected do not begin",
    ),
    "no prompt": (
        "r.jsonl", json.dumps({"chosen": TURNS[1:], "rejected": TURNS[1:]}), None,
        "share no prompt",
    ),
    "score": (
        "r.jsonl",
        json.dumps({"instruction": "a", "completions": [{"response": "b"}, {"response": "c"}]}),
        None, "completions.0: `overall_score` is missing",
    ),
    "label": ("r.jsonl", json.dumps({"messages": TURNS, "label": "good"}), "kto", "it is text"),
    "no list": ("r.json", '{"a": 1}', None, "r.json:1: is no JSON list of rows"),
    "broken list": ("r.json", '[\n{"text": "1"},\n{"a" 2}]', None, "r.json:3: not valid JSON"),
    "no comma": ("r.json", '[{"text": "1"} {"text": "2"}]', None, "r.json:1: not valid JSON: a"),
    "rest": ("r.json", '[{"text": "1"}]\n[]', None, "something follows the list"),
    "number in list": ("r.json", "[\n3]", None, "r.json:2: is a int, a row is an object"),
    "cells": ("r.csv", "text,b\n1,2\n1,2,3\n", None, "r.csv:3: has 3 cells, the header has 2"),
    "quote": ("r.csv", 'text,b\n1,"2\n', None, "r.csv:2: not valid CSV"),
    "twice": ("r.csv", "a,a\n1,2\n", None, "r.csv:1: column 'a' is there twice"),
    "unnamed": ("r.csv", "a,\n1,2\n", None, "r.csv:1: column 2 of the header has no name"),
    "spreadsheet": ("r.xlsx", "PK", None, "rows are read from .jsonl, .ndjson, .json, .csv, .tsv"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line(tmp_path: Path, name: str) -> None:
    file_name, text, format, message = WRONG[name]
    (tmp_path / file_name).write_text(text)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        list(reading.read(tmp_path / file_name, Format.of(format) if format else None))
    assert "\n" not in str(error.value)


def test_rows_of_a_form_that_is_not_wanted_are_refused(tmp_path: Path) -> None:
    labelled = file(tmp_path, {"messages": TURNS, "label": False})
    with pytest.raises(
        InputError, match=r"r.jsonl:1: the rows are answers labelled as good or bad"
    ):
        list(reading.read(labelled, forms=("examples", "texts")))
    assert only(labelled)[0]["label"] is False


def test_own_rows_are_left_as_they_are(tmp_path: Path) -> None:
    row = {"id": "x", "messages": TURNS, "source": {"uri": "u"}, "meta": {"builder": "qa"}}
    pair = {"id": "y", "prompt": TURNS[:1], "chosen": TURNS[1:], "source": {"uri": "u"},
            "rejected": [{"role": "assistant", "content": "b"}], "meta": {}}  # fmt: skip
    assert only(file(tmp_path, row)) == [row]
    assert only(file(tmp_path, pair)) == [pair]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"user": "q"}, "assistant"),
        ({"user": "q", "assistant": "q"}, "column 'q' is named twice"),
        ({"user": "q", "assistant": "a", "system": "a"}, "column 'a' is named twice"),
    ],
)
def test_columns_that_make_no_row_are_refused(keys: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Format.of({"kind": "columns", **keys})
