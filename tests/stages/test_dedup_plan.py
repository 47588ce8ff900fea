"""Several methods and benchmarks in one dedup plan, through its files."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from dedup_runs import deduped, jsonl, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.artifact import Artifact
from llmctl.data.entries import Entry, collected
from llmctl.data.verdicts import judge
from llmctl.errors import InputError, MissingError
from llmctl.schema.dedup import DedupRecipe

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "recipes" / "samples"
QUESTION = (
    "a train leaves the city at noon and drives for three hours before it stops again in the small "
    "town of Ulm"
)


METHODS = [
    {"kind": "key", "fields": ["k"], "form": "plain"},
    "exact",
    {"kind": "minhash", "threshold": 0.5, "ngram": 2},
    {"kind": "substring", "words": 5, "share": 0.6},
]
ROW = st.tuples(
    st.lists(st.sampled_from("abcdeF"), max_size=12).map(" ".join), st.sampled_from(["", "x", "y"])
)


def verdicts(rows: list[tuple[str, str]], fixed: int, artifact: Artifact) -> Any:
    recipe = DedupRecipe.model_validate(
        {"stage": "dedup", "out": "x", "data": "y", "methods": METHODS, "kernel": "numpy"}
    )
    each = (
        Entry(str(i), text, f"r:{i}", "against" if i < fixed else None, values=(key,))
        for i, (text, key) in enumerate(rows)
    )
    return judge(recipe, collected(each, ["key"], None)[0], fixed, artifact)


@given(rows=st.lists(ROW, min_size=1, max_size=20), fixed=st.integers(0, 4))
@settings(max_examples=150)
def test_every_twin_is_kept_and_a_second_run_changes_nothing(
    rows: list[tuple[str, str]], fixed: int
) -> None:
    fixed = min(fixed, len(rows))
    artifact = Artifact(Path("unused"), {})
    first = verdicts(rows, fixed, artifact)
    assert not first.gone[:fixed].any()
    for i in np.flatnonzero(first.twin >= 0).tolist():
        twin = int(first.twin[i])
        assert twin < i and first.twin[twin] < 0
        (text, key), (kept, its_key) = rows[i], rows[twin]
        measured = {
            "exact": text.lower() == kept.lower(),
            "key": key == its_key != "",
        }
        assert measured.get(first.kinds[first.kind[i]], first.score[i] >= 0.5)
    again = verdicts([r for r, gone in zip(rows, first.gone, strict=True) if not gone], fixed,
                     artifact)  # fmt: skip
    assert not again.gone.any()


def test_a_cut_rewrites_only_the_rows_it_touches(tmp_path: Path) -> None:
    passage = " ".join(f"w{i}" for i in range(60))
    lines = [
        json.dumps({"id": "a", "text": f"First.  {passage} The end."}) + "\n",
        json.dumps({"id": "b", "body": 1, "text": f"Ünlike “this”: {passage}, and so on it goes "
                    "for many more words than twenty, which is what has to be left of a row when "
                    "a passage was taken out."}) + "\n",
        '{"id":"c",   "text":"untouched"}\n',
    ]  # fmt: skip
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(lines))
    artifact = deduped(
        tmp_path / "out", data=data, methods=[{"kind": "substring", "words": 50, "action": "cut"}]
    )
    kept = (tmp_path / "out/kept.jsonl").read_text("utf-8").splitlines(keepends=True)
    assert kept[0] == lines[0] and kept[2] == lines[2]
    assert json.loads(kept[1])["text"].startswith("Ünlike “this”: and so on")
    [cut] = rows_of(tmp_path / "out/cuts.jsonl")
    original = json.loads(lines[1])["text"]
    assert original[cut["start"] : cut["end"]] == cut["text"]
    assert (cut["line"], cut["twin"]) == ("rows.jsonl:2", "a")
    assert artifact.metrics["passages_cut"] == 1
    number = jsonl(tmp_path / "numbers.jsonl", [{"body": 1}])
    with pytest.raises(InputError, match=r"numbers\.jsonl:1: passages are cut out of text"):
        deduped(tmp_path / "o", data=number, text=["body"],
                methods=[{"kind": "substring", "action": "cut"}])  # fmt: skip


def test_benchmarks_from_every_place(tmp_path: Path) -> None:
    data = jsonl(
        tmp_path / "rows.jsonl",
        [
            {"id": "r0", "text": f"Please solve this. {QUESTION.title()}? It stops at three."},
            {"id": "r1", "text": "Which command of llmctl turns documents into a searchable "
             "store? I would say ingest."},
            {"id": "r2", "text": "nothing of the kind, only a plain row about the weather"},
            {"id": "r3", "text": "a train leaves the city at noon and drives for a while, they "
             "said, so that everybody was late for the show"},
        ],
    )  # fmt: skip
    folder = tmp_path / "bench"
    jsonl(folder / "maths/test.jsonl", [{"task_id": "m1", "question": QUESTION}])
    jsonl(folder / "other.jsonl", [{"x": {"y": "an item of seven plain words only"}}])
    artifact = deduped(
        tmp_path / "out",
        data=data,
        decontaminate={
            "benchmarks": [
                {"data": folder / "maths", "name": "maths"},
                {"data": folder / "other.jsonl", "fields": ["x.y"]},
                ROOT / "recipes/eval/smoke.yaml",
            ]
        },
    )
    drops = rows_of(tmp_path / "out/dropped.jsonl")
    assert [(d["id"], d["reason"], d["twin_line"], d["benchmark"]) for d in drops] == [
        ("r0", "contaminated", "test.jsonl:1", "maths/test"),
        ("r1", "contaminated", "choice.jsonl:1", "choice"),
    ]
    [flagged] = rows_of(tmp_path / "out/flagged.jsonl")
    assert (flagged["id"], flagged["reason"], flagged["twin"]) == ("r3", "flagged", "m1")
    assert [r["id"] for r in rows_of(tmp_path / "out/kept.jsonl")] == ["r2", "r3"]
    table = {row["benchmark"]: row for row in artifact.metrics["contamination"]}
    assert table["maths/test"]["items_found"] == 1
    assert (table["maths/test"]["rows_dropped"], table["maths/test"]["rows_flagged"]) == (1, 1)
    assert table["other"]["items_found"] == 0
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "Benchmark items in the data" in page and "maths/test" in page


def test_items_of_an_lm_eval_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval")
    file = next((SAMPLES / "benchmarks/allenai/ai2_arc").rglob("easy*"))
    from llmctl import digest, rows

    question = next(iter(rows.read(file)))["question"]
    data = jsonl(tmp_path / "rows.jsonl", [{"text": f"Q: {question} A: who knows"}, {"text": "b"}])
    monkeypatch.chdir(ROOT)
    benchmark = {"task": "arc_easy", "data": "recipes/samples/benchmarks"}
    artifact = deduped(tmp_path / "out", data=data, decontaminate={"benchmarks": [benchmark]})
    [drop] = rows_of(tmp_path / "out/dropped.jsonl")
    assert (drop["twin"], drop["benchmark"]) == ("arc_easy:0", "arc_easy")
    [found] = artifact.metrics["contamination"]
    assert found["data"] == "lm-eval:arc_easy"
    assert found["sha256"] == digest.of_path(SAMPLES / "benchmarks")


def test_a_benchmark_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="say where the items are: `data` or `task`"):
        DedupRecipe.model_validate(
            {"stage": "dedup", "out": "x", "data": "y",
             "decontaminate": {"benchmarks": [{"name": "x"}]}}
        )  # fmt: skip


def test_an_item_without_a_question_is_named(tmp_path: Path) -> None:
    items = jsonl(tmp_path / "items.jsonl", [{"foo": "bar"}])
    data = jsonl(tmp_path / "rows.jsonl", [{"text": "a"}])
    with pytest.raises(InputError, match=r"items\.jsonl:1: none of question, .* \(there are: foo"):
        deduped(tmp_path / "out", data=data, decontaminate={"benchmarks": [items]})


def some_rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Rows of 40 words, every third one a near copy of an earlier row."""
    found = []
    for i in range(first, first + count):
        base = i if i % 3 else i // 2
        text = " ".join(f"w{(base * 7 + j * j) % 997}" for j in range(40))
        found.append({"id": f"r{i}", "text": text if i % 3 else f"{text} {i}"})
    return found


