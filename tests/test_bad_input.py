"""Bad input, a full disk, a locked folder: one line, the right exit code, nothing lost.

Every case runs over an artifact that is already there; it and the inputs must stay as they are.
Missing, empty, misspelt and wrongly typed recipes are in test_cli.py, killed runs in
test_artifact.py.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT, Run

from llmctl import artifact as artifacts

DEDUP = ROOT / "recipes" / "dedup" / "smoke.yaml"
INGEST = ROOT / "recipes" / "ingest" / "smoke.yaml"
DATASET = ROOT / "recipes" / "build-dataset" / "smoke.yaml"
SFT = ROOT / "recipes" / "sft" / "smoke.yaml"
PAIRS = ROOT / "recipes" / "samples" / "pairs.jsonl"
GOOD = '{"id": "a", "text": "The pump is cleaned twice a year."}\n'
SECTIONS = "builders=[sections]"


@pytest.fixture(scope="session")
def finished(llmctl: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of dedup."""
    out = tmp_path_factory.mktemp("finished") / "out"
    done = llmctl("dedup", DEDUP, "--out", out, "-q")
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def place(tmp_path: Path, finished: Path) -> Path:
    """A folder of bad files beside a finished artifact, `out`."""
    shutil.copytree(finished, tmp_path / "out")
    recipe = f"stage: dedup\nout: out\ndata: {tmp_path / 'rows.jsonl'}\n"
    files: dict[str, str | bytes] = {
        "rows.jsonl": GOOD,
        "latin.jsonl": GOOD.encode() + b'{"text": "caf\xe9"}\n',
        "broken.jsonl": GOOD + '{"text": \n',
        "list.jsonl": "[1, 2]\n",
        "deep.jsonl": '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}\n",
        "half.jsonl": '{"messages": [{"role": "user", "content": "\\ud83d"}]}\n',
        "plain.jsonl.gz": GOOD,
        "rows.parquet": GOOD,
        "rows.csv": "id,text\n",
        "model.gguf": "not weights",
        "good.yaml": recipe,
        "latin.yaml": recipe.encode() + b"# caf\xe9\n",
        "utf16.yaml": recipe.encode("utf-16"),
        "binary.yaml": bytes(range(256)),
        "list.yaml": "- stage: dedup\n",
        "extends-list.yaml": "extends: list.yaml\n",
        "extends-latin.yaml": "extends: latin.yaml\n",
        "deep.yaml": recipe + "text: " + "[" * 3000 + "]" * 3000 + "\n",
        "queue.jsonl": '{"id": "a", "prompt": [{"role": "user", "content": "?"}], "answers": '
        '[{"content": "yes"}, {"content": "no"}]}\n',
        "torn/manifest.json": '{"schema": "llmctl.manifest/v1", "sta',
        "torn/kept.jsonl": GOOD,
        "app/manifest.json": '{"name": "an application of the web"}',
        "app/kept.jsonl": GOOD,
        "app/none/rows.jsonl": GOOD,
        "binary/a.md": b"\x7fELF\0\0\0\1" * 40,
        "latin/a.md": b"# Caf\xe9\n\nClosed on Mondays.\n",
        "unknown/a.xyz": "nobody reads this",
        "part/train-00000-of-00002.jsonl": GOOD,
        "part/README.md": "---\nlicense: mit\n---\n",
        "splits/train-00000-of-00001.jsonl": GOOD,
        "splits/test-00000-of-00001.jsonl": GOOD,
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    (tmp_path / "empty").mkdir()
    return tmp_path


MISSING_SHARD = r"part: train-00001-of-00002.jsonl is missing, 1 of 2 shards are there; complete"


def given(recipe: Path, *sets: str, out: str | None = None) -> list[str | Path]:
    """A run of a bundled recipe with some other values."""
    options = [f"--set={each}" for each in sets] + (["--out", out] if out else [])
    return [recipe.parent.name, recipe, *options]


CASES: dict[str, tuple[list[str | Path], str]] = {
    "no document": (given(INGEST, "source=none"), r"--set source: .*none is not"),
    "no rows": (given(DATASET, "source=none.jsonl"), "none.jsonl is not"),
    "no model": (given(SFT, "model=none.gguf"), "none.gguf: no such model"),
    "no model of an earlier stage": (
        ["sft", SFT, "--set=model=build/sft", "--dry-run"],
        "--set model: model: build/sft: no such model",
    ),
    "no documents": (given(INGEST, "source=empty"), "empty: holds no documents"),
    "no reader": (given(INGEST, "source=unknown"), r"1 no_reader\b.* take \*.md"),
    "folder for rows": (given(DEDUP, "data=empty"), "empty: has no train split"),
    "folder for a model": (given(SFT, "model=empty"), "empty: has no config.json"),
    "folder of other rows": (
        given(DEDUP, "data=app/none"),
        r"app/none: has no train split \(.*\); it has rows.jsonl: name the file to read",
    ),
    "folder that is not ingest's": (
        given(DATASET, "source=empty", SECTIONS),
        "empty: has no train split",
    ),
    "file for an artifact": (["search", "rows.jsonl", "pump"], "rows.jsonl: is a file"),
    "out is this folder": (given(DEDUP, out="."), "'.' names no new folder"),
    "out is in a file": (given(DEDUP, out="rows.jsonl/x"), "Not a directory|File exists"),
    "a home": (given(DEDUP, "data=~/rows.jsonl"), "not there; `~` is not the home folder here"),
    "out is too long": (given(DEDUP, out="x" * 300), "File name too long"),
    "out is what is read": (given(DEDUP, "data=out"), "out has what `data` reads"),
    "out holds what is read": (given(DEDUP, "data=out/kept.jsonl"), "out has what"),
    "out is in what is read": (
        given(INGEST, "source=latin", out="latin/build/out"),
        "lies in latin, which `source` reads",
    ),
    "a torn manifest": (
        given(DEDUP, "data=torn"),
        "torn/manifest.json is broken; run the stage that made torn again",
    ),
    "out of another stage": (
        given(DATASET, out="out"),
        "out is an artifact of `dedup`, which `build-dataset` would replace",
    ),
    "out is in an artifact": (given(DEDUP, out="out/more"), r"lies in the artifact .*out,"),
    "binary document": (given(INGEST, "source=binary"), r"1 documents .*\(1 binary\)"),
    "latin document": (given(INGEST, "source=latin"), r"1 document.*\(1 not_utf8\)"),
    "a bad document, and on_error: fail": (
        given(INGEST, "source=latin", "on_error=fail"),
        r"latin/a.md: not_utf8: line 1: byte 0xe9",
    ),
    "latin rows": (given(DEDUP, "data=latin.jsonl"), r"latin.jsonl:2: not UTF-8"),
    "rows that are lists": (
        given(DATASET, "source=list.jsonl"),
        r"list.jsonl:1: is a list, a row is an object",
    ),
    "broken rows": (
        given(DEDUP, "data=broken.jsonl"),
        r"broken.jsonl:2: not valid JSON: Expecting value \(column 9\)$",
    ),
    "broken rows elsewhere": (
        given(DATASET, "source=broken.jsonl"),
        r"broken.jsonl:2: not valid JSON: Expecting value \(column 9\)$",
    ),
    "a shard is missing": (given(DEDUP, "data=part"), MISSING_SHARD),
    "a shard is missing elsewhere": (given(DATASET, "source=part"), MISSING_SHARD),
    "a shard of a pattern is missing": (
        given(DATASET, "source=part/train-*"),
        "--set source: .*" + MISSING_SHARD,
    ),
    "a shard is missing in a page": (["explore", "part", "-q"], MISSING_SHARD),
    "a pattern of two splits": (
        given(DEDUP, "data=splits/*.jsonl"),
        r"splits/\*.jsonl: has files of several splits \(test, train\), which are never mixed",
    ),
    "a pattern without files": (given(DEDUP, "data=none/*.xyz"), r"none/\*.xyz: matches no file"),
    "a pattern in an artifact": (
        given(DEDUP, "data=out/k*", out="beside"),
        r"out/kept.jsonl is a part of the artifact .*/out; name the artifact",
    ),
    "a device for rows": (given(DEDUP, "data=/dev/null"), "a pipe or a device"),
    "deep rows": (given(DEDUP, "data=deep.jsonl"), r"deep.jsonl:1: not valid JSON"),
    "half a character": (
        given(DATASET, "source=half.jsonl"),
        r"half.jsonl:1: has half a surrogate pair",
    ),
    "text named .gz": (given(DEDUP, "data=plain.jsonl.gz"), "not a whole gzip file"),
    "text named .parquet": (given(DEDUP, "data=rows.parquet"), "not a whole Parquet file"),
    "other rows": (given(DEDUP, "data=rows.csv"), "rows.csv: has no rows"),
    "rows of no format": (given(DEDUP, "data=model.gguf"), "rows are read from"),
    "text named .gguf": (given(SFT, "model=model.gguf"), "is not a GGUF file"),
    "latin recipe": (["dedup", "latin.yaml"], r"latin.yaml:4: not UTF-8 text \(byte 0xe9\)"),
    "UTF-16 recipe": (["dedup", "utf16.yaml"], r"utf16.yaml:1: not UTF-8 text"),
    "binary recipe": (["dedup", "binary.yaml"], r"^binary.yaml"),
    "extends a list": (["dedup", "extends-list.yaml"], r"list.yaml:1: is a list"),
    "extends latin": (["dedup", "extends-latin.yaml"], r"latin.yaml:4: not UTF-8 text"),
    "deep recipe": (["dedup", "deep.yaml"], r"deep.yaml: is nested too deeply"),
    "a pattern without quotes": (
        ["dedup", "good.yaml", "--set", "data=*.jsonl"],
        "not valid YAML: what begins with \\* needs quotes, or ./ before it",
    ),
    "value that is no YAML": (["dedup", "good.yaml", "--set", "text=[a"], "not valid YAML"),
    "page in a file": (
        ["explore", "rows.jsonl", "--out", "rows.jsonl/x.html", "-q"],
        "cannot be used",
    ),
    "page that is a folder": (
        ["explore", "rows.jsonl", "--out", "empty", "-q"],
        "empty: cannot be used",
    ),
    "votes in a file": (
        ["build-dataset", "annotate", "queue.jsonl", "--votes", "rows.jsonl/v.jsonl"],
        "rows.jsonl: cannot be used",
    ),
    "votes on pairs": (
        ["build-dataset", "annotate", PAIRS],
        "the rows are pairs .*, needed are several answers to one prompt",
    ),
    "copy to a file": (["recipes", "copy", "dedup/smoke", "rows.jsonl/x"], "cannot be written"),
    "project in a file": (["init", "rows.jsonl"], "cannot be written"),
}
NEEDS = {"ingest": ["chromadb", "sentence_transformers"], "sft": ["trl", "peft"]}
"""Without them the stage ends with 3 before it looks at its input."""
NO_STAGE = ("search", "recipes", "init", "explore")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, without the locks and what is under way."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not re.search(r"\.partial/|\.lock$", str(path))
    }


