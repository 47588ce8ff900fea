"""The filter language: what passes, what is refused, and that any text is one or the other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.errors import InputError
from llmctl.rag.filters import check, parse

META: dict[str, Any] = {
    "author": "Lee",
    "date": "2024-03-02T10:00:00Z",
    "day": "2024-03-02",
    "tags": ["Pumps", "valves"],
    "page": 3,
    "draft": False,
    "model no.": "X'1",
    "path": "api/v2/users.md",
    "empty": [],
}
FIELDS = {
    "author": {"type": "string"},
    "day": {"type": "date"},
    "page": {"type": "number"},
    "draft": {"type": "boolean"},
    "tags": {"type": "list"},
    "any": {"type": "mixed"},
}


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("author = 'lee'", True),
        ('author = "Lee"', True),
        ("author == 'Li'", False),
        ("author != 'Li'", True),
        ("author <> 'LEE'", False),
        ("author in ('a', 'lee')", True),
        ("author not in ('a', 'lee')", False),
        ("author > 'kim' and author < 'moe'", True),
        ("date = 2024-03-02", True),
        ("date <= 2024-03", True),
        ("date < 2024-03", False),
        ("date > 2023", True),
        ("date >= '2024-03-02T10:00'", True),
        ("day = '2024-03-02'", True),
        ("day in (2024-03-01, 2024-03-02)", True),
        ("tags = 'pumps'", True),
        ("tags != 'pumps'", False),
        ("tags in ('x', 'VALVES')", True),
        ("page >= 3 and page < 3.5", True),
        ("page = -3", False),
        ("page = '3'", False),
        ("draft = false", True),
        ("draft = 0", False),
        ("`model no.` = 'x''1'", True),
        ("path like 'api/*'", True),
        ("path like '*/v2/*.md'", True),
        ("path like 'api'", False),
        ("path not like '*.html'", True),
        ("path like 'api/v2/users.md*users.md'", False),
        ("editor = 'x'", False),
        ("editor != 'x'", False),
        ("editor not in ('x')", False),
        ("editor missing", True),
        ("empty exists", False),
        ("author EXISTS AND NOT (page = 4 OR page = 5)", True),
        ("page = 4 or page = 3 and draft = true", False),
        ("(page = 4 or page = 3) and draft = false", True),
    ],
)
def test_what_passes(text: str, passes: bool) -> None:
    found = parse(text)
    assert found.matches(META) is passes
    assert parse(str(found)) == parse(str(parse(str(found))))
    assert parse(str(found)).matches(META) is passes


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "column 1: the filter is empty"),
        ("author = Lee", "column 10: text stands in quotes: 'Lee'"),
        ("author 'Lee'", "column 8: expected = != < <="),
        ("author = 'Lee", "column 10: a quote that is not closed"),
        ("(page = 3", "column 10: expected `)`; found the end"),
        ("page = 3 page = 4", "column 10: expected `and`, `or` or the end; found 'page'"),
        ("page in 3", "column 9: expected `(` after `in`"),
        ("page in (3", "column 11: expected `,` or `)`; found the end"),
        ("page not 3", "column 10: expected `in` or `like` after `not`"),
        ("path like 3", "column 11: expected text in quotes after `like`"),
        ("page = ;", "column 8: ';' has no meaning here"),
        ("page =", "column 7: expected a value; found the end"),
        ("= 3", "column 1: expected the name of a field; found '='"),
        ("(" * 60 + "page = 1" + ")" * 60, "more than 50 parts inside each other"),
        ("not " * 5000, "20000 characters; at most 10000 are read"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(text: str, told: str) -> None:
    with pytest.raises(InputError, match=r"^filter: ") as error:
        parse(text)
    assert told in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("autor = 'x'", "no field named 'autor', did you mean 'author'?; there are: any, author"),
        ("author = 3", "author is a string; write text in quotes such as 'a', found 3"),
        ("author = 2024-01-01", "author is a string"),
        ("page = 'x'", "page is a number; write a number such as 12, found 'x'"),
        ("page = true", "page is a number"),
        ("day > 'soon'", "day is a date; write a date such as 2024-01-31, found 'soon'"),
        ("draft = 'no'", "draft is a boolean; write = true or = false"),
        ("draft > true", "draft is a boolean"),
        ("not (page = 1 or page like 'x')", "page is a number; `like` compares text"),
    ],
)
def test_a_filter_is_checked_against_what_the_store_has(text: str, told: str) -> None:
    with pytest.raises(InputError) as error:
        parse(text, FIELDS)
    assert told in str(error.value)


def test_a_filter_that_fits_the_store_is_taken() -> None:
    check(
        parse(
            "author = 'x' and day >= 2024 and day < '2024-05' and page in (1, 2.5) and tags = 3 "
            "and draft != true and any = 1 and any like 'x*' and tags missing"
        ),
        FIELDS,
    )


PIECES = st.sampled_from(
    ["author", "page", "=", "!=", "<", "in", "like", "not", "and", "or", "(", ")", ",", "'a'", "3",
     "2024-01", "exists", "missing", "true", "`x y`", "''''", " "]
)  # fmt: skip


@given(st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=15).map(" ".join)))
@settings(max_examples=400)
def test_any_text_is_a_filter_or_one_error(text: str) -> None:
    try:
        found = parse(text)
    except InputError as error:
        told = str(error)
    else:
        told = ""
    if told:
        assert len(told.splitlines()) == 1
        return
    assert parse(str(found)).matches(META) is found.matches(META)
