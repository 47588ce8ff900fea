"""Differences that do not count: letter case, composed forms, spaces, punctuation."""

from __future__ import annotations

import re
import unicodedata

_ASCII_PUNCTUATION = re.compile(r"[\x00-\x1f !-/:-@\[-^`{-\x7f]+")

SPACELESS = ("CJK UNIFIED", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""Scripts without spaces, by how their characters' names begin: a character is a word."""


class _Separators(dict[int, str]):
    """Table of str.translate, filled as characters are met; marks (vowel signs) stay letters."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if code < 128:
            shown = character
        elif category[0] in "PSZC" and category != "Cs":
            shown = " "
        elif unicodedata.name(character, "").startswith(SPACELESS) and category[0] == "L":
            shown = f" {character} "
        else:
            shown = character
        self[code] = shown
        return shown


SEPARATORS = _Separators()


def composed(text: str, *, case: bool) -> str:
    """One form for canonically equal texts; `case` folds letters of every script."""
    if text.isascii():
        return text.casefold() if case else text
    if case:
        text = unicodedata.normalize("NFD", text).casefold()
    return unicodedata.normalize("NFC", text)


class _Alone(dict[str, str | None]):
    """A character as it is compared where it stands by itself; None: its neighbours matter.

    Filled as characters are met. Only blocks are taken in which nothing but marks is composed
    with what stands before.
    """

    def __init__(self, case: bool) -> None:
        super().__init__()
        self._case = case

    def __missing__(self, character: str) -> str | None:
        shown = None
        in_block = any(first <= character <= last for first, last in ALONE)
        if in_block and unicodedata.category(character)[0] != "M":
            parts = composed(character, case=self._case)
            if composed(parts, case=self._case) == parts:
                shown = "".join(c if c <= "\x7f" else SEPARATORS[ord(c)] for c in parts)
        self[character] = shown
        return shown


ALONE = (
    ("\xa0", "\u036f"), ("\u0370", "\u052f"), ("\u1e00", "\u1fff"), ("\u2000", "\u2bff"),
    ("\u3000", "\u30ff"), ("\u4e00", "\u9fff"), ("\uff00", "\uff9d"), ("\U0001f000", "\U0001faff"),
)  # fmt: skip
"""Latin, Greek, Cyrillic, punctuation, symbols, kana, common ideographs, wide forms, emoji."""
_SHOWN = {case: _Alone(case) for case in (False, True)}
_ASCII = bytes(range(128))


def encoded(text: str, *, case: bool) -> bytes:
    """The bytes that the kernels read: beyond ASCII, separators are spaces and case is folded.

    ASCII is left to the kernel's byte tables, which fold it for nothing.
    """
    if text.isascii():
        return text.encode()
    beyond = text.encode("utf-8", "surrogatepass").translate(None, _ASCII)
    known = _SHOWN[case]
    foreign = {c: known[c] for c in set(beyond.decode("utf-8", "surrogatepass"))}
    if None in foreign.values():
        text = composed(text, case=case)
        foreign = {c: SEPARATORS[ord(c)] for c in set(text) if c > "\x7f"}
    for character, shown in foreign.items():
        if shown is not None and shown != character:
            text = text.replace(character, shown)
    return text.encode("utf-8", "surrogatepass")


def unpunctuated(text: str) -> str:
    """Composed text with separators in place of punctuation; what the shingles are made of."""
    return _ASCII_PUNCTUATION.sub(" ", text if text.isascii() else text.translate(SEPARATORS))
