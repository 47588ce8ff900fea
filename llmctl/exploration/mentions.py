"""Which groups of people a dataset speaks of: counts of words, a place to look and no verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

GROUPS: Mapping[str, frozenset[str]] = {
    name: frozenset(terms.split())
    for name, terms in {
        "women": "she her hers herself woman women girl girls mother mothers daughter daughters "
        "wife wives sister sisters female females actress queen mrs ms grandmother aunt",
        "men": "he him his himself man men boy boys father fathers son sons husband husbands "
        "brother brothers male males actor king mr grandfather uncle",
        "nonbinary and LGBT": "nonbinary transgender lesbian lesbians gay gays bisexual queer lgbt "
        "lgbtq homosexual homosexuals heterosexual",
        "Christianity": "christian christians christianity catholic catholics protestant church "
        "bible",
        "Islam": "muslim muslims islam islamic mosque quran",
        "Judaism": "jew jews jewish judaism synagogue torah",
        "Hinduism and Buddhism": "hindu hindus hinduism buddhist buddhists buddhism temple",
        "no religion": "atheist atheists atheism agnostic secular",
        "Africa": "african africans nigerian nigerians kenyan kenyans ethiopian egyptian",
        "America": "american americans canadian canadians mexican mexicans brazilian brazilians "
        "latino latinos hispanic hispanics",
        "Asia": "asian asians chinese japanese indian indians korean koreans vietnamese filipino",
        "Europe": "european europeans british english german germans french italian italians "
        "spanish polish russian russians",
        "Middle East": "arab arabs arabic iranian iranians turkish turks israeli israelis",
        "young": "young child children kid kids teenager teenagers youth baby babies",
        "old": "old elderly senior seniors retired pensioner pensioners aged",
        "disability": "disabled disability disabilities blind deaf autistic autism wheelchair "
        "handicapped",
    }.items()
}
TERMS = {term: name for name, terms in GROUPS.items() for term in terms}


def counted(words: Iterable[str], groups: Counter[str], terms: Counter[str]) -> None:
    """Add one row, by its words: each group and each term counts once a row."""
    found = TERMS.keys() & words
    terms.update(found)
    groups.update({TERMS[term] for term in found})
