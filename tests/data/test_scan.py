"""The compiled reader and the one of the standard library give the same rows and errors."""

from __future__ import annotations

import gzip
import json
import random
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.data import blocks, kernels, lines, scan
from llmctl.data.blocks import Block
from llmctl.data.entries import Batch, Entry, collected, short
from llmctl.data.runners.local import LocalRunner
from llmctl.errors import InputError

pytest.importorskip("numba")

STRINGS = st.one_of(
    st.text(max_size=12),
    st.text(st.characters(codec=None, exclude_categories=()), max_size=4),
    st.sampled_from(['"', "\\", "\0", "\n", "é", "\U0001f642", "\ud83d\ude42", "\ud83d", "日本"]),
)
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), STRINGS, st.just([]), st.just({})
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(STRINGS, inner, max_size=3)
    ),
    max_leaves=6,
)
MESSAGES = st.lists(
    st.fixed_dictionaries({}, optional={"role": STRINGS, "content": STRINGS, "x": VALUES}),
    max_size=3,
)
KEYS = ("id", "text", "messages", "prompt", "chosen", "rejected", "other", "texts", "conten")
PAIRS = st.lists(
    st.tuples(st.sampled_from(KEYS), st.one_of(STRINGS, STRINGS, MESSAGES, VALUES)), max_size=6
)
SPACES = st.sampled_from(["", "", " ", "\t", " \r "])
ENDS = st.sampled_from(["\n", "\n", "\r\n", " \n", "\n\n", "\n \t\n", "\n\x0b\x0c\n"])
OTHER = st.sampled_from(['"other"', '"o\\u0074her"'])
FIELDS = st.sampled_from([(), (), ("text",), ("prompt", "text"), ("id", "other"), ("other",)])


@st.composite
def json_lines(draw: st.DrawFn) -> bytes:
    """Rows as others write them: keys that are there twice, spaces, either form of escapes."""
    out = []
    for pairs in draw(st.lists(PAIRS, max_size=5)):
        space, plain = draw(SPACES), draw(st.booleans())
        names = {k: json.dumps(k) for k in KEYS} | {"other": draw(OTHER)}
        said = (
            f"{space}{names[k]}{space}:{space}{json.dumps(v, ensure_ascii=plain)}{space}"
            for k, v in pairs
        )
        out.append(f"{space}{{{space}{','.join(said)}}}{draw(ENDS)}")
    return "".join(out).encode("utf-8", "surrogatepass")


def slowly(path: Path, block: Block, fields: tuple[str, ...]) -> Iterable[Entry]:
    for number, line in enumerate(block.data.split(b"\n")[:-1], block.first):
        if (line + b"\n").isspace():
            continue
        where = f"{path}:{number}"
        row = lines.row_of(line + b"\n", where)
        yield Entry(str(row.get("id", short(where))), lines.text_of(row, fields, where), where)


def told(each: Iterable[Entry | Batch]) -> Any:
    """The rows, or the error."""
    try:
        entries, _ = collected(each, [], None)
    except InputError as error:
        return str(error)
    return [entries[i] for i in range(len(entries))]


def both(data: bytes, fields: tuple[str, ...] = (), first: int = 1) -> tuple[Any, Any]:
    block, path = Block(data, first, data.count(b"\n")), Path("some/rows.jsonl")
    fast = told(scan.batch(path, fields, None, block) for _ in "1")
    return fast, told(slowly(path, block, fields))


@given(data=json_lines(), fields=FIELDS, first=st.sampled_from([1, 9, 99, 12345]))
@settings(max_examples=400)
def test_rows_are_those_of_the_json_reader(
    data: bytes, fields: tuple[str, ...], first: int
) -> None:
    fast, slow = both(data, fields, first)
    assert fast == slow


SEED = (
    b'{"id": 12, "text": "caf\\u00e9 \xc3\xa9 \\"q\\" \\ud83d\\ude42", "n": [1, -2.5e+3, null, '
    b'true, {"a": false}], "messages": [{"role": "u", "content": "x\\ny"}, {"content": "z"}]}\n'
)


@given(
    place=st.integers(0, len(SEED) - 2),
    byte=st.one_of(st.integers(0, 255), st.sampled_from(list(b'"\\{}[],:0123.eE+-tfnu '))),
    how=st.sampled_from(["replace", "insert", "delete", "cut"]),
)
@settings(max_examples=600)
def test_a_damaged_line_is_refused_as_the_json_reader_does(place: int, byte: int, how: str) -> None:
    new = b"" if how in ("delete", "cut") else bytes([byte])
    data = SEED[:place] + new + (b"\n" if how == "cut" else SEED[place + (how != "insert") :])
    fast, slow = both(SEED + data + SEED)
    assert fast == slow


