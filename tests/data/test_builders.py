"""Builders: every row points at its source and tells who wrote it; what is wrong is dropped."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub import StubEngine

import llmctl.data.builders
from llmctl.data.builders import evol
from llmctl.data.builders._model import ModelBuilder
from llmctl.data.builders.base import Builder
from llmctl.data.builders.extract import place
from llmctl.data.builders.raw_text import spans
from llmctl.data.material import Material
from llmctl.engines.base import Request
from llmctl.generation import prompts
from llmctl.generation.asking import Refused
from llmctl.judges.base import Answered, Judge
from llmctl.plugins import backend, kinds
from llmctl.records import Dropped, check_example, check_pair, form_of

TEXT = "# Pump\n\nThe pump moves warm water. It stops at night, and nobody hears it.\n\nThe end."
DOCUMENT = {"id": "d", "uri": "d.md", "title": "Pump", "text": TEXT}
CHUNK = {
    "id": "c", "text": TEXT[8:75], "document_id": "d", "start": 8, "end": 75,
    "source": {"document": "d", "uri": "d.md", "start": 8, "end": 75},
}  # fmt: skip
ROW = {
    "id": "r",
    "messages": [
        {"role": "user", "content": "What does the pump move?"},
        {"role": "assistant", "content": "Warm water."},
    ],
    "source": CHUNK["source"],
    "meta": {"context": CHUNK["text"]},
}
MODEL_KINDS = [
    kind
    for kind in kinds(llmctl.data.builders)
    if issubclass(backend(llmctl.data.builders, kind), ModelBuilder)
]


def built(
    kind: str, say: Callable[[Request], Any], rows: Sequence[Any] = (ROW,), **keys: Any
) -> list[Any]:
    builder = backend(llmctl.data.builders, kind).model_validate(
        {"engine": StubEngine(say=say, weights="0123456789abcdef0123"), **keys}
    )
    assert isinstance(builder, Builder)
    return list(builder.build(Material([DOCUMENT], [CHUNK], [*rows], seed=3)))


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_a_row_tells_its_source_and_who_wrote_it(kind: str) -> None:
    """With an engine that answers from its input, every model builder makes whole rows."""
    builder = Builder.of({"kind": kind, "engine": "echo"})
    rows = list(builder.build(Material([DOCUMENT], [CHUNK], [ROW], seed=3)))
    made = [row for row in rows if isinstance(row, dict) and "generator" in row["meta"]]
    dropped = [row for row in rows if isinstance(row, Dropped)]
    assert made or dropped
    assert len({row["id"] for row in made}) == len(made)
    for row in made:
        (check_pair if form_of(row) == "pairs" else check_example)(row, kind)
        assert row["source"]["document"] == "d" and row["source"]["start"] >= 8
        written = row["meta"]["generator"]
        assert written["engine"] == "echo" and written["seed"] == 3
        assert written["prompt"].startswith(f"{kind}@")
    again = list(builder.build(Material([DOCUMENT], [CHUNK], [ROW], seed=3)))
    assert json.dumps(rows, default=vars) == json.dumps(again, default=vars)


def test_extracted_answers_are_spans_of_the_document() -> None:
    pairs = [
        {"question": "When does it stop?", "quote": '"It stops\nat night"'},
        {"question": "Who hears it?", "quote": "Nobody at all hears it"},
    ]
    row, dropped = built("extract", lambda _: {"pairs": pairs}, pairs=2)
    span = TEXT[row["source"]["start"] : row["source"]["end"]]
    assert span == row["messages"][1]["content"] == "It stops at night"
    assert (dropped.reason, dropped.detail) == ("not_verbatim", "Nobody at all hears it")


@given(text=st.text("ab \n.", max_size=40), at=st.integers(0, 40), size=st.integers(1, 20))
def test_a_quote_of_the_text_is_found(text: str, at: int, size: int) -> None:
    quote = text[at : at + size]
    found = place(quote, text)
    if quote.split():
        assert found is not None and text[slice(*found)].split() == quote.split()
    else:
        assert found is None


@given(
    text=st.lists(st.sampled_from(["word ", "A sentence. ", "\n\n", "\n", "x" * 30, "é"])).map(
        "".join
    ),
    most=st.integers(1, 60),
)
def test_raw_text_loses_nothing_but_white_space(text: str, most: int) -> None:
    found = list(spans(text, lambda piece: len(piece) <= most))
    assert "".join("".join(text[a:b] for a, b in found).split()) == "".join(text.split())
    assert all(0 < b - a <= most for a, b in found)
    assert all(a < b <= c for (a, b), (c, _) in itertools.pairwise(found))


def test_raw_text_is_cut_at_the_best_place() -> None:
    builder = Builder.of({"kind": "raw_text", "max_chars": 50, "min_chars": 10})
    rows = list(builder.build(Material([DOCUMENT])))
    assert [r.reason if isinstance(r, Dropped) else r["text"] for r in rows] == [
        "too_short",
        "The pump moves warm water.",
        "It stops at night, and nobody hears it.\n\nThe end.",
    ]
    assert all(TEXT[r["source"]["start"] : r["source"]["end"]] == r["text"] for r in rows[1:])


def test_personas_that_cannot_be_answered_leave_the_others() -> None:
    def say(request: Request) -> Any:
        asked = request.messages[0]["content"]
        if "You are this person" not in asked:
            return {"personas": ["a plumber", "a neighbour"]}
        return "no" if "neighbour" in asked else {"question": "How?", "answer": "So."}

    row, dropped = built("persona", say)
    assert row["meta"]["persona"] == "a plumber"
    assert (dropped.id, dropped.reason) == ("c:1", "reply_not_in_form")


def test_a_conversation_grows_by_turns_that_know_what_was_said() -> None:
    seen = []

    def say(request: Request) -> Any:
        seen.append(request.messages[0]["content"])
        asks = "Write what the user asks" in seen[-1]
        return {"question": f"Q{len(seen)}"} if asks else {"answer": f"A{len(seen)}"}

    [row] = built("multi_turn", say, turns=2)
    said = [message["content"] for message in row["messages"][2:]]
    assert said == ["Q1", "A2", "Q3", "A4"] and row["meta"]["from"] == "r"
    assert "Assistant: A2" in seen[2] and CHUNK["text"] in seen[3] and "User: Q3" in seen[3]


def test_rephrasing_keeps_the_question_and_the_form() -> None:
    [row] = built("rephrase", lambda _: "It moves warm water.")
    assert [m["content"] for m in row["messages"]] == [
        "What does the pump move?", "It moves warm water.",
    ]  # fmt: skip
    raw = {"id": "t", "text": "raw", "source": {"document": "d"}, "meta": {}}
    builder = backend(llmctl.data.builders, "rephrase").model_validate(
        {"engine": StubEngine(say=lambda _: "well formed")}
    )
    assert isinstance(builder, Builder)
    [text] = list(builder.build(Material(rows=[raw])))
    assert isinstance(text, dict)
    assert (text["text"], text["source"]) == ("well formed", {"document": "d"})


def evolving(new: str, answer: str = "It moves it by turning.", verdict: str = "different") -> Any:
    def say(request: Request) -> Any:
        if request.schema is None:
            return answer
        name = next(iter(request.schema["properties"]))
        return {name: verdict if name == "verdict" else new}

    return say


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (evolving("what does the pump move!"), "evol_no_gain"),
        (evolving("How does the pump move it?", verdict="equal"), "evol_no_gain"),
        (evolving("#Rewritten Prompt#: how does it move?"), "evol_copies_prompt"),
        (evolving("Answer the given prompt in three lines."), "evol_copies_prompt"),
        (evolving("How does it move?", "I am sorry, I do not know."), "evol_sorry"),
        (evolving("How does it move?", "... it is!"), "evol_says_nothing"),
    ],
)
def test_an_evolution_that_failed_is_dropped_and_the_row_stays(said: Any, reason: str) -> None:
    row, dropped = built("evol", said)
    assert row["id"] == "r" and (dropped.id, dropped.reason) == ("r:1", reason)


def test_a_long_answer_with_sorry_is_an_answer() -> None:
    evol.check_answer("sorry " + "pump " * 80)
    with pytest.raises(Refused):
        evol.check_answer("sorry " + "pump " * 78)


def test_prompts_name_what_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that a template's comment names are those that it gets, no more and no less."""
    given: dict[str, set[str]] = {}
    messages = prompts.Prompt.messages

    def heard(self: prompts.Prompt, block: str, **variables: Any) -> Any:
        given.setdefault(self.name, set()).update(variables)
        return messages(self, block, **variables)

    monkeypatch.setattr(prompts.Prompt, "messages", heard)
    raw = {"id": "t", "text": "raw", "source": {"document": "d"}, "meta": {}}
    for kind in MODEL_KINDS:
        rows = [ROW, raw] if kind == "rephrase" else [ROW]
        builder = Builder.of({"kind": kind, "engine": "echo"})
        list(builder.build(Material([DOCUMENT], [CHUNK], rows)))
    built("evol", evolving("How does the pump move it?"))
    built("qa", lambda _: "no form")
    answered = Answered("r", ROW["messages"][:1], "Warm water.")
    for kind, item in (("rubric", answered), ("pairwise", answered.against("Cold water."))):
        judge: Any = Judge.of({"kind": kind, "engine": "echo"})
        judge.request(judge.template(), item)
    for name in prompts.names():
        told = prompts.about(prompts.bundled(name)).partition("Variables:")[2]
        named = re.findall(r"\w+", re.sub(r"\(.*?\)", "", told))
        assert sorted(named) == sorted(given[name]), name


