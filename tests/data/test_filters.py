"""Filters that look at what an answer says: rows that must leave, and rows that must stay."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.data.filters.arithmetic import value
from llmctl.data.filters.base import Filter
from llmctl.data.filters.repetition import shares
from llmctl.records import Message, answer, example, pair

PROSE = (
    "The pump moves warm water through every room of the house. At night a timer closes the "
    "valve, so the boiler rests until the morning. When frost is forecast, leave the heating on "
    "low instead: a frozen pipe costs far more than a night of gas. In October the whole system "
    "is filled, aired and checked for leaks by somebody who knows it."
)


def verdict(kind: str, said: str, question: str = "How?", **keys: Any) -> str | None:
    judge = Filter.model_validate({"kind": kind, **keys}).start()
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": said}]
    return judge({"id": "r", "messages": turns, "meta": {}})


@pytest.mark.parametrize(
    ("kind", "answer", "detail"),
    [
        ("refusal", "As an AI language model, I have no opinions.", "As an AI language model, I"),
        ("refusal", "I’m sorry, but I can’t help with that.", "I'm sorry, but I can't"),
        ("refusal", "I am unable to provide medical advice.", "unable to provide"),
        ("refusal", "As an AI developed by OpenAI, I do not know.", "As an AI developed"),
        ("repetition", "warm and cold " * 30, "2-gram"),
        ("repetition", f"{PROSE}\n" * 4, "repeated lines: 0.75 > 0.30"),
        ("repetition", f"{PROSE} {PROSE}", "repeated 5-grams: 1.00 > 0.15"),
        ("parses", "So:\n```python\nprint(1\n```\n", "python: '(' was never closed"),
        ("parses", '```json\n{"a": 1,}\n```', "json:"),
        ("parses", "```\nopen", "a fence is not closed"),
        ("arithmetic", "He has <<48/2=25>>25 left.", "48/2 is 24, not 25"),
        ("arithmetic", "<<1/0=1>>", "1/0=1:"),
        ("arithmetic", "<<2**3=8>>", "cannot read '*'"),
        ("arithmetic", "<<__import__('os')=1>>", "cannot read"),
        ("personal", "Write to ann@acme.org.", "1 email"),
    ],
)
def test_what_leaves(kind: str, answer: str, detail: str) -> None:
    assert detail in (verdict(kind, answer) or "")


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("refusal", "As an AI engineer, I train models."),
        ("refusal", "I can't help but admire the bridge."),
        ("refusal", "Sorry seems to be the hardest word."),
        ("refusal", "x " * 200 + "As an AI, I cannot help."),
        ("repetition", PROSE),
        ("repetition", "no no no"),
        ("parses", "```python\nprint(1)\n```\n~~~~json\n[1]\n~~~~\n```rust\nfn\n```"),
        ("parses", "Use ``` inline ``` and `code`."),
        ("parses", "````\n```\n````"),
        ("arithmetic", "<<48/2=24>> <<0.2*50=10>>"),
        ("arithmetic", "<<1,000-(2+3)*4=980>> and <<10/3=3.33>> and <<15%=0.15>>"),
        ("arithmetic", "<<560//10=56>> <<-7//2=-4>>"),
        ("arithmetic", "2 + 2 = 5 is a slogan."),
        ("personal", "Version 1.2.3 came in 2024."),
    ],
)
def test_what_stays(kind: str, answer: str) -> None:
    assert verdict(kind, answer) is None


def test_keywords_are_whole_words_in_the_part_that_is_named() -> None:
    assert verdict("keywords", "A Class Action.", words=["class action", "ass"]) == (
        "has 'Class Action'"
    )
    assert verdict("keywords", "A class.", words=["ass"]) is None
    assert verdict("keywords", "yes", question="C++?", words=["c++"]) == "has 'C++'"
    assert verdict("keywords", "yes", question="C++?", words=["c++"], within="answer") is None


def leaving(kind: str, *rows: dict[str, Any], **keys: Any) -> list[int]:
    """The places of the rows that leave."""
    judge = Filter.model_validate({"kind": kind, **keys}).start()
    return [place for place, row in enumerate(rows) if judge(row) is not None]


def talk(*contents: str, system: str = "") -> dict[str, Any]:
    """A conversation, user and assistant in turn, with the id that its content gives."""
    turns = [Message(role=("user", "assistant")[n % 2], content=c) for n, c in enumerate(contents)]
    head = [Message(role="system", content=system)] if system else []
    return {**example([*head, *turns], {"uri": "u"})}


def test_a_row_that_is_read_again_leaves() -> None:
    rows = [talk(f"How does part {n} work?", "By hand.") for n in range(6)]
    for by in ("question", "both"):
        assert leaving("duplicate", *rows * 3, by=by) == list(range(6, 18))
    pairs = [
        {**pair([Message(role="user", content=f"q{n}")], answer("a"), answer("b"), {"uri": "u"})}
        for n in (1, 2, 1)
    ]
    assert leaving("duplicate", *pairs) == [2]
    texts = [{"id": "same", "text": text, "meta": {}} for text in ("Warm.", "Cold.", "warm")]
    assert leaving("duplicate", *texts) == [2]


def test_a_question_is_all_that_was_said_before_the_answer() -> None:
    talks = [talk(f"What is {word}?", f"A {word}.", "Why is that?", "So.") for word in "abcdef"]
    assert leaving("duplicate", *talks) == []
    again = talk("what is B", "a b", "why is that", "Another answer.")
    assert leaving("duplicate", *talks, again) == [6]
    assert leaving("duplicate", *talks, again, by="both") == []
    persons = [
        talk("Who are you?", "Me.", system=name) for name in ("You are Ann.", "You are Bob.")
    ]
    assert leaving("duplicate", *persons) == []


def test_signs_and_other_scripts_make_questions_different() -> None:
    asked = ["What is C++?", "What is C#?", "What is C?", "What is 2 + 2?", "What is 2 * 2?",
             "What is 2 / 2?", "कि", "की", "?", "!", "👍", "👎"]  # fmt: skip
    assert leaving("duplicate", *(talk(each, "It is.") for each in asked)) == []
    same = ["Don’t you?", "don't  you", "(Don't) you..."]
    assert leaving("duplicate", *(talk(each, "It is.") for each in same)) == [1, 2]


def test_personal_data_is_not_repeated_in_the_detail() -> None:
    assert "acme" not in (verdict("personal", "ann@acme.org", question="bob@acme.org") or "")


ASKED = [Message(role="user", content="How?")]
PLAIN, MAIL = "By hand, twice a day.", "Write to ann@acme.org."
CALL = {"role": "assistant", "content": "", "tool_calls": [{"function": {"arguments": MAIL}}]}


@pytest.mark.parametrize(
    "row",
    [
        {"text": MAIL},
        {"messages": [*ASKED, *answer(MAIL), *ASKED, *answer(PLAIN)]},
        {"messages": [{"role": "system", "content": MAIL}, *ASKED, *answer(PLAIN)]},
        {"messages": [*ASKED, CALL]},
        {"prompt": [Message(role="user", content=MAIL)], "chosen": answer(PLAIN), "rejected": ()},
        {"prompt": ASKED, "chosen": answer(PLAIN), "rejected": answer(MAIL)},
        {"prompt": ASKED, "completion": answer(MAIL), "label": False},
        {"prompt": ASKED, "answers": [{"content": PLAIN}, {"content": MAIL}]},
    ],
)
@pytest.mark.parametrize("kind", ["personal", "keywords"])
def test_every_part_of_every_form_is_looked_at(row: dict[str, Any], kind: str) -> None:
    keys = {"words": ["ann@acme.org"]} if kind == "keywords" else {}
    called = kind == "keywords" and CALL in row.get("messages", ())  # no words
    assert leaving(kind, {"id": "r", "meta": {}, **row}, **keys) == ([] if called else [0])


def of_form(form: str, good: str, bad: str) -> dict[str, Any]:
    """A row whose worse answer, or one of whose answers, is `bad`."""
    forms: dict[str, dict[str, Any]] = {
        "pairs": {"chosen": answer(good), "rejected": answer(bad)},
        "labelled": {"completion": answer(bad), "label": False},
        "candidates": {"answers": [{"content": bad}, {"content": good}]},
    }
    return {"id": "r", "prompt": ASKED, "meta": {"context": PLAIN}, **forms[form]}


@pytest.mark.parametrize("form", ["pairs", "labelled", "candidates"])
@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        ("refusal", "I'm sorry, but I can't help with that."),
        ("parses", "```python\nprint(1\n```"),
        ("repetition", "warm and cold " * 30),
        ("arithmetic", "<<1+1=3>>"),
        ("grounded", "Somewhere else entirely."),
        ("length", "Hm."),
    ],
)
def test_a_worse_answer_may_be_bad_unless_both_sides_are_looked_at(
    kind: str, bad: str, form: str
) -> None:
    row = of_form(form, PLAIN, bad)
    assert leaving(kind, row, side="chosen") == []
    assert leaving(kind, row, side="both") == [0]
    assert leaving(kind, row) == ([0] if kind == "length" else [])
    assert leaving(kind, {**of_form(form, bad, bad), "label": True}) == [0]


def test_every_answer_is_compared_with_its_own_question() -> None:
    context = {"context": "The pump moves warm water. The valve is closed by hand."}
    fine = {**talk("What moves?", "The pump.", "And by hand?", "The valve."), "meta": context}
    later = {**talk("What moves?", "The pump.", "Else?", "Seven elephants."), "meta": context}
    again = {**talk("The pump.", "The valve.", "The valve.", "The valve."), "meta": context}
    before = {**talk("The pump.", "The valve.", "The pump.", "The valve."), "meta": context}
    assert leaving("grounded", fine, later, again, before) == [1, 2]
    passages = {**fine, "meta": {"context": ["The pump moves.", "The valve is shut."]}}
    number = {**fine, "meta": {"context": 7}}
    assert leaving("grounded", passages, number) == [1], "a context need not be one text"


def test_a_turn_that_only_calls_a_tool_is_no_answer_in_words() -> None:
    row = {"id": "r", "messages": [*ASKED, CALL, {"role": "tool", "content": "1"}, *answer(PLAIN)]}
    assert leaving("length", row) == []
    other = {**CALL, "tool_calls": [{"function": {"arguments": "other"}}]}
    ends = [{"id": "r", "messages": [*ASKED, call]} for call in (CALL, other, CALL)]
    assert leaving("duplicate", *ends, by="both") == [2]


@given(st.text(alphabet="ab \n", max_size=300))
def test_shares_are_shares(text: str) -> None:
    assert all(0 <= share <= 1 for _, share, _ in shares(text))


@given(st.lists(st.integers(0, 99), min_size=1, max_size=6), st.data())
def test_values_are_those_of_python(numbers: list[int], data: st.DataObject) -> None:
    text, true = str(numbers[0]), Fraction(numbers[0])
    for number in numbers[1:]:
        sign = data.draw(st.sampled_from("+-"))
        text, true = f"{text}{sign}{number}*2", true + 2 * number * (1 if sign == "+" else -1)
    assert value(text) == true