def test_new_rows_are_compared_with_the_index_of_earlier_runs(tmp_path: Path) -> None:
    old = jsonl(tmp_path / "old.jsonl", some_rows(200))
    more = jsonl(tmp_path / "more.jsonl", some_rows(110, 150))
    new = jsonl(tmp_path / "new.jsonl", some_rows(400, 180))
    methods = ["exact", {"kind": "minhash", "threshold": 0.6}]
    deduped(tmp_path / "one", data=old, methods=methods, index=True)
    first = tmp_path / "one"
    deduped(tmp_path / "two", data=more, methods=methods, index=True, against=[first])
    against = [first, tmp_path / "two"]
    deduped(tmp_path / "by-index", data=new, methods=methods, against=against)
    files = [folder / "kept.jsonl" for folder in against]
    deduped(tmp_path / "by-rows", data=new, methods=methods, against=files)
    for name in ("kept.jsonl", "dropped.jsonl"):
        by_index = (tmp_path / "by-index" / name).read_bytes()
        assert by_index == (tmp_path / "by-rows" / name).read_bytes()
    drops = rows_of(tmp_path / "by-index/dropped.jsonl")
    assert {d["reason"] for d in drops} == {"against", "minhash"}
    # another seed cannot use the signatures, and another text not even the index
    deduped(tmp_path / "seed", data=new, methods=methods, against=against, seed=1)
    assert len(rows_of(tmp_path / "seed/dropped.jsonl")) == len(drops)
    other = deduped(tmp_path / "text", data=new, text=["text"], methods=methods, against=against)
    assert other.metrics["dropped"] == len(drops)


