"""Which rows are taken: mixtures, parts of long rows, turns that are learnt, tokens on disk."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
from tiny_tokenizer import tiny_tokenizer

from llmctl import rows
from llmctl.artifact import Artifact
from llmctl.errors import InputError
from llmctl.schema.parts import TrainData
from llmctl.training import data, sources
from llmctl.training.store import Stored

TOKENIZER = tiny_tokenizer()


def texts(path: Path, name: str, count: int) -> Path:
    path.write_text("".join(json.dumps({"text": f"{name} {i}"}) + "\n" for i in range(count)))
    return path


def talk(*turns: str, system: str = "", **first_answer: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages: list[dict[str, Any]] = [
        {"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)
    ]
    messages[1] |= first_answer
    head = [{"role": "system", "content": system}] if system else []
    return {"id": "t", "messages": head + messages}


def learnt(row: data.Tokens) -> str:
    return "".join(piece for piece, on in zip(row.pieces, row.trained, strict=True) if on)


def test_a_mixture_has_the_shares_and_passes_that_it_says(tmp_path: Path) -> None:
    """30 rows, 2.5 passes of 20, and a fifth of everything: 80 / 0.8 = 100 rows."""
    given = {
        "train": texts(tmp_path / "a.jsonl", "a", 30),
        "mix": [
            {"path": texts(tmp_path / "b.jsonl", "b", 20), "epochs": 2.5},
            {"path": texts(tmp_path / "c.jsonl", "c", 8), "share": 0.2},
        ],
        "hold_out": 0,
    }
    artifact = Artifact(tmp_path)
    train, held = sources.streams(TrainData.model_validate(given), 1, artifact)
    names = [row["text"] for _, row in train]
    assert held == [] and len(train) == len(names) == 100
    assert Counter(name[0] for name in names) == {"a": 30, "b": 50, "c": 20}
    assert set(Counter(n for n in names if n[0] == "b").values()) == {2, 3}
    assert set(Counter(n for n in names if n[0] == "c").values()) == {2, 3}
    assert [each["taken"] for each in artifact.extra["mixture"]] == [50, 20]
    assert names == [row["text"] for _, row in train]  # again the same


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        ([{"path": "b", "share": 0.2, "epochs": 2}], "drop one"),
        ([{"path": "b", "share": 0.6}, {"path": "c", "share": 0.4}], "`train` needs a share too"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(mix: list[Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TrainData.model_validate({"train": "a", "mix": mix})


def test_parquet_is_read_like_jsonl(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    lines = texts(tmp_path / "a.jsonl", "a", 50)
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=7)
    found = []
    for path in (lines, tmp_path / "a.parquet"):
        train, held = sources.streams(TrainData(train=path), 3, Artifact(tmp_path))
        found.append(([row for _, row in train], [row for _, row in held]))
    assert found[0] == found[1] and len(found[0][1]) == 10


@pytest.mark.parametrize("damaged", [slice(20, 60), slice(-60, -8)])
def test_parquet_that_was_damaged_is_one_line(tmp_path: Path, damaged: slice) -> None:
    """In a page of values, and in the footer, which tells how many rows there are."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    file = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([{"text": f"a {i}"} for i in range(500)]), file)
    content = bytearray(file.read_bytes())
    content[damaged] = b"\xff" * len(content[damaged])
    file.write_bytes(content)
    readers = [lambda: list(rows.read(file))] + [lambda: rows.count(file)] * (damaged.start < 0)
    for read in readers:
        with pytest.raises(InputError, match=r"a.parquet: not a whole Parquet file: \w") as error:
            read()
        assert "\n" not in str(error.value)


def test_shards_are_read_as_one_file_and_the_test_split_is_held_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three shards of conversations in another tool's format, as the Hub lays them out."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [{"instruction": f"q{i}", "output": f"a{i}"} for i in range(12)]
    whole, folder = tmp_path / "whole.parquet", tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows[:9]), whole)
    for n in range(3):
        part = pa.Table.from_pylist(rows[3 * n : 3 * n + 3])
        pq.write_table(part, folder / f"train-0000{n}-of-00003.parquet")
    for name in ("test", "validation"):
        file = folder / f"{name}-00000-of-00001.parquet"
        pq.write_table(pa.Table.from_pylist(rows[9:]), file)
    artifact = Artifact(tmp_path)
    single = TrainData(train=whole, validation=folder / "test-00000-of-00001.parquet")
    wanted = [[row for _, row in each] for each in sources.streams(single, 1, Artifact(tmp_path))]
    train, held = sources.streams(TrainData(train=tmp_path / "set"), 1, artifact)
    assert [[row for _, row in train], [row for _, row in held]] == wanted
    assert [where.rpartition("/")[2] for where, _ in train][2:4] == [
        "train-00000-of-00003.parquet:3",
        "train-00001-of-00003.parquet:1",
    ]
    [kept] = [name for name in artifact.extra["formats"] if "train" in name]
    assert kept.endswith("train-00000-of-00003.parquet and 2 more")
    assert "are read, as was asked" not in capsys.readouterr().err
    pattern = TrainData(train=folder / "train-0000[01]*", hold_out=0)
    rows_read, _ = sources.streams(pattern, 1, Artifact(tmp_path))
    assert len(rows_read) == 6
    assert "2 of 3 shards are read, as was asked" in capsys.readouterr().err


