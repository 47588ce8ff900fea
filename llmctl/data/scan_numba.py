"""The texts of JSON lines, found and unescaped without a Python object per row (extra `fast`).

Every line is checked as RFC 8259 has it. A line that is not an object of the usual kind, or where
there is any doubt (half a surrogate pair, an escaped key, an id that is not a string or a plain
number, anything invalid), is left to the reader of `lines`; so both give the same rows and errors.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from llmctl.data.kernels import Bytes, Ids

PLAIN, ESCAPED, LIST, NUMBER, OTHER = 1, 2, 3, 4, 5
"""What a value is; NUMBER is a whole one that is written as Python would."""
DEEPEST, LONGEST_NUMBER = 100, 300
QUOTE, BACKSLASH, COLON, COMMA, NEWLINE = 34, 92, 58, 44, 10
OPEN_OBJECT, CLOSE_OBJECT, OPEN_LIST, CLOSE_LIST = 123, 125, 91, 93
DEFAULT = (b"id", b"messages", b"prompt", b"chosen", b"rejected", b"text")
"""The keys that a row without named fields is read by, in the order that `_chosen` counts on."""


def _byte_kinds() -> Bytes:
    """In a string: 0 stands for itself, 1 ends it, 2 escapes, 3 is invalid, 4 begins UTF-8."""
    kinds = np.zeros(256, np.uint8)
    kinds[:32] = 3
    kinds[QUOTE], kinds[BACKSLASH] = 1, 2
    kinds[0x80:0xC2] = kinds[0xF5:] = 3
    kinds[0xC2:0xF5] = 4
    return kinds


KINDS = _byte_kinds()
ESCAPES = np.zeros(256, np.uint8)
for _name, _meant in zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True):
    ESCAPES[_name] = _meant
HEX = np.full(256, 255, np.uint8)
for _digit in range(16):
    HEX[ord(f"{_digit:x}")] = HEX[ord(f"{_digit:X}")] = _digit


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _space(data: Any, i: Any) -> Any:
    while data[i] == 32 or data[i] == 9 or data[i] == 13:
        i += 1
    return i


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _unit(data: Any, i: Any) -> Any:
    """The UTF-16 unit of four hexadecimal digits, or -1."""
    value = 0
    for k in range(i, i + 4):
        digit = HEX[data[k]]
        if digit > 15:  # a newline, too: nothing beyond the line is read
            return -1
        value = value * 16 + digit
    return value


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _code(data: Any, i: Any) -> Any:
    """(character, place behind) of the escape whose `u` stands at i - 1; -1 without a character."""
    unit = _unit(data, i)
    if unit < 0xD800 or unit > 0xDFFF:
        return unit, i + 4
    if unit > 0xDBFF or data[i + 4] != BACKSLASH or data[i + 5] != 117:
        return -1, i
    low = _unit(data, i + 6)
    if low < 0xDC00 or low > 0xDFFF:
        return -1, i
    return 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00), i + 10


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _character(data: Any, i: Any) -> Any:
    """The place behind a character of two to four bytes (Unicode 17, table 3-7), or -1."""
    lead, second = data[i], data[i + 1]
    least, most = 0x80, 0xBF
    if lead == 0xE0:
        least = 0xA0
    elif lead == 0xED:
        most = 0x9F
    elif lead == 0xF0:
        least = 0x90
    elif lead == 0xF4:
        most = 0x8F
    if second < least or second > most:
        return -1
    size = 2 if lead < 0xE0 else (3 if lead < 0xF0 else 4)
    for k in range(i + 2, i + size):
        if data[k] < 0x80 or data[k] > 0xBF:
            return -1
    return i + size


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _string(data: Any, i: Any) -> Any:
    """(place behind the closing quote or -1, PLAIN or ESCAPED) of the string that begins at i."""
    kind = PLAIN
    while True:
        what = KINDS[data[i]]
        while what == 0:
            i += 1
            what = KINDS[data[i]]
        if what == 1:
            return i + 1, kind
        if what == 2:
            kind = ESCAPED
            if data[i + 1] == 117:
                code, i = _code(data, i + 2)
                if code < 0:
                    return -1, kind
            elif ESCAPES[data[i + 1]]:
                i += 2
            else:
                return -1, kind
        elif what == 4:
            i = _character(data, i)
            if i < 0:
                return -1, kind
        else:
            return -1, kind


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _digits(data: Any, i: Any) -> Any:
    while 48 <= data[i] <= 57:
        i += 1
    return i


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _number(data: Any, i: Any) -> Any:
    """(place behind a number or -1, NUMBER or OTHER)."""
    begin, kind = i, NUMBER
    if data[i] == 45:
        i, kind = i + 1, OTHER
    whole = _digits(data, i)
    if whole == i or (data[i] == 48 and whole > i + 1):
        return -1, kind
    i = whole
    if data[i] == 46:
        i, kind = _digits(data, i + 1), OTHER
        if data[i - 1] == 46:
            return -1, kind
    if data[i] == 101 or data[i] == 69:
        i, kind = i + 1, OTHER
        if data[i] == 43 or data[i] == 45:
            i += 1
        if not 48 <= data[i] <= 57:
            return -1, kind
        i = _digits(data, i)
    if i - begin > LONGEST_NUMBER:
        return -1, kind
    return i, kind


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _word(data: Any, i: Any, word: Any) -> Any:
    for k in range(len(word)):
        if data[i + k] != word[k]:  # a newline stops this, too
            return -1
    return i + len(word)


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _key(data: Any, i: Any) -> Any:
    """The place of the value of the key that begins at i, or -1."""
    if data[i] != QUOTE:
        return -1
    i, _ = _string(data, i + 1)
    if i < 0:
        return -1
    i = _space(data, i)
    return _space(data, i + 1) if data[i] == COLON else -1


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _value(data: Any, i: Any, stack: Any) -> Any:
    """(place behind the value that begins at i or -1, what it is)."""
    depth, kind = 0, OTHER
    while True:
        c = data[i]
        this = OTHER
        if c == QUOTE:
            i, this = _string(data, i + 1)
        elif c in (OPEN_OBJECT, OPEN_LIST):
            is_object = c == OPEN_OBJECT
            this = OTHER if is_object else LIST
            i = _space(data, i + 1)
            if data[i] != (CLOSE_OBJECT if is_object else CLOSE_LIST):
                if depth == DEEPEST:
                    return -1, kind
                if depth == 0:
                    kind = this
                stack[depth] = is_object
                depth += 1
                if is_object:
                    i = _key(data, i)
                    if i < 0:
                        return -1, kind
                continue
            i += 1
        elif c == 45 or 48 <= c <= 57:
            i, this = _number(data, i)
        elif c == 116:
            i = _word(data, i, (116, 114, 117, 101))
        elif c == 102:
            i = _word(data, i, (102, 97, 108, 115, 101))
        elif c == 110:
            i = _word(data, i, (110, 117, 108, 108))
        else:
            return -1, kind
        if i < 0:
            return -1, kind
        if depth == 0:
            return i, this
        while depth:
            i = _space(data, i)
            if data[i] == COMMA:
                i = _space(data, i + 1)
                if stack[depth - 1]:
                    i = _key(data, i)
                    if i < 0:
                        return -1, kind
                break
            if data[i] != (CLOSE_OBJECT if stack[depth - 1] else CLOSE_LIST):
                return -1, kind
            depth -= 1
            i += 1
        if depth == 0:
            return i, kind


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _which(data: Any, begin: Any, end: Any, keys: Any, ends: Any) -> Any:
    """The number of a key among those that are looked for, or -1."""
    first = 0
    for k in range(ends.shape[0]):
        if ends[k] - first == end - begin:
            same = True
            for at in range(end - begin):
                if keys[first + at] != data[begin + at]:
                    same = False
                    break
            if same:
                return k
        first = ends[k]
    return -1


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _object(data: Any, i: Any, keys: Any, ends: Any, found: Any, stack: Any) -> Any:
    """The place behind the object at i or -1; found[k] is (kind, begin, end) of the value of k."""
    found[:, 0] = 0
    if data[i] != OPEN_OBJECT:
        return -1
    i = _space(data, i + 1)
    if data[i] == CLOSE_OBJECT:
        return i + 1
    while True:
        if data[i] != QUOTE:
            return -1
        begin = i + 1
        i, kind = _string(data, begin)
        if i < 0 or kind == ESCAPED:
            return -1
        k = _which(data, begin, i - 1, keys, ends)
        i = _space(data, i)
        if data[i] != COLON:
            return -1
        begin = _space(data, i + 1)
        i, kind = _value(data, begin, stack)
        if i < 0:
            return -1
        if k >= 0:  # of a key that is there twice the last value counts, as in Python
            found[k, 0], found[k, 1], found[k, 2] = kind, begin, i
        i = _space(data, i)
        if data[i] == CLOSE_OBJECT:
            return i + 1
        if data[i] != COMMA:
            return -1
        i = _space(data, i + 1)


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _encode(code: Any, out: Any, at: Any) -> Any:
    """Write a character as UTF-8."""
    if code < 0x80:
        out[at] = code
        return at + 1
    if code < 0x800:
        out[at] = 0xC0 | code >> 6
    elif code < 0x10000:
        out[at], out[at + 1] = 0xE0 | code >> 12, 0x80 | (code >> 6 & 0x3F)
        at += 1
    else:
        out[at], out[at + 1] = 0xF0 | code >> 18, 0x80 | (code >> 12 & 0x3F)
        out[at + 2] = 0x80 | (code >> 6 & 0x3F)
        at += 2
    out[at + 1] = 0x80 | (code & 0x3F)
    return at + 2


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _write(data: Any, kind: Any, begin: Any, end: Any, out: Any, at: Any) -> Any:
    """Write a string, or the digits of a number, as text; returns the place behind."""
    if kind != NUMBER:
        begin, end = begin + 1, end - 1
    if kind != ESCAPED:
        out[at : at + end - begin] = data[begin:end]
        return at + end - begin
    i = begin
    while i < end:
        c = data[i]
        if c != BACKSLASH:
            out[at] = c
            i, at = i + 1, at + 1
        elif data[i + 1] == 117:
            code, i = _code(data, i + 2)
            at = _encode(code, out, at)
        else:
            out[at] = ESCAPES[data[i + 1]]
            i, at = i + 2, at + 1
    return at


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _contents(
    data: Any, begin: Any, out: Any, at: Any, content: Any, found: Any, stack: Any
) -> Any:
    """Write the contents of messages, held apart by NUL; -1 when the list is of something else."""
    ends = np.full(1, content.shape[0])
    i, first = _space(data, begin + 1), True
    while True:
        i = _object(data, i, content, ends, found, stack)
        if i < 0 or not (found[0, 0] == PLAIN or found[0, 0] == ESCAPED):
            return -1
        if not first:
            out[at] = 0
            at += 1
        first = False
        at = _write(data, found[0, 0], found[0, 1], found[0, 2], out, at)
        i = _space(data, i)
        if data[i] == CLOSE_LIST:
            return at
        i = _space(data, i + 1)


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _chosen(found: Any, order: Any) -> Any:
    """Of a row without named fields: which values make the text; returns how many."""
    order[0] = 1
    if found[1, 0]:
        return 1
    if found[3, 0] and found[4, 0]:
        count = 0
        for k in range(2, 5):
            if found[k, 0]:
                order[count] = k
                count += 1
        return count
    order[0] = 5
    return 1 if found[5, 0] else 0


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _blank(data: Any, i: Any) -> Any:
    """The place behind a line of spaces that begins at i, or -1."""
    while data[i] == 32 or 9 <= data[i] <= 13:
        if data[i] == NEWLINE:
            return i + 1
        i += 1
    return -1


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _lines(
    data: Any, count: Any, first: Any, name: Any, keys: Any, ends: Any, named: Any, content: Any
) -> Any:
    """Texts and ids of the rows in whole lines; `named` are the keys of the text, or empty."""
    texts, ids = (
        np.empty(data.shape[0], np.uint8),
        np.empty(data.shape[0] + count * (name.shape[0] + 12), np.uint8),
    )
    text_ends, id_ends = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    lines, slow = np.empty(count, np.uint32), np.empty((count, 2), np.int64)
    found, inner = np.zeros((ends.shape[0], 3), np.int64), np.zeros((1, 3), np.int64)
    stack, order = np.zeros(DEEPEST, np.uint8), np.zeros(8, np.int64)
    row, text_at, id_at, i, line = 0, 0, 0, 0, first - 1
    while i < data.shape[0]:
        begin, line = i, line + 1
        behind = _blank(data, i)
        if behind >= 0:
            i = behind
            continue
        lines[row] = line
        i = _object(data, _space(data, i), keys, ends, found, stack)
        at = -1
        if i >= 0:
            i = _space(data, i)
            if data[i] == NEWLINE:
                at = text_at
        if at >= 0:
            parts = named.shape[0]
            if not parts:
                parts = _chosen(found, order)
                at = at if parts else -1
            for part in range(parts):
                k = named[part] if named.shape[0] else order[part]
                if part:
                    texts[at] = 0
                    at += 1
                kind, value, stop = found[k, 0], found[k, 1], found[k, 2]
                if kind in (PLAIN, ESCAPED):
                    at = _write(data, kind, value, stop, texts, at)
                elif kind == LIST:
                    at = _contents(data, value, texts, at, content, inner, stack)
                else:
                    at = -1
                if at < 0:
                    break
        kind = found[0, 0]
        if at >= 0 and kind <= NUMBER and kind != LIST:
            texts[at] = NEWLINE
            text_at = at + 1
            if kind:
                id_at = _write(data, kind, found[0, 1], found[0, 2], ids, id_at)
            else:  # a row without an id is called by its place
                ids[id_at : id_at + name.shape[0]] = name
                id_at += name.shape[0]
                size, left = 1, line
                while left > 9:
                    size, left = size + 1, left // 10
                left = line
                for digit in range(size):
                    ids[id_at + size - 1 - digit] = 48 + left % 10
                    left //= 10
                id_at += size
            ids[id_at] = NEWLINE
            id_at += 1
            slow[row, 0] = -1
            i += 1
        else:
            i = begin
            while data[i] != NEWLINE:
                i += 1
            i += 1
            slow[row, 0], slow[row, 1] = begin, i
        row += 1
        text_ends[row], id_ends[row] = text_at, id_at
    return (
        texts[:text_at],
        text_ends[: row + 1],
        ids[:id_at],
        id_ends[: row + 1],
        lines[:row],
        slow[:row],
    )


def lines(data: Bytes, count: int, first: int, name: bytes, fields: tuple[bytes, ...]) -> Any:
    """Read `count` whole lines, of which the first one has the number `first`.

    Returns texts, ids (each as bytes with newlines, and offsets), line numbers, and for each row
    (-1, 0) or the bytes of a line that is left to the other reader. `name` and the number of its
    line are the id of a row without one; `fields` make the text, by the type of row when empty.
    """
    keys = list(dict.fromkeys((b"id", *fields))) if fields else list(DEFAULT)
    ends: Ids = np.cumsum([len(key) for key in keys])
    named = np.array([keys.index(each) for each in fields], np.int64)
    joined = np.frombuffer(b"".join(keys), np.uint8)
    content = np.frombuffer(b"content", np.uint8)
    return _lines(data, count, first, np.frombuffer(name + b":", np.uint8), joined, ends, named,
                  content)  # fmt: skip