@pytest.mark.parametrize(
    "line",
    [
        '{"text": "a", "text": "b"}', '{"text": "a", "id": 1.0}', '{"text": "a", "id": -0}',
        '{"text": "a", "id": 00}', '{"text": "a", "id": true}', '{"text": "a", "id": null}',
        '{"text": "a", "id": 123456789012345678901234567890}', '{"text": "a", "x": NaN}',
        '{"text": "a", "x": 1' + "0" * 5000 + "}", '{"text": ' + "[" * 99 + "]" * 99 + "}",
        '{"text": ' + "[" * 150 + "]" * 150 + "}", '{"text": "\\ud800\\u0041"}',
        '{"text": "\\udc00"}', '{"messages": []}', '{"messages": "plain"}', '{"messages": [1]}',
        '{"messages": [{"content": "a", "content": "b"}]}', '{"messages": [{"role": "a"}]}',
        '{"chosen": "a", "rejected": [{"content": "b"}], "prompt": 1}', '{"chosen": "a"}',
        '{"text": "a"} x', '{"text": "a"}}', '{"text": "a",}', "[]", '"text"', "{}", "\ufeff{}",
        '{"text": "tab\there"}', '{"text": "a"', '{"text" "a"}', "{text: 1}", "{'text': 1}",
    ],
)  # fmt: skip
def test_lines_that_are_easily_read_wrongly(line: str) -> None:
    fast, slow = both(line.encode("utf-8", "surrogatepass") + b"\n")
    assert fast == slow


@pytest.mark.parametrize("ending", ["", "\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_blocks_end_at_lines_and_kept_lines_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, packed: bool
) -> None:
    source = random.Random(1)
    rows = [
        source.choice(["", "  \t", "\x0b", "x" * source.randrange(300), "é\r"]) for _ in range(200)
    ]
    data = "\n".join([*rows, "last"]).encode() + ending.encode()
    path = tmp_path / ("rows.jsonl.gz" if packed else "rows.jsonl")
    path.write_bytes(gzip.compress(data) if packed else data)
    expected = list(lines.raw(path))
    monkeypatch.setattr(blocks, "SIZE", 64)
    found, copied = [], b""
    for data in blocks.whole_lines(path):
        begins, ends = blocks.spans(data)
        stays = (len(found) + np.arange(len(begins))) % 3 > 0
        copied += b"".join(blocks.kept(data, begins, ends, stays))
        found += [data[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)]
    assert found == [line for _, line in expected]
    assert copied == b"".join(line for n, (_, line) in enumerate(expected) if n % 3)
    counted = [(block.first, block.count) for block in blocks.blocks(path)]
    assert counted[-1][0] + sum(counted[-1][1:]) - 1 == expected[-1][0]


def test_batches_are_in_order_on_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"id": n, "text": f"text {n} " * (n % 9)} for n in range(500)] + [{"text": "no id"}]
    path.write_text("\n\n".join(map(json.dumps, rows)), encoding="utf-8")
    monkeypatch.setattr(blocks, "SIZE", 256)
    entries, _ = collected(scan.batches(path, (), 2), [], tmp_path)
    assert list(entries.texts) == [row["text"] for row in rows]
    assert list(entries.ids)[:-1] == [str(n) for n in range(500)]
    assert entries.ids[-1] == "rows.jsonl:1001"
    assert entries.wheres[7] == f"{path}:15"


def test_only_what_it_can_read_is_given_to_it(tmp_path: Path) -> None:
    path, use = tmp_path / "rows.jsonl", kernels.kernel("numba")
    path.write_text("", encoding="utf-8")
    assert scan.able(path, ("text",), use)
    assert not scan.able(path, ("text",), kernels.NUMPY)
    assert not scan.able(path, ("a.b",), use) and not scan.able(path, ("a", "a"), use)
    assert not scan.able(tmp_path, (), use)
    assert np.array_equal(kernels.bounds(np.array([2, 3])), [0, 2, 5])


def test_the_caller_works_too_and_an_error_waits_for_its_turn() -> None:
    helped = threading.Event()

    def work(n: int) -> int:
        if threading.current_thread() is threading.main_thread():
            helped.set()
        assert helped.wait(30)  # the other thread ends nothing before
        if n == 3:
            raise ValueError("three")
        return n

    made, parts = list[int](), LocalRunner().parts(work, iter(range(5)), 2)
    with pytest.raises(ValueError, match="three"):
        made.extend(parts)
    assert made == [0, 1, 2]