def test_of_a_conversation_the_last_instruction_evolves_and_the_rest_stays() -> None:
    before = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": "A pump."},
    ]
    meta = {**ROW["meta"], "ticket": 7, "generator": {"model": "m"}, "judgements": [{"score": 1}]}
    row = {**ROW, "messages": [*before, *ROW["messages"]], "meta": meta}
    seen: list[str] = []

    def say(request: Request) -> Any:
        seen.append(request.messages[-1]["content"])
        return evolving("How does the pump move it?")(request)

    _, evolved = built("evol", say, rows=[row])
    assert evolved["messages"][:3] == before and len(evolved["messages"]) == 5
    assert all("Assistant: A pump." in prompt for prompt in (seen[0], seen[-1]))
    found = evolved["meta"]
    assert (found["ticket"], found["from"]) == (7, "r") and "judgements" not in found
    assert found["earlier"] == [{"generator": {"model": "m"}}]
    [longer] = built("multi_turn", say_turn, rows=[row])
    assert longer["meta"]["earlier"] == found["earlier"]


def say_turn(request: Request) -> Any:
    return {next(iter(request.schema["properties"])): "And then?"}


def test_evolutions_know_their_depth_and_their_root() -> None:
    count = iter(range(100))

    def say(request: Request) -> Any:
        return evolving(f"How is it number {next(count)}?")(request)

    keys = {"rounds": 3, "methods": ["deepen"], "keep": False, "compare": False}
    rows = built("evol", say, **keys)
    steps = [row["meta"]["evolution"] for row in rows]
    assert [s["depth"] for s in steps] == [1, 2, 3] and {s["root"] for s in steps} == {"r"}
    assert [s["from"] for s in steps] == ["r", rows[0]["id"], rows[1]["id"]]
    wide = built("evol", say, **{**keys, "methods": ["breadth"]})
    assert [row["meta"]["evolution"]["depth"] for row in wide] == [0, 0, 0]
    assert rows[0]["meta"]["generator"]["weights"] == "0123456789abcdef"
