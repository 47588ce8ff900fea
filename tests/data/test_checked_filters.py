"""Filters that work an answer out again, run it, or read it with a parser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llmctl.data import maths
from llmctl.data.code import code_of
from llmctl.data.filters.base import Filter
from llmctl.data.filters.parses import fences
from llmctl.errors import InputError, MissingError
from llmctl.sandbox import run

HERE = Path(__file__).parents[1]
pytest.importorskip("sympy")


def verdict(kind: str, answer: str, question: str = "How?", **keys: Any) -> str | None:
    meta = keys.pop("meta", {})
    judge = Filter.model_validate({"kind": kind, **keys}).start()
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return judge({"id": "r", "messages": turns, "meta": meta})


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So 3 + 4 = <<3+4=7>>7 eggs.\n#### 1,007", "1,007"),
        ("A: 18", "18"),
        ("First 5, so the answer is 12.", "12"),
        ("The final answer is: $\\frac{1}{2}$.", "$\\frac{1}{2}$"),
        ("Thus \\boxed{\\frac{3}{4}} and \\boxed{x^{2}+1}.", "x^{2}+1"),
        ("She has 3 apples and 4 pears: -7.5%", "-7.5%"),
        ("I do not know.", None),
        ("\\boxed{never closed", None),
    ],
)
def test_the_last_answer_is_found(text: str, answer: str | None) -> None:
    assert maths.final(text) == answer


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("18", "18.0", True), ("$1,000", "1000 dollars", True), ("5 %", "5", True),
        ("1/2", "0.5", True), ("\\frac{1}{2}", "0.5", True), ("\\dfrac12", "1/2", True),
        ("0.333", "1/3", False), ("-3", "3", False), ("1e9", "7", False),
        ("2\\sqrt{2}", "\\sqrt{8}", True), ("2\\pi", "6.283185307179586", True),
        ("(x+1)^2", "x^2 + 2x + 1", True), ("x^2+1", "x^2+2", False), ("2x", "2", False),
        ("x = 5", "5", True), ("(1, 2)", "(1,2)", True), ("(1, 2)", "(2, 1)", False),
        ("\\sin^2", "1", None), ("cat", "dog", None), ("yes", "Yes.", True),
        ("9**9**9**9", "1", None), ("__import__('os').system('true')", "1", None),
        ("(lambda: 1)()", "1", None), ("x" * 400, "1", None), ("((" * 200, "1", None),
        ("(1,2)**2", "1", None), ("-(1,2)", "1", None), ("((9**200)**200)**200", "1", False),
        ("1if 2else 3", "1", None), ("a\x00b", "1", None),
        ("1/0", "1", None), ("10^{2}", "100", True), ("50^{\\circ}", "50", True),
    ],
)  # fmt: skip
def test_answers_are_compared_by_value(one: str, other: str, equal: bool | None) -> None:
    assert maths.same(one, other) is equal


PIECES = [
    "1", "9", "0", ".", ",", "x", "e", "pi", "+", "-", "*", "/", "^", "**", "(", ")", "{", "}", "=",
    "\\frac", "\\sqrt", "{2}", "$", "%", " ", "\n", "\\boxed{", "####", "A:", "log(", "oo", "1e9",
    "\x00", "−", "[", "i", "/0", "**-1", "if", "lambda", "'", "²", "½", "٣",
]  # fmt: skip


@given(
    st.lists(st.sampled_from(PIECES), max_size=12), st.lists(st.sampled_from(PIECES), max_size=8)
)
@settings(max_examples=200)
def test_no_text_of_a_model_breaks_the_reading(one: list[str], other: list[str]) -> None:
    text, second = "".join(one), "".join(other)
    final = maths.final(text)
    assert final is None or maths.same(final, final) is True
    assert maths.same(text, second) in (True, False, None)
    list(maths.equations(f"{text}={second}"))


def test_maths_compares_with_the_reference() -> None:
    right = {"meta": {"reference": "2 + 3 = 5\n#### 5"}}
    assert verdict("maths", "2+3, so the answer is 5.", **right) is None
    assert verdict("maths", "the answer is 6", **right) == "6 is not 5"
    assert verdict("maths", "no idea", **right) == "gives no answer"
    assert verdict("maths", "5") == "has no meta.reference"
    assert verdict("maths", "5", missing="keep") is None
    steps = "First 12 × 4 = 48, then 48 - $3 = $44. Born 1990 - 2020. The answer is 5"
    assert verdict("maths", steps, **right) is None
    assert verdict("maths", steps, steps=True, **right) == "48 - $3 is 45, not $44"


@pytest.mark.parametrize(
    ("language", "good", "bad"),
    [
        ("sql", "SELECT a, count(*) FROM t WHERE b > 1 GROUP BY a;", "SELECT a FROM WHERE b"),
        ("sql", "INSERT INTO t VALUES (1), (2)", "SELEC a FROM t"),
        ("sql", "CREATE TABLE t (a int); DROP TABLE t", "SELECT (1"),
        ("sh", 'for f in *.md; do\n  echo "$f"\ndone', "for f in *.md; do echo $f"),
        ("bash", "if [[ -n $x ]]; then ls | wc -l; fi", "if true; then echo"),
        ("python", "print(1)", "print(1"),
        ("json", "[1]", "[1,]"),
    ],
)
def test_code_in_fences_parses(language: str, good: str, bad: str) -> None:
    pytest.importorskip("sqlglot")
    assert verdict("parses", f"Look:\n```{language}\n{good}\n```\n") is None
    assert verdict("parses", f"Look:\n```{language}\n{bad}\n```\n") is not None


@pytest.mark.parametrize(
    ("language", "text", "detail"),
    [
        ("sql", "", "has no statement"),
        ("sql", "-- only a comment", "has no statement"),
        ("sql", "SELECT", "is no statement"),
        ("sql", "1 + 1", "is no statement"),
        ("sql", "Call me when you are done", "CALL is not known well enough"),
        ("sql", "SELECT 1; Show me the money", "SHOW is not known well enough"),
        ("sql", "ALTER TABLE t whatever nonsense", "ALTER is not known well enough"),
        ("sql", "EXPLAIN this to me", "Unexpected token"),
        ("sql", "SELECT 1; hello world", "is no statement"),
        ("json", '{"a": NaN}', "NaN is no JSON"),
        ("json", "[-Infinity]", "-Infinity is no JSON"),
    ],
)
def test_what_a_lenient_parser_takes_leaves(
    language: str, text: str, detail: str, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sqlglot")
    keys = {"dialect": "postgres"} if language == "sql" else {}
    assert detail in (verdict("parses", f"```{language}\n{text}\n```", **keys) or "")
    assert verdict("parses", f"```{language}\n{text}\n```") is not None
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "text",
    [
        "EXPLAIN SELECT a FROM t", "EXPLAIN (ANALYZE, BUFFERS) SELECT 1", "SELECT 1; -- done",
        "explain query plan select a from t", "EXPLAIN ANALYZE DELETE FROM t", "SHOW TABLES",
        "WITH a AS (SELECT 1) SELECT * FROM a", "BEGIN; COMMIT;", "(SELECT 1) UNION (SELECT 2)",
        "VALUES (1, 2)", "PRAGMA table_info(t)", "GRANT SELECT ON t TO bob", "TRUNCATE TABLE t",
    ],
)  # fmt: skip
def test_statements_that_are_used_parse(text: str) -> None:
    pytest.importorskip("sqlglot")
    assert verdict("parses", f"```sql\n{text}\n```") is None


STEPS = """1. Write it:

   ```python
   def square(x):
       return x * x
   ```
   - and then
     ~~~py
     y = square(2)

     print(y)
     ~~~