def test_shards_are_of_one_format(tmp_path: Path) -> None:
    for n, keys in enumerate((("instruction", "output"), ("prompt", "completion"))):
        line = json.dumps(dict.fromkeys(keys, "x")) + "\n"
        (tmp_path / f"train-{n}-of-2.jsonl").write_text(line)
    with pytest.raises(InputError, match=r"train-1-of-2.jsonl:1: is prompt_completion, the rows"):
        sources.streams(TrainData(train=tmp_path), 1, Artifact(tmp_path))


def test_tokens_on_disk_are_the_tokens(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    rows = [
        data.tokens_of(TOKENIZER, {"text": f"row {i}" * (i % 5 + 1)}, "here", "all")
        for i in range(2500)  # more than two batches
    ]
    stored = Stored(tmp_path / "tokens.arrow", iter(rows))
    found = stored.dataset()
    assert len(stored) == len(found) == 2500 and stored.first == rows[:3]
    assert found["input_ids"][:] == [row.ids for row in rows]
    assert found["labels"][:] == [row.labels for row in rows]
    assert stored.tokens == sum(len(row.ids) for row in rows)


@pytest.mark.parametrize("key", [{"train": False}, {"weight": 0}])
def test_the_last_answer_alone_and_answers_that_are_not_to_be_learnt(key: dict[str, Any]) -> None:
    row = talk("a", "one", "b", "two")
    assert learnt(data.tokens_of(TOKENIZER, row, "f", "assistant")) == "one<|im_end|>two<|im_end|>"
    assert learnt(data.tokens_of(TOKENIZER, row, "f", "last")) == "two<|im_end|>"
    skipped = talk("a", "one", "b", "two", **key)
    assert learnt(data.tokens_of(TOKENIZER, skipped, "f", "assistant")) == "two<|im_end|>"
    everything = data.tokens_of(TOKENIZER, skipped, "f", "all")
    assert learnt(everything) == "".join(everything.pieces).replace("one<|im_end|>", "")


def test_a_long_conversation_is_split_between_exchanges() -> None:
    row = talk("a" * 9, "one", "b" * 9, "two", "c" * 9, "three", system="short")
    whole = data.tokens_of(TOKENIZER, row, "f", "assistant")
    most = len(whole.ids) - 1
    parts = data.split_up(TOKENIZER, row, "f", "assistant", most)
    assert [part.id for part in parts] == ["t#0", "t#1"]
    assert all(len(part.ids) <= most for part in parts)
    assert all("".join(part.pieces).startswith("<|im_start|>system\nshort") for part in parts)
    assert "".join(map(learnt, parts)) == learnt(whole)


def test_a_long_text_is_split_and_loses_no_token() -> None:
    row = {"text": "x" * 100}
    parts = data.split_up(TOKENIZER, row, "f", "all", 16)
    whole = data.tokens_of(TOKENIZER, row, "f", "all")
    assert [token for part in parts for token in part.ids] == whole.ids
    assert max(len(part.ids) for part in parts) == 16


def test_a_tokenizer_that_begins_texts_begins_raw_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer()
    bos = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos[0]} $A", special_tokens=[bos]
    )
    row = data.tokens_of(tokenizer, {"text": "ab"}, "here", "all")
    assert row.ids == [*tokenizer("ab").input_ids, tokenizer.eos_token_id]


def test_a_pair_is_not_split() -> None:
    from llmctl.schema.dpo import DpoRecipe

    given = {"stage": "dpo", "out": "o", "model": "m", "data": {"train": "r"}, "too_long": "split"}
    with pytest.raises(ValueError, match="would part an answer from its rival"):
        DpoRecipe.model_validate(given)


def test_keys_that_contradict_each_other_are_one_line(tmp_path: Path) -> None:
    from llmctl.errors import RecipeError
    from llmctl.schema.base import load

    file = tmp_path / "r.yaml"
    file.write_text("stage: sft\nout: o\nmodel: m\ndata: {train: t}\npadding_free: true\n")
    with pytest.raises(RecipeError, match=r"r.yaml:5:1: padding_free: packs have no padding"):
        load("sft", file)
