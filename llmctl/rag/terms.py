"""Text -> the terms that a keyword index counts, for any script.

Compatibility forms and case are folded (NFKC), accents of Latin, Greek and Cyrillic letters fall
away, and marks of other scripts stay with their letter. Scripts that put no space between words
give pairs of neighbouring characters. Spans of the text are of no concern here: a term only says
what occurs and how often.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

ACCENTS = re.compile("[\u0300-\u036f]")
MARKS = (
    "\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0711\u0730-\u074a"
    "\u0900-\u0903\u093a-\u0963\u0981-\u0983\u09bc-\u09cd\u0a01-\u0a03\u0a3c-\u0a4d\u0a81-\u0a83"
    "\u0abc-\u0acd\u0b01-\u0b03\u0b3c-\u0b57\u0b82\u0bbe-\u0bcd\u0c00-\u0c04\u0c3e-\u0c56\u0c81-\u0c83"
    "\u0cbc-\u0cd6\u0d00-\u0d03\u0d3b-\u0d4d\u0d81-\u0d83\u0dca-\u0ddf\u1ab0-\u1aff\u200d\u20d0-\u20ff"
)
WORD = re.compile(rf"(?:[^\W_]|[{MARKS}])+(?:['’][^\W\d_]{{1,3}}\b)?")
PLAIN = re.compile(r"[a-z0-9]+(?:'[a-z]{1,3}\b)?")
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]+"
)

LITTLE_WORDS = """
a about above after again all also am an and any are as at be because been before being below
between both but by can could did do does doing down during each few for from further had has have
having he her here hers him his how i if in into is it its itself just me more most must may might
my no nor not of off on once only or other our ours out over own same she should so some such than
that the their theirs them then there these they this those through to too under until up upon
very was we were what when where which while who whom why will with would you your yours
"""
ENGLISH = frozenset(LITTLE_WORDS.split())
"""Words that say nothing about what an English text is about."""


def folded(text: str) -> str:
    """One spelling for texts that read the same."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return unicodedata.normalize("NFC", ACCENTS.sub("", plain))


def words(text: str) -> Iterator[str]:
    """The words of a text in order; a possessive ending is cut off."""
    text = folded(text)
    if text.isascii():
        for word in PLAIN.findall(text):
            yield word.partition("'")[0] if "'" in word else word
        return
    for match in WORD.finditer(text):
        word = re.split("['’]", match[0])[0]
        rest = 0
        for run in UNSPACED.finditer(word):
            if run.start() > rest:
                yield word[rest : run.start()]
            each = run[0]
            yield from (each[i : i + 2] for i in range(max(1, len(each) - 1)))
            rest = run.end()
        if rest < len(word):
            yield word[rest:]


class Terms:
    """Text to terms with one language's stemmer and stop words; what it has seen it remembers."""

    REMEMBERED = 200_000

    def __init__(self, stemmer: str = "none", stop_words: frozenset[str] = frozenset()) -> None:
        self._stop_words = stop_words
        self._seen: dict[str, str | None] = {}
        self._stem: Callable[[str], str] = str
        if stemmer != "none":
            self._stem = _snowball(stemmer)

    def __call__(self, text: str) -> list[str]:
        """The terms of a text, in order and with repeats."""
        seen, found = self._seen, []
        for word in words(text):
            try:
                term = seen[word]
            except KeyError:
                term = None if word in self._stop_words else self._stem(word)
                if len(seen) < self.REMEMBERED:
                    seen[word] = term
            if term is not None:
                found.append(term)
        return found


def _snowball(language: str) -> Callable[[str], str]:
    from llmctl.errors import MissingError, install_hint

    try:
        import Stemmer
    except ImportError:
        raise MissingError(f"stemming needs PyStemmer: {install_hint('rag')}") from None
    stem: Callable[[str], str] = Stemmer.Stemmer(language, 0).stemWord
    return stem