10. Run it:

    ```
    4
    ```
"""


def test_code_in_lists_loses_the_indentation_of_its_fence() -> None:
    assert code_of(STEPS) == "def square(x):\n    return x * x\n\ny = square(2)\n\nprint(y)"
    assert verdict("parses", STEPS) is None
    assert verdict("parses", "- ```json\n  [1,]\n  ```") is not None
    assert verdict("parses", "1.\tTab:\n\n\t```python\n\tx = (\n\t```") is not None
    assert code_of("1. x\n\t```python\n\tif x:\n\t\ty = 1\n\t```") == "if x:\n    y = 1"
    assert list(fences("```\n\tmake\n```")) == [("", "\tmake")]
    assert list(fences("   ```\n  a\n     b\n  ```")) == [("", "a\n  b")]
    assert list(fences("Text\n\n    ```\n    shown as it is\n")) == []  # an indented code block
    assert list(fences("- a\n\nb\n\n    ```\n")) == []
    assert list(fences("* ```sh\nls\n  ```\nend")) == [("sh", "ls")]


@given(
    code=st.lists(st.text(alphabet="ab =():", max_size=8), max_size=6),
    depth=st.integers(0, 3),
    indent=st.integers(0, 3),
)
def test_a_fence_gives_back_what_was_put_into_it(code: list[str], depth: int, indent: int) -> None:
    """However deep the list in which it stands."""
    margin = " " * (2 * depth + indent)
    lines = [f"{'  ' * level}- item" for level in range(depth)]
    lines += [f"{margin}```x", *(f"{margin}{each}" for each in code), f"{margin}```"]
    assert list(fences("\n".join(lines))) == [("x", "\n".join(code))]


def test_shell_code_is_read_and_not_run(tmp_path: Path) -> None:
    assert (
        verdict("parses", f"touch {tmp_path}/made; $(touch {tmp_path}/too)", whole="shell") is None
    )
    assert not list(tmp_path.iterdir())


def test_a_dialect_that_does_not_exist_is_refused() -> None:
    pytest.importorskip("sqlglot")
    with pytest.raises(InputError, match="parses: dialect: Unknown dialect 'postgress'"):
        verdict("parses", "SELECT 1", whole="sql", dialect="postgress")


def test_languages_are_told_apart() -> None:
    pytest.importorskip("py3langid")
    german = "Die Pumpe bewegt warmes Wasser durch jedes Zimmer des Hauses."
    english = "The pump moves warm water through every room of the house at night."
    assert verdict("language", english, allowed=["en"]) is None
    assert (verdict("language", german, allowed=["en"]) or "").startswith("de (")
    assert verdict("language", english, question=german, allowed=["en"], within="answer") is None
    assert verdict("language", "Ja.", allowed=["en"]) is None


@pytest.mark.model
def test_tokens_are_those_of_the_model(smollm: Path) -> None:
    from transformers import AutoTokenizer

    count = len(AutoTokenizer.from_pretrained(smollm)("How? The pump.").input_ids)
    keys = {"tokenizer": str(smollm), "max_tokens": 3}
    assert verdict("tokens", "The pump.", **keys) == f"{count} > 3 tokens"
    assert verdict("tokens", "The pump.", **keys, within="answer") is None


HUMANEVAL = {
    "tests": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 9",
    "entry_point": "square",
}


def sandboxed() -> None:
    try:
        run.check()
    except MissingError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ("Sure:\n```python\ndef square(x):\n    return x * x\n```\nDone.", None),
        ("def square(x):\n    return x * x", None),
        ("def square(x):\n    return x + x", "failed: AssertionError"),
        ("import sys\nsys.exit(0)", "exited: ended before its last line"),
        ("import os\nos._exit(0)", "exited: ended before its last line"),
        ("def square(x):\n    while True: pass", "timeout: timeout"),
        ("I cannot write code.", "failed: SyntaxError"),
        ("open('/etc/passwd').read()", "failed: PermissionError"),
    ],
)
def test_code_passes_its_tests_or_leaves(answer: str, detail: str | None) -> None:
    sandboxed()
    keys = {"allow_exec": True, "limits": {"seconds": 1.5}, "meta": HUMANEVAL}
    found = verdict("code_tests", answer, **keys)
    assert found is None if detail is None else (found or "").startswith(detail)


def test_the_blocks_of_an_answer_are_one_program() -> None:
    answer = "```python\nx = 1\n```\nthen\n```py\ny = 2\n```\n```json\n{}\n```"
    assert code_of(answer) == "x = 1\n\ny = 2"
    output = "```python\nprint(f(2))\n```\nprints\n```\n4\nTrue\n```"
    assert code_of(output) == "print(f(2))"
    assert code_of("```\nx = 1\n```\n```json\n{}\n```") == "x = 1"


def test_a_program_of_ones_own_decides() -> None:
    sandboxed()
    keys = {"allow_exec": True, "file": str(HERE / "checks" / "short.py")}
    assert verdict("program", "short", **keys) is None
    assert verdict("program", "long " * 20, **keys) == "100 characters"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def check(row):\n    return 7", "failed: TypeError: check() gave int"),
        ("def check(row):\n    print('noise')\n    return False", "check() says no"),
        ("def check(row):\n    raise ValueError('odd')", "failed: ValueError: odd"),
        ("def check(row):\n    import sys; sys.exit(0)", "exited: ended before its last line"),
        ("def check(row):\n    while True: pass", "timeout: timeout"),
    ],
)
def test_a_program_that_fails_drops_with_the_reason(text: str, found: str, tmp_path: Path) -> None:
    sandboxed()
    path = tmp_path / "c.py"
    path.write_text(text)
    keys = {"allow_exec": True, "file": str(path), "limits": {"seconds": 1}}
    assert (verdict("program", "x", **keys) or "").startswith(found)


def test_mistakes_of_a_program_are_told_before_it_runs(tmp_path: Path) -> None:
    sandboxed()
    path = tmp_path / "c.py"
    for text, why in [("def check(row:\n", r"c.py:1: is no Python"), ("x = 1", "defines no")]:
        path.write_text(text)
        with pytest.raises(InputError, match=why):
            verdict("program", "x", allow_exec=True, file=str(path))
    with pytest.raises(InputError, match="cannot be read"):
        verdict("program", "x", allow_exec=True, file=str(tmp_path / "none.py"))


@pytest.mark.parametrize("keys", [{"kind": "program", "file": "c.py"}, {"kind": "code_tests"}])
def test_nothing_runs_unless_it_is_allowed_in_words(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="write `allow_exec: true`"):
        Filter.of(keys)
