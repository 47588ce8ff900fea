"""Rewards: each file of the room keeps its promise, and its numbers are those it describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import llmctl.rewards
from llmctl.errors import InputError
from llmctl.judges.base import Answered
from llmctl.plugins import kinds
from llmctl.rewards.base import Reward

MODULE = """
def vowels(answer, row):
    return sum(letter in "aeiou" for letter in answer) + row.get("extra", 0)

def unknown(answer, row):
    return None

def wrong(answer, row):
    return "much"

def several(answer, row):
    import numpy
    return numpy.ones(2)

class Scorer:
    def __init__(self):
        self.each = 2

    def own(self, answer, row):
        return self.each * len(answer)

    @staticmethod
    def plain(answer, row):
        import numpy
        return numpy.float32(len(answer))

    @classmethod
    def whole(cls, answer, row):
        import numpy
        return numpy.int64(len(answer))

    class Inner:
        @staticmethod
        def tensor(answer, row):
            import torch
            return torch.tensor(len(answer) / 2)
"""
OPTIONS: dict[str, dict[str, Any]] = {
    "judge": {"judge": {"kind": "match"}},
    "python": {"function": "my_rewards:vowels"},
    "regex": {"pattern": "Source:"},
}


def answers(*texts: str, **row: Any) -> list[Answered]:
    asked = [{"role": "user", "content": "why?"}]
    return [Answered("x", asked, text, reference="because", row=row) for text in texts]


def rated(kind: str, items: list[Answered], folder: Path, **options: Any) -> list[float | None]:
    reward = Reward.of({"kind": kind, **OPTIONS.get(kind, {}), **options})
    with reward.open(folder / "cache.sqlite") as rate:
        return rate(items)


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rewards.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("kind", kinds(llmctl.rewards))
def test_every_reward_gives_a_number_for_each_answer(kind: str, tmp_path: Path) -> None:
    items = answers("because", "no Source: x", "")
    found = rated(kind, items, tmp_path)
    assert len(found) == 3 and all(v is None or isinstance(v, float) for v in found)
    assert found == rated(kind, items, tmp_path)  # the same answers are worth the same
    assert rated(kind, [], tmp_path) == []


def test_the_numbers(tmp_path: Path) -> None:
    assert rated("judge", answers("Because!", "no"), tmp_path) == [1.0, 0.0]
    assert rated("regex", answers("see\nSource: a", "none"), tmp_path) == [1.0, 0.0]
    assert rated("regex", answers("ab", "abc"), tmp_path, pattern="ab", whole=True) == [1.0, 0.0]
    length = rated("length", answers("a", "a b c", "a b c d e f", "w " * 50), tmp_path,
                   least=2, most=4)  # fmt: skip
    assert length == [-0.5, 0.0, -0.5, -1.0]
    assert rated("python", answers("aei", extra=2), tmp_path) == [5.0]
    assert rated("python", answers("a"), tmp_path, function="my_rewards:unknown") == [None]


def test_numbers_of_numpy_and_torch_and_methods_of_classes_count(tmp_path: Path) -> None:
    wanted = {"plain": 3.0, "whole": 3.0, "own": 6.0}
    for name, value in wanted.items():
        assert rated("python", answers("abc"), tmp_path, function=f"my_rewards:Scorer.{name}") == [
            value
        ]
    pytest.importorskip("torch")
    inner = "my_rewards:Scorer.Inner.tensor"
    assert rated("python", answers("abc"), tmp_path, function=inner) == [1.5]


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("my_rewards:absent", "has no attribute 'absent'"),
        ("no_such_module:f", "No module named"),
        ("my_rewards:wrong", "gave 'much', no number or None"),
        ("my_rewards:several", r"gave array\(\[1\., 1\.\]\), no number or None"),
        ("my_rewards:Scorer.absent", "has no attribute 'absent'"),
        ("math:pi", "math:pi is no function"),
        ("math:sqrt", r"math:sqrt raised TypeError: .* called as function\(answer, row\)"),
    ],
)
def test_a_wrong_function_is_one_line(function: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        rated("python", answers("a"), tmp_path, function=function)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kind": "regex", "pattern": "("}, "is no regular expression"),
        ({"kind": "length", "least": 9, "most": 3}, "least 9 is more than most 3"),
        ({"kind": "python", "function": "no colon"}, "pattern"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Reward.of(options)