def refused(done: subprocess.CompletedProcess[str], code: int, says: str) -> None:
    """One line on stderr, nothing on stdout, no traceback."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert re.search(says, done.stderr), done.stderr
    assert "unexpected" not in done.stderr


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_line_and_nothing_is_lost(llmctl: Run, place: Path, name: str) -> None:
    arguments, says = CASES[name]
    for package in NEEDS.get(str(arguments[0]), ["pyarrow"] if "parquet" in name else []):
        if find_spec(package) is None:
            pytest.skip(f"needs {package}")
    if arguments[0] not in NO_STAGE and "annotate" not in arguments:
        out = "out" if arguments[0] == "dedup" else "beside"
        arguments = [*arguments, "-q", *(() if "--out" in arguments else ("--out", out))]
    before = contents(place)
    refused(llmctl(*arguments, cwd=place), 2, says)
    assert contents(place) == before


@pytest.mark.parametrize("target", ["empty", "none"])
def test_an_artifact_takes_no_place_of_a_link(llmctl: Run, place: Path, target: str) -> None:
    (place / "link").symlink_to(target)
    done = llmctl("dedup", "good.yaml", "--out", "link", "-q", cwd=place)
    refused(done, 2, f"^--out: out: link is a link; name the folder that it leads to, {target}$")
    assert (place / "link").readlink() == Path(target) and not (place / "link.partial").exists()


def test_an_artifact_takes_no_place_of_a_pipe(llmctl: Run, place: Path) -> None:
    """Nor of a device, such as /dev/null, which the exchange of folders would move away."""
    os.mkfifo(place / "pipe")
    done = llmctl("dedup", "good.yaml", "--out", "pipe", "-q", cwd=place)
    refused(done, 2, "^--out: out: pipe is a file, a folder is needed$")
    assert (place / "pipe").is_fifo()


def test_a_recipe_may_begin_with_a_byte_order_mark(llmctl: Run, place: Path) -> None:
    text = (place / "good.yaml").read_bytes()
    (place / "bom.yaml").write_bytes(b"\xef\xbb\xbf" + text)
    assert llmctl("dedup", "bom.yaml", "-q", cwd=place).returncode == 0


def test_a_manifest_of_somebody_else_is_a_file(llmctl: Run, place: Path) -> None:
    done = llmctl("dedup", DEDUP, "--set", "data=app", "--out", "beside", "-q", cwd=place)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a device of Linux")
def test_a_full_disk(llmctl: Run, place: Path) -> None:
    """The kernel itself says ENOSPC: an output of the unfinished run leads to /dev/full."""
    planned = llmctl("plan", "good.yaml", "--json", cwd=place)
    partial = place / "out.partial"
    partial.mkdir()
    mark = json.dumps({"key": json.loads(planned.stdout)["key"]})
    (partial / artifacts.BUILDING).write_text(mark)
    (partial / "kept.jsonl").symlink_to("/dev/full")
    before = contents(place)
    refused(llmctl("dedup", "good.yaml", "-q", cwd=place), 1, "^out: the disk is full; free some")
    assert contents(place) == before
    (partial / "kept.jsonl").unlink()
    assert llmctl("dedup", "good.yaml", "-q", cwd=place).returncode == 0
    assert (place / "out" / "kept.jsonl").read_text() == GOOD
    assert not partial.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a device of Linux")
def test_a_full_stdout(llmctl: Run, place: Path) -> None:
    """The result cannot be printed: the artifact is whole all the same."""
    command = [sys.executable, "-m", "llmctl", "dedup", "good.yaml", "-q"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=place)
    assert (done.returncode, done.stderr) == (1, "stdout: No space left on device\n")
    assert (place / "out" / "kept.jsonl").read_text() == GOOD


def test_a_limit_on_files_at_any_byte(llmctl: Run, place: Path) -> None:
    """The write that fails is another one with each limit; the old artifact stays."""
    before = contents(place / "out")
    for limit in (0, 30, 300, 3000):  # the manifest has more bytes

        def limited(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        env = {"LLMCTL_CACHE": str(place / "cache")}
        done = llmctl("dedup", "good.yaml", "-q", cwd=place, env=env, preexec_fn=limited)
        refused(done, 1, r"^out: a file grew beyond what is allowed here")
        assert contents(place / "out") == before
    assert llmctl("dedup", "good.yaml", "-q", cwd=place).returncode == 0
    assert not (place / "out.partial").exists()


def bound_by_permissions() -> None:
    """Without CAP_DAC_OVERRIDE even root obeys the permission bits; others do anyway."""
    if sys.platform == "linux" and os.getuid() == 0:
        drop, dac_override, dac_read_search = 24, 1, 2
        for capability in (dac_override, dac_read_search):
            ctypes.CDLL(None).prctl(drop, capability, 0, 0, 0)


@pytest.fixture
def closed(place: Path) -> Iterator[Path]:
    """`place`, whose permissions are given back afterwards."""
    yield place
    for path in (place, *place.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize(
    ("shut", "out"), [(".", "new"), (".", "out"), ("out.partial", "out"), ("empty", "empty/a/b")]
)
def test_a_read_only_folder(llmctl: Run, closed: Path, shut: str, out: str) -> None:
    (closed / shut).mkdir(exist_ok=True)
    if shut == "out.partial":  # of another run, so it would have to be removed
        (closed / shut / "kept.jsonl").write_text("half")
    before = contents(closed)
    (closed / shut).chmod(0o555)
    command = ["dedup", "good.yaml", "--out", out, "-q"]
    done = llmctl(*command, cwd=closed, preexec_fn=bound_by_permissions)
    refused(done, 2, r"--out: .*cannot be written: Permission denied")
    (closed / shut).chmod(0o755)
    assert contents(closed) == before
    assert llmctl(*command, cwd=closed).returncode == 0


@pytest.mark.parametrize("name", ["rows.jsonl", "good.yaml"])
def test_a_file_that_may_not_be_read(llmctl: Run, closed: Path, name: str) -> None:
    (closed / name).chmod(0)
    done = llmctl("dedup", "good.yaml", "-q", cwd=closed, preexec_fn=bound_by_permissions)
    refused(done, 2, rf"{name}:? cannot be read: Permission denied")


def test_a_document_that_may_not_be_read_is_left_out(llmctl: Run, closed: Path) -> None:
    pytest.importorskip("Stemmer")
    for name in ("a.md", "b.md", "shut/c.md"):
        (closed / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (closed / "docs" / name).write_text("The pump is cleaned twice a year.")
    (closed / "docs" / "a.md").chmod(0)
    (closed / "docs" / "shut").chmod(0)
    command = ["ingest", INGEST, *(f"--set={each}" for each in (
        "source=docs", "embedder=hashing", "store=exact", "chunker=sentence"
    ))]  # fmt: skip
    done = llmctl(*command, "--out=o", "-q", cwd=closed, preexec_fn=bound_by_permissions)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "warning: 2 documents were left out (2 unreadable), see dropped.jsonl\n"
    dropped = (closed / "o" / "dropped.jsonl").read_text().splitlines()
    assert [json.loads(line)["uri"] for line in dropped] == ["a.md", "shut"]
    command += ["--set=on_error=fail", "--out=p", "-q"]
    done = llmctl(*command, cwd=closed, preexec_fn=bound_by_permissions)
    refused(done, 2, "^a.md: unreadable: Permission denied; repair or remove it")


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 on other systems")
def test_names_that_are_no_utf8(llmctl: Run, place: Path) -> None:
    """A document is named with the byte's escape, an artifact of such a name is refused."""
    bad = os.fsdecode(b"bad\xff")
    done = llmctl("dedup", "good.yaml", "--out", bad, "-q", cwd=place)
    refused(done, 2, "^--out: out: .* names no new folder; give one")
    pytest.importorskip("Stemmer")
    (place / "docs").mkdir()
    (place / "docs" / f"{bad}.md").write_text("The pump is cleaned twice a year.")
    sets = ("source=docs", "embedder=hashing", "store=exact", "chunker=sentence")
    done = llmctl("ingest", INGEST, *(f"--set={s}" for s in sets), "--out=o", "-q", cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    [document] = (place / "o" / "documents.jsonl").read_text().splitlines()
    assert json.loads(document)["uri"] == "bad\\xff.md"


def test_rows_of_a_folder_that_may_not_be_read_end_the_run(llmctl: Run, closed: Path) -> None:
    (closed / "part" / "README.md").chmod(0)
    (closed / "splits" / "train-00000-of-00001.jsonl").chmod(0)
    command = ["dedup", "good.yaml", "--set=data=splits", "-q"]
    done = llmctl(*command, cwd=closed, preexec_fn=bound_by_permissions)
    refused(done, 2, r"splits/train-00000-of-00001.jsonl:? cannot be read: Permission denied")


def begun(place: Path, *options: str) -> subprocess.Popen[str]:
    """A run of good.yaml that is not waited for."""
    return subprocess.Popen(
        [sys.executable, "-m", "llmctl", "dedup", "good.yaml", *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=place,
    )


def test_different_runs_of_one_out_leave_one_whole_artifact(place: Path) -> None:
    """Four at once, each with a request of its own: all end well, the last one stands."""
    seeds = (1, 2, 3, 4)
    runs = [begun(place, "-q", "--set", f"seed={seed}") for seed in seeds]
    assert [each.communicate(timeout=60)[1] for each in runs] == [""] * 4
    assert [each.returncode for each in runs] == [0] * 4
    manifest = artifacts.read_manifest(place / "out")
    assert manifest is not None and manifest["recipe"]["seed"] in seeds
    assert artifacts.changed_output(place / "out", manifest, reread=True) is None
    assert not (place / "out.partial").exists()


HOLD = """
import sys, time
from pathlib import Path
from llmctl.artifact import locked
with locked(Path(sys.argv[1]), "here"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_that_is_killed_does_not_hold_up_the_next(place: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place / "out")], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    waiting = begun(place)
    assert waiting.stderr is not None
    assert f"(process {holder.pid}); waiting for it" in waiting.stderr.readline()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert (place / "out" / "kept.jsonl").read_text() == GOOD
