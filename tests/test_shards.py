"""Data sets in many files: read as one, in order, whole, and without the rows of other splits."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from conftest import ROOT, Run

from llmctl import shards
from llmctl.errors import InputError


def folder(at: Path, *names: str) -> Path:
    """Files of one row each, which tells the file's name."""
    at.mkdir(parents=True, exist_ok=True)
    for name in names:
        line = json.dumps({"text": name}) + "\n"
        if name.endswith(".gz"):
            (at / name).write_bytes(gzip.compress(line.encode()))
        else:
            (at / name).write_text(line, encoding="utf-8")
    return at


def three(split: str, suffix: str = "jsonl") -> list[str]:
    return [f"{split}-0000{n}-of-00003.{suffix}" for n in range(3)]


@pytest.mark.parametrize("place", ["", "data"])
@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "json.gz"])
def test_a_split_is_all_its_shards_and_no_others(tmp_path: Path, place: str, suffix: str) -> None:
    names = [name for split in shards.SPLITS for name in three(split, suffix)]
    folder(tmp_path / place, *names, "train-metadata.json")
    for split in shards.SPLITS:
        assert [each.name for each in shards.find(tmp_path, split)] == three(split, suffix)


@pytest.mark.parametrize(
    "names",
    [
        # the Hub's own names until 2023 had a part of a digest
        ["train-00000-of-00002-a1b2.parquet", "train-00001-of-00002-0f.parquet"],
        # from 1 on, and without leading zeros: 10 comes after 2
        [f"train-{n}-of-10.jsonl" for n in range(1, 11)],
        [f"train.0000{n}-of-00002.jsonl.gz" for n in range(2)],
    ],
)
def test_other_names_of_shards(tmp_path: Path, names: list[str]) -> None:
    folder(tmp_path, *reversed(names))
    assert [each.name for each in shards.find(tmp_path)] == names


def test_a_pattern_is_all_files_that_match_in_their_order(tmp_path: Path) -> None:
    folder(tmp_path, "b.jsonl", "a.jsonl", "c.txt")
    folder(tmp_path / "deep", "d.jsonl")
    names = [each.name for each in shards.find(tmp_path / "*.jsonl")]
    assert names == ["a.jsonl", "b.jsonl"]
    assert len(shards.find(tmp_path / "**" / "*.jsonl")) == 3
    assert shards.digest_of(shards.find(tmp_path / "*.jsonl")) != shards.digest_of(
        shards.find(tmp_path / "**" / "*.jsonl")
    )


@pytest.mark.parametrize(
    ("names", "ref", "said"),
    [
        (three("train")[::2], "", "train-00001-of-00003.jsonl is missing, 2 of 3 shards are there"),
        (three("train")[1:2], "", "train-00002-of-00003.jsonl and 1 more are missing, 1 of 3"),
        # from 0 without the first, or from 1 without the last: nothing tells which
        (
            three("train")[1:],
            "train-*",
            "train-00000-of-00003.jsonl or train-00003-of-00003.jsonl is missing, 2 of 3",
        ),
        (["train-1-of-3.csv", "train-3-of-3.csv"], "", "train-2-of-3.csv is missing, 2 of 3"),
        ([*three("train"), "train-00000-of-00001.jsonl"], "", "are of two sets"),
        ([*three("train"), *three("train", "parquet")], "", "are of two sets"),
        ([*three("train"), "train-00002-of-00003-abc.jsonl"], "", "are there twice"),
        ([*three("train"), "train.jsonl"], "", "has train.jsonl and shards such as train-00000"),
        ([*three("train"), *three("test")], "*.jsonl", r"several splits \(test, train\)"),
        (["my-train.jsonl", "my-validation.jsonl"], "my-*", r"several splits \(train, validation"),
        (three("test"), "", "has no train split"),
        (three("test"), "train-*", "train-\\*: matches no file"),
    ],
)
def test_what_is_no_whole_set_is_refused(
    tmp_path: Path, names: list[str], ref: str, said: str
) -> None:
    folder(tmp_path, *names)
    with pytest.raises(InputError, match=said) as error:
        shards.find(tmp_path / ref)
    assert "\n" not in str(error.value)


def test_a_part_that_is_asked_for_is_named(tmp_path: Path) -> None:
    folder(tmp_path, *three("train"))
    for ref, told in (
        ("train-0000[02]-of-*", "2 of 3 shards are read, as was asked"),
        ("train-00001-of-00003.jsonl", "1 of 3 shards are read, as was asked"),
        ("train-*", ""),
        ("", ""),
    ):
        assert shards.part(shards.find(tmp_path / ref)) == told


def test_the_lineage_of_a_pattern_is_that_of_its_files(llmctl: Run, tmp_path: Path) -> None:
    folder(tmp_path / "rows", "a.jsonl", "b.jsonl")
    recipe = ROOT / "recipes" / "dedup" / "smoke.yaml"
    made = ["dedup", recipe, "--set", "data=rows/*.jsonl", "--out", "out", "-q"]
    assert llmctl(*made, cwd=tmp_path).returncode == 0
    assert llmctl("lineage", "verify", "out", cwd=tmp_path).returncode == 0
    assert "up to date" in llmctl(*made[:-1], cwd=tmp_path).stderr
    folder(tmp_path / "rows", "c.jsonl")
    for gone, said in ((False, "changed"), (True, "missing")):
        for each in (tmp_path / "rows").iterdir() if gone else ():
            each.unlink()
        done = llmctl("lineage", "verify", "out", cwd=tmp_path)
        assert done.returncode == 1 and f"rows/*.jsonl is {said}" in done.stderr, done.stderr


def test_a_pattern_of_texts_is_read_as_texts_and_never_with_rows(tmp_path: Path) -> None:
    from llmctl.evaluation.tasks.perplexity import PerplexityTask
    from llmctl.stages import quantize

    folder(tmp_path, "rows.jsonl")
    for name in ("b.md", "a.md"):
        (tmp_path / name).write_text(f"This is {name}.")
    task = PerplexityTask.model_validate({"data": tmp_path / "*.md"})
    items = task.items(tmp_path, None, 0)
    said = ["This is a.md.", "This is b.md."]
    assert [each.data["text"] for each in items] == said
    assert list(quantize.texts_of(tmp_path / "*.md")) == said
    with pytest.raises(InputError, match=r"matches rows \(rows.jsonl\) and texts"):
        shards.texts(tmp_path / "*")


def test_a_part_is_named_by_what_measures_and_explores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from llmctl import explore
    from llmctl.stages import quantize

    folder(tmp_path, *three("test"))
    part = tmp_path / "test-0000[02]-of-*"
    assert len(list(quantize.texts_of(part))) == 2
    assert "2 of 3 shards are read, as was asked" in capsys.readouterr().err
    page = tmp_path / "x.html"
    asked = {"tokenizer": None, "embedder": None, "sample": 9, "seed": 1, "as_json": False}
    explore.show(part, page, **asked)  # type: ignore[arg-type]
    assert "2 of 3 shards are read, as was asked" in capsys.readouterr().err
