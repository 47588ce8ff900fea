"""The dedup stage through its files: bytes, twins, held-out rows, keep rules, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dedup_runs import deduped, jsonl, rows_of

from llmctl.errors import InputError
from llmctl.schema.dedup import DedupRecipe

LONG = "the quick brown fox jumps over the lazy dog while nine grey birds watch from a high wall"


def test_kept_lines_are_copied_byte_for_byte(tmp_path: Path) -> None:
    lines = [
        b'{"id": "a",  "text":"caf\\u00e9 one"}\r\n',
        b"\n",
        b'{"id":"b","text":"CAF\xc3\x89 one"}\n',
        b'{"text":"two", "id":"c"}',
    ]
    data = tmp_path / "rows.jsonl"
    data.write_bytes(b"".join(lines))
    artifact = deduped(tmp_path / "out", data=data)
    assert (tmp_path / "out/kept.jsonl").read_bytes() == lines[0] + lines[3] + b"\n"
    drop = rows_of(tmp_path / "out/dropped.jsonl")
    assert [(d["id"], d["reason"], d["twin"], d["score"]) for d in drop] == [
        ("b", "exact", "a", 1.0)
    ]
    assert artifact.metrics["rows"] == 3
    assert artifact.dropped == {"exact": 1}
    assert "<html" in (tmp_path / "out/report.html").read_text("utf-8")


def test_a_field_that_no_row_has_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = jsonl(tmp_path / "rows.jsonl", [{"text": "a", "url": "x"}, {"text": "b", "url": "x"}])
    for field, kept, told in (("url", 1, 0), ("uri", 2, 1)):
        found = deduped(tmp_path / field, data=data, methods=[{"kind": "key", "fields": [field]}])
        assert found.metrics["kept"] == kept
        assert capsys.readouterr().err.count("no row has the fields that `key` compares") == told


@pytest.mark.parametrize("kernel", ["numpy", "numba"])
def test_a_text_that_is_null_is_empty_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kernel: str
) -> None:
    """It was compared as the word null, so a row that says it left with the score 1."""
    if kernel == "numba":
        pytest.importorskip("numba")
    texts = [None, "null", None, "", "5", 5]
    data = jsonl(tmp_path / "rows.jsonl", [{"id": str(i), "text": t} for i, t in enumerate(texts)])
    found = deduped(tmp_path / "out", data=data, kernel=kernel)
    drop = rows_of(tmp_path / "out/dropped.jsonl")
    assert [(d["id"], d["reason"], d["twin"]) for d in drop] == [
        ("2", "exact", "0"), ("3", "exact", "0"), ("5", "exact", "4")
    ]  # fmt: skip
    assert found.metrics["without_text"] == 3
    assert "rows without text: 3;" in capsys.readouterr().err
    alone = deduped(tmp_path / "alone", data=data, kernel=kernel, methods=["minhash"])
    assert alone.metrics["kept"] == 5 and alone.metrics["without_text"] == 3


def test_train_rows_of_the_held_out_splits_leave_as_leaks(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    jsonl(
        folder / "train.jsonl",
        [
            {"id": "t1", "text": LONG},
            {"id": "t2", "text": LONG + " again"},
            {"id": "t3", "text": "x"},
        ],
    )
    jsonl(folder / "validation.jsonl", [{"id": "v1", "text": LONG}, {"id": "v2", "text": LONG}])
    jsonl(folder / "test.jsonl", [{"id": "e1", "text": "unrelated"}])
    artifact = deduped(tmp_path / "out", data=folder)
    assert [r["id"] for r in rows_of(tmp_path / "out/kept.jsonl")] == ["t3"]
    assert artifact.dropped == {"leak": 2}
    for name in ("validation.jsonl", "test.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    again = deduped(tmp_path / "again", data=tmp_path / "out")
    assert again.metrics["dropped"] == 0
    assert (tmp_path / "again/kept.jsonl").read_bytes() == (
        tmp_path / "out/kept.jsonl"
    ).read_bytes()
    without = deduped(tmp_path / "without", data=folder, leaks=False)
    assert without.dropped == {"minhash": 1}


def test_shards_give_the_bytes_of_one_file_and_their_splits_are_held_out(tmp_path: Path) -> None:
    """A folder as the Hub has it, with a card; what is dropped names the shard and its line."""
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "set" / "README.md").write_text("---\nlicense: mit\n---\n")
    rows = [{"id": str(i), "text": f"The pump of hall {i // 2} is cleaned."} for i in range(6)]
    for n in range(3):
        jsonl(folder / f"train-0000{n}-of-00003.jsonl", rows[2 * n : 2 * n + 2])
    jsonl(folder / "test-00000-of-00001.jsonl", [{"id": "t", "text": rows[0]["text"]}])
    artifact = deduped(tmp_path / "out", data=tmp_path / "set", methods=["exact"])
    assert [row["id"] for row in rows_of(tmp_path / "out/kept.jsonl")] == ["2", "4"]
    dropped = {row["line"]: row["reason"] for row in rows_of(tmp_path / "out/dropped.jsonl")}
    assert dropped["train-00000-of-00003.jsonl:1"] == "leak"
    assert dropped["train-00001-of-00003.jsonl:2"] == "exact"
    assert artifact.path("test-00000-of-00001.jsonl").is_file()
    again = deduped(tmp_path / "again", data=artifact.folder, methods=["exact"])
    assert again.metrics["kept"] == 2 and again.metrics["held_out_rows"] == 1
    whole = jsonl(tmp_path / "whole.jsonl", rows)
    for name, data in (("a", whole), ("b", tmp_path / "set" / "**" / "train-*")):
        deduped(tmp_path / name, data=data, methods=["exact"])
    kept = [(tmp_path / name / "kept.jsonl").read_bytes() for name in "ab"]
    assert kept[0] == kept[1] != b""


def test_the_held_out_splits_of_several_folders_are_all_handed_on(tmp_path: Path) -> None:
    for name in "ab":
        jsonl(tmp_path / name / "train.jsonl", [{"id": name, "text": f"row of {name}"}])
        jsonl(tmp_path / name / "test.jsonl", [{"id": name, "text": f"held out of {name}"}])
    deduped(tmp_path / "out", data=[tmp_path / "a", tmp_path / "b"])
    assert [row["id"] for row in rows_of(tmp_path / "out/test.jsonl")] == ["a", "b"]


def test_against_drops_what_occurs_in_other_files(tmp_path: Path) -> None:
    data = jsonl(tmp_path / "new.jsonl", [{"text": LONG}, {"text": "fresh"}])
    old = jsonl(tmp_path / "old.jsonl", [{"text": LONG + " indeed"}, {"text": LONG}])
    artifact = deduped(tmp_path / "out", data=data, against=[old])
    assert artifact.dropped == {"against": 1}
    assert rows_of(tmp_path / "out/dropped.jsonl")[0]["id"].endswith("new.jsonl:1")


@pytest.mark.parametrize(
    ("keep", "stays"),
    [
        ({"by": "first"}, "a"),
        ({"by": "longest"}, "b"),
        ({"by": "shortest"}, "a"),
        ({"by": "highest", "field": "meta.score"}, "c"),
        ({"by": "lowest", "field": "meta.score"}, "b"),
        ({"by": "newest", "field": "meta.date"}, "b"),
        ({"by": "longest", "prefer": ["best/*"]}, "c"),
    ],
)
def test_the_keep_rule_decides_who_stays(tmp_path: Path, keep: dict[str, Any], stays: str) -> None:
    rows = [
        {"id": "a", "text": LONG, "meta": {"score": 2, "date": "2024-05-01"}},
        {"id": "b", "text": LONG + " indeed", "meta": {"score": 1, "date": "2026-05-01T10:00:00Z"}},
        {
            "id": "c",
            "text": LONG.upper(),
            "meta": {"score": 3.5, "date": "2025-05-01"},
            "source": {"uri": "best/one.md"},
        },
    ]
    data = jsonl(tmp_path / "rows.jsonl", rows)
    deduped(tmp_path / "out", data=data, keep=keep)
    assert [r["id"] for r in rows_of(tmp_path / "out/kept.jsonl")] == [stays]
    assert {d["twin"] for d in rows_of(tmp_path / "out/dropped.jsonl")} == {stays}


def test_parts_of_a_row_are_held_apart(tmp_path: Path) -> None:
    def messages(one: str, two: str) -> dict[str, Any]:
        roles = (("user", one), ("assistant", two))
        return {"messages": [{"role": role, "content": text} for role, text in roles]}

    data = jsonl(tmp_path / "rows.jsonl", [messages("a b", "c"), messages("a", "b c")])
    assert deduped(tmp_path / "out", data=data, methods=["exact"]).metrics["kept"] == 2


def test_sweep_counts_grow_as_the_threshold_falls(tmp_path: Path) -> None:
    rows = [{"text": " ".join([*LONG.split()[i:], *"abcdefgh"[:i]])} for i in range(8)]
    data = jsonl(tmp_path / "rows.jsonl", rows)
    method = {"kind": "minhash", "threshold": 0.6, "ngram": 2, "sweep": [0.3, 0.9]}
    artifact = deduped(tmp_path / "out", data=data, methods=[method])
    counts = list(artifact.metrics["minhash_sweep"].values())
    assert counts == sorted(counts, reverse=True)
    assert artifact.metrics["minhash_sweep"]["0.6"] == artifact.metrics["dropped"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n{"text": \n', "rows.jsonl:2: not valid JSON"),
        (b'{"text": "\xff"}\n', "rows.jsonl:1: not UTF-8"),
        (b"[1]\n", "rows.jsonl:1: is a list"),
        (b'{"id": 1}\n', "rows.jsonl:1: a row of no known format"),
        (b"", "has no rows"),
    ],
)
def test_bad_rows_are_named_by_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_bytes(content)
    with pytest.raises(InputError, match=message):
        deduped(tmp_path / "out", data=data)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"methods": ["exact", "exact"]}, "each kind may be there once"),
        ({"methods": ["exact", {"kind": "minhash", "ignore_case": False}]}, "set both alike"),
        ({"methods": [{"kind": "minhash", "bands": 64, "rows": 5}]}, "do not fit 128"),
        ({"keep": {"by": "newest"}}, "`field` goes with"),
    ],
)
def test_contradictions_are_refused_at_the_recipe(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DedupRecipe.model_validate({"stage": "dedup", "out": "o", "data": "d.jsonl", **keys})


def test_a_run_from_files_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmctl.stages import dedup

    words = [f"w{n}" for n in range(40)]
    rows = [
        {"id": f"r{n}", "text": " ".join(words[(n * k) % 40] for k in range(1, 40 - n % 3))}
        for n in range(200)
    ]
    rows += [{**row, "id": f"{row['id']}b", "text": row["text"].upper()} for row in rows[::7]]
    rows += [{"id": "e", "text": ""}, {"id": "f", "text": "\ud800 lone"}, {"id": "g", "text": "é"}]
    data = jsonl(tmp_path / "rows.jsonl", rows)
    other = jsonl(tmp_path / "other.jsonl", rows[5:9])
    keys = {"data": data, "against": [other], "keep": {"by": "longest"}}
    deduped(tmp_path / "a", **keys)
    monkeypatch.setattr(dedup, "PER_BYTE", 10**9)
    monkeypatch.setattr("llmctl.data.dedupers.minhash.BULK", 2000)
    artifact = deduped(tmp_path / "b", **keys)
    assert (artifact.scratch / "spill" / "signatures").is_file()
    for name in ("kept.jsonl", "dropped.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert len(rows_of(tmp_path / "b/dropped.jsonl")) > 30


def test_rows_of_other_tools_are_compared_by_what_they_say(tmp_path: Path) -> None:
    shared = [{"from": "human", "value": LONG}, {"from": "gpt", "value": "Yes."}]
    rows = [{"id": str(n), "conversations": shared} for n in range(2)]
    data = tmp_path / "rows.json"
    data.write_text(json.dumps([*rows, {"id": "2", "conversations": shared[:1]}]))
    artifact = deduped(tmp_path / "out", data=data, methods=["exact"])
    assert artifact.dropped == {"exact": 1}
    assert rows_of(tmp_path / "out/kept.jsonl")[0] == rows[0]


def test_sweep_of_the_command_line_is_asked_of_minhash(tmp_path: Path) -> None:
    def recipe(**keys: Any) -> Any:
        return DedupRecipe.model_validate({"stage": "dedup", "out": "o", "data": "d", **keys})

    methods: Any = recipe(sweep=[0.6, 0.9], methods=["exact", {"kind": "minhash", "ngram": 2}])
    assert [getattr(each, "sweep", None) for each in methods.methods] == [None, (0.6, 0.9)]
    assert methods.methods[1].ngram == 2
    with pytest.raises(ValueError, match="sweep: only minhash has a threshold"):
        recipe(sweep=[0.6], methods=["exact"])
    with pytest.raises(ValueError, match="sweep"):
        recipe(sweep=[1.5])


def test_the_report_shows_clusters_and_shared_phrases(tmp_path: Path) -> None:
    footer = "please read the terms of use on our web page before you write"
    rows = [{"id": f"r{n}", "text": f"{LONG[n:]} {n} {n * 7} {footer}."} for n in range(40)]
    rows += [{"id": "copy", "text": rows[0]["text"].upper()}]
    data = jsonl(tmp_path / "rows.jsonl", rows)
    deduped(tmp_path / "out", data=data, methods=["exact"])
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "Clusters of twins" in page
    assert "Phrases that kept rows share" in page and footer in page


def made(tmp_path: Path, name: str, **keys: Any) -> tuple[bytes, bytes]:
    deduped(tmp_path / name, **keys)
    kept, dropped = (tmp_path / name / f"{each}.jsonl" for each in ("kept", "dropped"))
    return kept.read_bytes(), dropped.read_bytes()


def test_the_same_bytes_with_every_kernel_and_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")
    from llmctl.data import blocks

    monkeypatch.setattr(blocks, "SIZE", 4096)
    rows: list[dict[str, Any]] = [
        {"id": n, "text": " ".join(f"wörd{(n // 3 * k) % 50}" for k in range(40 + n % 3))}
        for n in range(300)
    ]
    rows += [{"messages": [{"role": "user", "content": LONG + "é" * (n % 2)}]} for n in range(4)]
    rows += [{"prompt": LONG, "chosen": "a", "rejected": "\ud800"}, {"text": {"no": "string"}}]
    data = jsonl(tmp_path / "rows.jsonl", rows)
    (tmp_path / "rows.jsonl").write_bytes(b"\n \n" + data.read_bytes().replace(b"\n", b"\r\n"))
    keys = {"data": data, "against": [jsonl(tmp_path / "old.jsonl", rows[::50])]}
    first = made(tmp_path, "numpy", kernel="numpy", threads=1, **keys)
    assert first == made(tmp_path, "numba", kernel="numba", threads=1, **keys)
    assert first == made(tmp_path, "threads", kernel="numba", threads=3, **keys)
    assert len(first[1].splitlines()) > 100


@pytest.mark.parametrize(
    "where",
    [
        "llmctl.data.verdicts.settle", "llmctl.data.twins.greedy", "llmctl.stages.dedup.copy_kept",
        "llmctl.stages.dedup.measure", "llmctl.data.dedup_report.write",
    ],
)  # fmt: skip
def test_a_run_that_ended_midway_is_made_whole_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from llmctl.runner import Options
    from llmctl.runner import run as run_recipe

    rows = [{"text": " ".join(f"w{n // 2 * k % 30}" for k in range(30 + n % 2))} for n in range(40)]
    data = jsonl(tmp_path / "rows.jsonl", rows)
    recipe = tmp_path / "recipe.yaml"

    def started(out: str) -> Path:
        recipe.write_text(json.dumps({"stage": "dedup", "data": str(data), "out": out}))
        run_recipe("dedup", recipe, Options())
        return Path(out)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    whole, out = started(str(tmp_path / "whole")), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(where, killed)
        with pytest.raises(KeyboardInterrupt):
            started(str(out))
    assert not out.exists()
    started(str(out))
    for name in ("kept.jsonl", "dropped.jsonl", "report.html"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
