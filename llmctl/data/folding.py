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


def encoded(text: str, *, case: bool) -> bytes:
    """The bytes that the kernels read: beyond ASCII, separators are spaces and case is folded.

    ASCII is left to the kernel's byte tables, which fold it for nothing.
    """
    if not text.isascii():
        text = composed(text, case=case)
        for character in {c for c in set(text) if c > "\x7f" and SEPARATORS[ord(c)] != c}:
            text = text.replace(character, SEPARATORS[ord(character)])
    return text.encode("utf-8", "surrogatepass")


def unpunctuated(text: str) -> str:
    """Composed text with separators in place of punctuation; what the shingles are made of."""
    return _ASCII_PUNCTUATION.sub(" ", text if text.isascii() else text.translate(SEPARATORS))