def test_a_folder_of_texts_is_rows(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("one text\n", encoding="utf-8")
    (folder / "sub/b.md").write_text("ONE  text", encoding="utf-8")
    (folder / "c.txt").write_text("another text", encoding="utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    deduped(tmp_path / "out", data=folder)
    kept = rows_of(tmp_path / "out/kept.jsonl")
    assert [(row["id"], row["text"]) for row in kept] == [
        ("a.txt", "one text\n"), ("c.txt", "another text"),
    ]  # fmt: skip
    [drop] = rows_of(tmp_path / "out/dropped.jsonl")
    assert (drop["id"], drop["twin"]) == ("sub/b.md", "a.txt")
    (folder / "broken.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"broken\.txt: not UTF-8 text"):
        deduped(tmp_path / "o", data=folder)


@pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra `ray`")
def test_a_cluster_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    data = jsonl(tmp_path / "rows.jsonl", some_rows(3))
    with pytest.raises(MissingError, match=r"nothing answers at 127\.0\.0\.1:1 .*ray start"):
        deduped(tmp_path / "out", data=data, runner={"kind": "ray", "address": "127.0.0.1:1"})


@pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra `ray`")
def test_ray_gives_the_same_bytes_though_a_worker_is_killed(tmp_path: Path) -> None:
    """The stage in a process of its own on a local cluster, whose workers are shot at."""
    data = jsonl(tmp_path / "rows.jsonl", some_rows(30_000))
    keys = {"data": str(data), "methods": ["exact", {"kind": "minhash", "threshold": 0.6}]}
    deduped(tmp_path / "local", **keys)
    recipe = tmp_path / "recipe.yaml"
    out = tmp_path / "ray"
    ray = {"kind": "ray", "workers": 2}
    recipe.write_text(json.dumps({"stage": "dedup", "out": str(out), "runner": ray, **keys}))
    process = subprocess.Popen(
        [sys.executable, "-m", "llmctl", "dedup", str(recipe)], stderr=subprocess.PIPE, text=True
    )
    shot = 0
    while process.poll() is None:
        for worker in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                busy = worker.cmdline()[:1] in (["ray::MapBatches(run)"], ["ray::Map(run)"])
                if shot < 2 and (busy or "MapBatches" in " ".join(worker.cmdline())):
                    worker.kill()
                    shot += 1
        time.sleep(0.02)
    assert process.returncode == 0, process.stderr and process.stderr.read()
    assert shot
    for name in ("kept.jsonl", "dropped.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
