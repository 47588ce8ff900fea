"""The card, exports that are read again, and uploads to a process that answers as the Hub does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Run

from llmctl import rows
from llmctl.artifact import read_manifest
from llmctl.data import export, reading
from llmctl.data.formats.base import Format
from llmctl.errors import InputError
from llmctl.runner import Options, run

SPLITS = ("train", "validation", "test")
HUB = Path(__file__).with_name("fake_hub.py")


def recipe(tmp_path: Path, **keys: Any) -> Path:
    """Twelve pairs, the better answers longer, from a file in TRL's form."""
    source = tmp_path / "pairs.jsonl"
    made = [
        {"prompt": f"Question {n}?", "chosen": f"A long answer with number {n}.", "rejected": "No."}
        for n in range(12)
    ]
    rows.write_jsonl(source, [*made, {**made[0], "rejected": made[0]["chosen"]}])
    request = {
        "stage": "build-dataset",
        "source": str(source),
        "out": str(tmp_path / "out"),
        "filters": [],
        **keys,
    }
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(request))
    return path


def built(tmp_path: Path, **keys: Any) -> Path:
    run("build-dataset", recipe(tmp_path, **keys), Options(force=True))
    return tmp_path / "out"


def front(text: str) -> dict[str, Any]:
    """The front matter of a card."""
    found = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def test_the_card_says_where_rows_are_from_and_what_is_wrong_with_them(tmp_path: Path) -> None:
    card = {"license": "cc-by-4.0", "language": ["en"], "tags": ["pumps"], "title": "Pumps | all"}
    out = built(tmp_path, card=card)
    text = (out / "README.md").read_text()
    head = front(text)
    assert (head["license"], head["language"]) == ("cc-by-4.0", ["en"])
    assert head["size_categories"] == ["n<1K"] and head["tags"] == ["llmctl", "preference", "pumps"]
    files = head["configs"][0]["data_files"]
    assert [each["split"] for each in files] == list(SPLITS)
    assert all((out / each["path"]).is_file() for each in files)
    assert "# Pumps | all" in text and "| identical_answers | 1 |" in text
    assert "| pairs.jsonl | given as it is |" in text and "Read as: pair." in text
    assert "the longer one in 100%" in text and "No licence" not in text
    request = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert request["stage"] == "build-dataset" and request["card"]["license"] == "cc-by-4.0"
    before = text
    built(tmp_path, card=card)
    assert (out / "README.md").read_text() == before


def test_the_licence_of_the_source_is_handed_on_or_told_to_be_missing(tmp_path: Path) -> None:
    out = built(tmp_path, card={"license": "mit"})
    (tmp_path / "next").mkdir()
    second = {"stage": "build-dataset", "source": str(out), "out": str(tmp_path / "second")}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**second, "filters": []}))
    run("build-dataset", tmp_path / "s.yaml", Options())
    manifest = read_manifest(tmp_path / "second")
    assert manifest is not None and manifest["extra"]["license"] == "mit"
    text = (built(tmp_path) / "README.md").read_text()
    assert front(text)["license"] == "unknown" and "- No licence is named" in text


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"format": "pair", "file": "parquet"}, None),
        ({"file": "parquet"}, None),
        ({"format": "sharegpt", "file": "json"}, None),
        ({"format": "hh"}, None),
        ({"format": {"kind": "pair_columns", "user": "q", "chosen": "c", "rejected": "r"},
          "file": "csv"}, {"kind": "pair_columns", "user": "q", "chosen": "c", "rejected": "r"}),
    ],
)  # fmt: skip
def test_what_is_exported_is_read_again(tmp_path: Path, keys: dict[str, Any], said: Any) -> None:
    pytest.importorskip("pyarrow")
    out = built(tmp_path, export=keys)
    names = ("prompt", "chosen", "rejected")
    for split in SPLITS:
        (path,) = (out / "export").glob(f"{split}.*")
        again = [row for _, row in reading.read(path, Format.of(said) if said else None)]
        ours = list(rows.read(out / f"{split}.jsonl"))
        assert [[row[n] for n in names] for row in again if isinstance(row, dict)] == [
            [row[n] for n in names] for row in ours
        ]
        if keys == {"file": "parquet"}:
            assert again == ours  # with source and meta


