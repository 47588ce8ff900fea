"""The phrases that rows share, beside a plain count."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np

from llmctl.data import boilerplate
from llmctl.data.kernels import NUMPY

WORDS = boilerplate.WORDS


def test_phrases_are_those_that_a_plain_count_finds() -> None:
    random = Random(5)
    footers = [" ".join(f"f{k}w{i}" for i in range(WORDS + k)) for k in range(4)]
    rows = []
    for n in range(300):
        words = [f"w{random.randrange(5000)}" for _ in range(random.randrange(3, 60))]
        words += footers[k].split() if (k := random.randrange(8)) < 4 else []
        words += words[:WORDS] * (n % 3)  # what a row says twice counts once
        rows.append(" ".join(words))
    plain = Counter[str]()
    for row in rows:
        words = row.split()
        runs = range(len(words) - WORDS + 1)
        plain.update({" ".join(words[i : i + WORDS]) for i in runs})
    found = boilerplate.phrases(rows, np.arange(len(rows)), NUMPY)
    assert sorted(text for _, text, _ in found) == sorted(footers)
    for count, text, row in found:
        assert count == plain[" ".join(text.split()[:WORDS])]
        assert text in rows[row]