def test_tool_calls_and_mixed_values_survive_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}
    given = [
        {"id": "a", "messages": [{"role": "user", "content": "q"}, call], "n": 1, "meta": {"x": 1}},
        {"id": "b", "messages": [{"role": "user", "content": "q"}], "n": "one", "meta": {"x": "1"}},
    ]
    export.write(tmp_path / "r.parquet", given, None)
    assert list(rows.read(tmp_path / "r.parquet")) == given


def test_rows_that_a_format_cannot_hold_stop_the_run_or_are_listed(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    rows.write_jsonl(
        tmp_path / "mixed.jsonl",
        [
            {"messages": [{"role": "user", "content": f"{n}?"}, turns[1]], "id": f"r{n}"}
            for n in range(5)
        ]
        + [{"messages": [turns[0], *turns], "id": "twice"}],
    )
    keys = {"source": str(tmp_path / "mixed.jsonl"), "export": {"format": "alpaca"}}
    with pytest.raises(InputError, match=r"row twice: alpaca cannot hold .* skip_unheld: true"):
        built(tmp_path, **keys)
    out = built(tmp_path, **{**keys, "export": {"format": "alpaca", "skip_unheld": True}})
    (left,) = rows.read(out / "export" / "left_out.jsonl")
    assert (left["id"], left["reason"]) == ("twice", "not_held")
    manifest = read_manifest(out)
    assert manifest is not None and manifest["metrics"]["export_left_out"] == 1
    count = sum(manifest["outputs"][f"export/{name}.jsonl"]["rows"] for name in SPLITS)
    assert count == 5 and manifest["metrics"]["kept"] == 6


def test_csv_of_messages_says_what_to_choose(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`prompt` is no text, which csv cannot hold"):
        built(tmp_path, export={"file": "csv"})


@contextmanager
def hub(folder: Path, *status: str) -> Iterator[str]:
    folder.mkdir()
    command = [sys.executable, str(HUB), str(folder), *status]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


PUSH = {"push": {"repo": "me/set", "token_env": "MY_TOKEN"}}
ONLINE = {"HF_HUB_OFFLINE": "0", "MY_TOKEN": "hf_secret", "HF_HUB_DISABLE_XET": "1"}


def test_the_card_and_the_rows_are_uploaded(tmp_path: Path, llmctl: Run) -> None:
    pytest.importorskip("huggingface_hub")
    path = recipe(tmp_path, export={"format": "pair"}, **PUSH)
    with hub(tmp_path / "hub") as address:
        done = llmctl("build-dataset", path, env={**ONLINE, "HF_ENDPOINT": address})
    assert done.returncode == 0, done.stderr
    created = json.loads((tmp_path / "hub" / "repo.json").read_text())
    assert created["type"] == "dataset" and created["visibility"] == "private"
    sent = tmp_path / "hub" / "files"
    for name in ("README.md", "train.jsonl", "dropped.jsonl", "export/test.jsonl"):
        assert (sent / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert f"{address}/datasets/me/set" in done.stderr
    everything = done.stdout + done.stderr + (tmp_path / "out" / "manifest.json").read_text()
    assert "hf_secret" not in everything


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({**ONLINE, "HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ({**ONLINE, "MY_TOKEN": ""}, "no token in the environment variable MY_TOKEN"),
        ({**ONLINE, "HF_ENDPOINT": "http://127.0.0.1:9"}, "the Hub cannot be reached"),
    ],
)
def test_an_upload_that_cannot_be_is_one_line(
    tmp_path: Path, llmctl: Run, env: dict[str, str], said: str
) -> None:
    pytest.importorskip("huggingface_hub")
    done = llmctl("build-dataset", recipe(tmp_path, **PUSH), "-q", env=env)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("warning:")]
    assert done.returncode == 3 and len(lines) == 1 and said in lines[0], done.stderr
    assert not (tmp_path / "out").exists()


def test_a_token_that_may_not_write_is_one_line(tmp_path: Path, llmctl: Run) -> None:
    pytest.importorskip("huggingface_hub")
    with hub(tmp_path / "hub", "401") as address:
        env = {**ONLINE, "HF_ENDPOINT": address}
        done = llmctl("build-dataset", recipe(tmp_path, **PUSH), "-q", env=env)
    assert done.returncode == 3 and "the token in MY_TOKEN may not write there" in done.stderr
