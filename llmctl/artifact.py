"""The output folder of a stage and its manifest.json: whole or absent, and resumable.

A stage writes into `<out>.partial`. When it is done every file is synced and hashed, the manifest
is written last, and the folder is exchanged with `out` in one system call. `.building` in the
partial folder holds the key of the run that began it: the same key continues there, another one
starts anew. A live artifact (serve) is written in place; its `.building` says which stage runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmctl import digest, rows, shards, ui
from llmctl.errors import InputError, LlmctlError, MissingError, RecipeError

SCHEMA = "llmctl.manifest/v1"
MANIFEST = "manifest.json"
BUILDING = ".building"
LIVE = "live"
"""Key of the mark in a live artifact: the stage that is running, or was killed."""
SCRATCH = "scratch"
ABOUT = (".html", "README.md", "metrics.jsonl", "table.json", "junit.xml", ".log")
"""Outputs that tell about a run (times, pictures): no content for later stages."""
ABSENT = "hub:"
"""Before the name that stands in for the digest of a model which is not on this machine."""
TRACKED = "tracking"
"""Folder of the trackers' files: they tell about a run, too."""


@dataclass(frozen=True)
class Input:
    """One input as it was found: `digest` decides skipping, the rest is provenance."""

    key: str
    ref: str
    path: Path | None
    digest: str
    manifest: dict[str, Any] | None = None
    manifest_path: Path | None = None

    def row(self) -> dict[str, Any]:
        """The input's entry in the manifest."""
        row: dict[str, Any] = {"ref": self.ref, "sha256": self.digest}
        if self.path is not None:
            row["path"] = str(self.path)
        if self.manifest is not None and self.manifest_path is not None:
            row["manifest"] = str(self.manifest_path)
            row["manifest_sha256"] = digest.of_file(self.manifest_path)
            row["key"] = self.manifest["key"]
            row["stage"] = self.manifest["stage"]
        return row


@dataclass
class Artifact:
    """What a stage writes through; see the module for its life."""

    folder: Path
    inputs: dict[str, Input] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    model: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    summary: list[tuple[str, str]] = field(default_factory=list)
    determinism: str = "bitwise"
    failed: LlmctlError | None = None
    """A gate that did not pass: the artifact is whole, the command ends with the error's code."""
    rows: dict[str, int] = field(default_factory=dict)
    key_parts: dict[str, Any] = field(default_factory=dict)
    """What decides whether a run is needed, as the manifest will have it."""
    forced: bool = False
    """The user asked that everything is made anew: nothing may be taken over from `out`."""
    published: list[Callable[[], None]] = field(default_factory=list)
    """Called when the artifact has become `out`: what the one before needed can go."""

    @property
    def scratch(self) -> Path:
        """A folder that survives a kill and is removed when the artifact is complete."""
        path = self.folder / SCRATCH
        path.mkdir(parents=True, exist_ok=True)
        return path

    def path(self, name: str) -> Path:
        """Where to write one output; its folder exists."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_jsonl(self, name: str, each: Iterable[Mapping[str, Any]]) -> int:
        """Write rows; returns how many, which the manifest records."""
        self.rows[name] = rows.write_jsonl(self.path(name), each)
        return self.rows[name]

    def write_json(self, name: str, value: Any) -> None:
        """Write one JSON document, indented for people."""
        self.write_text(name, json.dumps(rows.finite(value), indent=1, ensure_ascii=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write UTF-8 text."""
        self.path(name).write_text(text, encoding="utf-8", newline="\n")

    def input(self, key: str) -> Path:
        """The local path of an input that the recipe named under `key`."""
        path = self.inputs[key].path
        if path is None:
            raise KeyError(key)
        return path

    def manifest_of(self, key: str) -> dict[str, Any] | None:
        """The manifest of an input that is an llmctl artifact."""
        return self.inputs[key].manifest if key in self.inputs else None


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of an artifact folder; None when there is none that can be trusted."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    good = isinstance(manifest, dict) and manifest.get("schema") == SCHEMA
    return manifest if good else None


def content_digest(manifest: dict[str, Any]) -> str:
    """The digest of what later stages read of an artifact."""
    return digest.of_listing(
        {
            n: o["sha256"]
            for n, o in manifest["outputs"].items()
            if not n.endswith(ABOUT) and not n.startswith(f"{TRACKED}/")
        }
    )


def changed_output(folder: Path, manifest: dict[str, Any], *, reread: bool = False) -> str | None:
    """What is wrong with the outputs that a manifest describes, in words; None when nothing is."""
    for name, output in manifest["outputs"].items():
        path = folder / name
        if not path.is_file():
            return f"output {name} is missing"
        if (
            path.stat().st_size != output["bytes"]
            or digest.of_file(path, reread=reread) != output["sha256"]
        ):
            return f"output {name} was changed"
    return None


def owner_of(path: Path) -> tuple[Path, dict[str, Any]] | None:
    """The artifact folder that `path` is or lies in, with its manifest."""
    for folder in (path, *path.absolute().parents[:4]):
        manifest = read_manifest(folder) if folder.is_dir() else None
        if manifest is not None:
            return folder, manifest
    return None


def find_input(key: str, ref: Path | str, where: str, *, fetch: bool) -> Input:
    """Digest one input; raises at `where` when it is missing or was changed after it was made.

    `fetch` False downloads no hub model and needs no package of weights: the name of one that is
    not here stands in for its digest.
    """
    if isinstance(ref, str):
        from llmctl import modelref

        if modelref.is_hub(ref) and not fetch:
            return Input(key, ref, None, f"{ABSENT}{ref}")
        try:
            path = modelref.locate(ref)
        except LlmctlError as error:
            if isinstance(error, MissingError) and not fetch:
                return Input(key, ref, None, f"{ABSENT}{ref}")
            raise type(error)(f"{where}: {key}: {error}") from None
    else:
        path = ref
    try:
        return _input_at(key, ref, path, where)
    except OSError as error:
        named = error.filename or path
        raise InputError(f"{where}: {key}: {named} cannot be read: {error.strerror}") from None


def _input_at(key: str, ref: Path | str, path: Path, where: str) -> Input:
    if shards.is_pattern(path):
        return _matched_input(key, path, where)
    if not path.exists():
        partial = path.with_name(path.name + ".partial")
        hint = " (an unfinished run is there: finish it first)" if partial.exists() else ""
        if str(path).startswith("~"):
            hint = "; `~` is not the home folder here, write ${env:HOME}"
        raise InputError(f"{where}: {key}: {path} is not there{hint}")
    owner = owner_of(path)
    if owner is None:
        if _broken_manifest(path):
            raise InputError(
                f"{where}: {key}: {path / MANIFEST} is broken; run the stage that made {path} again"
            )
        return Input(key, str(ref), path, digest.of_path(path))
    folder, manifest = owner
    wrong = changed_output(folder, manifest)
    if wrong:
        raise InputError(
            f"{where}: {key}: {folder}: {wrong} after `llmctl {manifest['stage']}` made it; "
            f"run that stage again"
        )
    if "failed" in manifest:
        raise InputError(
            f"{where}: {key}: {folder}: did not pass its gate: {manifest['failed']['message']}"
        )
    inside = path.is_file() and path.name != MANIFEST
    sha = digest.of_file(path) if inside else content_digest(manifest)
    return Input(key, str(ref), path, sha, manifest, folder / MANIFEST)


def _matched_input(key: str, pattern: Path, where: str) -> Input:
    """The files that a pattern matches, as one input."""
    try:
        files = shards.matched(pattern)
    except InputError as error:
        raise InputError(f"{where}: {key}: {error}") from None
    for path in files:
        if owner := owner_of(path):
            raise InputError(
                f"{where}: {key}: {path} is a part of the artifact {owner[0]}; name the artifact"
            )
    return Input(key, str(pattern), pattern, shards.digest_of(files))


def _broken_manifest(folder: Path) -> bool:
    """Whether a folder has our manifest and it cannot be read; others have files of that name."""
    path = folder / MANIFEST
    return path.is_file() and SCHEMA.encode() in path.read_bytes()[:200]


def _existing(inputs: Mapping[str, Path | str]) -> Iterator[tuple[str, Path | str, Path]]:
    """(key, what it names, each place that is there)."""
    for key, ref in inputs.items():
        path = Path(ref)
        for each in shards.listed(path) if shards.is_pattern(path) else [path]:
            if each.exists():
                yield key, ref, each.resolve()


@contextmanager
def locked(out: Path, where: str) -> Iterator[None]:
    """Only one run writes `out` at a time; a second one waits and says so."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = (out.parent / f".{out.name}.lock").open("a+")
    except OSError as error:
        raise RecipeError(f"{where}: out: {out} cannot be written: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            ui.note(f"another run is writing {out} (process {lock.read().strip()}); waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(OSError):  # only tells who holds it; a full disk is told by the run
            os.ftruncate(lock.fileno(), 0)
            os.write(lock.fileno(), str(os.getpid()).encode())
        yield


def check_out(out: Path, where: str, stage: str, inputs: Mapping[str, Path | str]) -> None:
    """Refuse to replace what llmctl or this stage did not make, or what the run reads."""
    if out.name in ("", "..") or re.search("[\0\ud800-\udfff]", str(out)):  # or is no UTF-8
        raise RecipeError(
            f"{where}: out: {str(out)!r} names no new folder; give one, such as build/out"
        )
    try:
        if out.is_symlink():  # what is published takes its name, beside the link and not behind it
            raise RecipeError(
                f"{where}: out: {out} is a link; name the folder that it leads to, {out.readlink()}"
            )
        if out.exists() and not out.is_dir():  # a device or a pipe would be moved away as well
            raise RecipeError(f"{where}: out: {out} is a file, a folder is needed")
        known = (out / MANIFEST).exists() or _lived(out) == stage
        if out.is_dir() and any(out.iterdir()) and not known:
            raise RecipeError(
                f"{where}: out: {out} has files that llmctl did not write; give another folder"
            )
    except OSError as error:
        raise RecipeError(f"{where}: out: {out} cannot be used: {error.strerror}") from None
    place = out.resolve()
    for key, ref, path in _existing(inputs):
        if place in (path, *path.parents):
            raise RecipeError(
                f"{where}: out: {out} has what `{key}` reads, and would be replaced by what is "
                f"made of it; give another folder"
            )
        if path in place.parents:
            raise RecipeError(
                f"{where}: out: {out} lies in {ref}, which `{key}` reads: the next run would read "
                f"its own result; give a folder beside it"
            )
    before = read_manifest(out)
    if before is not None and before["stage"] != stage:
        raise RecipeError(
            f"{where}: out: {out} is an artifact of `{before['stage']}`, which `{stage}` would "
            f"replace; give another folder, or delete that one first"
        )
    around = owner_of(place.parent)
    if around is not None:
        raise RecipeError(
            f"{where}: out: {out} lies in the artifact {around[0]}, which is replaced as a whole; "
            f"give a folder beside it"
        )


@contextmanager
def building(
    out: Path,
    stage: str,
    facts: dict[str, Any],
    inputs: dict[str, Input],
    *,
    live: bool = False,
) -> Iterator[Artifact]:
    """Yield the artifact to write; when the block ends well it is published as `out`.

    `facts` are the manifest's entries that are known before the run (key, recipe, reason ...).
    A `live` artifact (serve) is appended to in place and has no manifest while it runs.
    """
    folder = out if live else out.with_name(out.name + ".partial")
    if not live:
        _begin(folder, json.dumps({"key": facts["key"]}))
    else:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / BUILDING).write_text(json.dumps({LIVE: stage}))
        (folder / MANIFEST).unlink(missing_ok=True)
    artifact = Artifact(
        folder,
        inputs,
        key_parts=facts.get("key_parts", {}),
        forced=facts.get("reason") == ["--force"],
    )
    started = datetime.now(UTC)
    clock = time.monotonic()
    yield artifact
    _finish(artifact, stage, facts, started, time.monotonic() - clock)
    if live:
        (folder / BUILDING).unlink()
    else:
        _publish(folder, out)
    for each in artifact.published:
        each()


def publish_finished(out: Path, key: str) -> bool:
    """Publish a run of this key that was killed between its manifest and its rename."""
    folder = out.with_name(out.name + ".partial")
    manifest = read_manifest(folder)
    if manifest is None or manifest["key"] != key or not (folder / BUILDING).is_file():
        return False
    if changed_output(folder, manifest, reread=True):
        return False
    _publish(folder, out)
    return True


def sweep(out: Path) -> None:
    """Remove the predecessor of `out` that a run killed after the exchange left behind.

    An unfinished run, which has its mark, is left for its recipe to go on with.
    """
    left = out.with_name(out.name + ".partial")
    if left.is_dir() and not (left / BUILDING).is_file():
        shutil.rmtree(left)


def _lived(out: Path) -> str | None:
    """The stage of a live artifact whose run was killed: it has its mark and no manifest."""
    try:
        mark = json.loads((out / BUILDING).read_bytes())
    except (OSError, ValueError):
        return None
    return mark.get(LIVE) if isinstance(mark, dict) else None


def _begin(folder: Path, mark: str) -> None:
    building_mark = folder / BUILDING
    same = building_mark.is_file() and building_mark.read_text() == mark
    same = same and not (folder / MANIFEST).exists()
    if folder.exists() and not same:
        shutil.rmtree(folder)
    if same:
        ui.note(f"continuing the unfinished run in {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    building_mark.write_text(mark)


def _finish(
    artifact: Artifact, stage: str, facts: dict[str, Any], started: datetime, seconds: float
) -> None:
    folder = artifact.folder
    if (folder / SCRATCH).exists():
        shutil.rmtree(folder / SCRATCH)
    waiting = folder / (MANIFEST + ".partial")
    waiting.unlink(missing_ok=True)  # of a run that was killed while it wrote it
    outputs = {}
    for path in digest.files_of(folder):
        name = path.relative_to(folder).as_posix()
        if name == MANIFEST:
            continue
        _sync(path)
        outputs[name] = {"bytes": path.stat().st_size, "sha256": digest.of_file(path)}
        if name in artifact.rows:
            outputs[name]["rows"] = artifact.rows[name]
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "stage": stage,
        **facts,
        "inputs": {key: each.row() for key, each in artifact.inputs.items()},
        "outputs": outputs,
        "metrics": artifact.metrics,
        "dropped": dict(artifact.dropped),
        "timing": {
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "peak_memory_mb": peak_memory_mb(),
        },
        "environment": environment(),
        "determinism": artifact.determinism,
        "summary": artifact.summary,
    }
    if artifact.model is not None:
        manifest["model"] = artifact.model
    if artifact.extra:
        manifest["extra"] = artifact.extra
    if artifact.failed is not None:
        manifest["failed"] = {
            "exit_code": artifact.failed.exit_code,
            "message": str(artifact.failed),
        }
    text = json.dumps(rows.finite(manifest), indent=1, ensure_ascii=False, default=str)
    waiting.write_text(text + "\n")
    _sync(waiting)
    waiting.replace(folder / MANIFEST)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _publish(partial: Path, out: Path) -> None:
    if out.exists():
        _exchange(partial, out)
        shutil.rmtree(partial)
    else:
        partial.rename(out)
    (out / BUILDING).unlink(missing_ok=True)
    _sync(out.parent)


def withdraw(out: Path) -> None:
    """Remove an artifact in one step; nothing happens when there is none."""
    if read_manifest(out) is None:
        return
    aside = out.with_name(out.name + ".old")
    shutil.rmtree(aside, ignore_errors=True)
    out.rename(aside)
    shutil.rmtree(aside)
    _sync(out.parent)


def _exchange(a: Path, b: Path) -> None:
    """Swap two folders in one step (renameat2, RENAME_EXCHANGE), or in two without it."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), 2)
    except (AttributeError, OSError):
        failed = -1
    if failed:
        aside = b.with_name(b.name + ".old")
        shutil.rmtree(aside, ignore_errors=True)
        b.rename(aside)
        a.rename(b)
        aside.rename(a)


def peak_memory_mb() -> int:
    """The largest resident size of this process or of one child that has ended, in MB."""
    unit = 1024 if sys.platform != "darwin" else 1024 * 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit
    with contextlib.suppress(OSError, IndexError):
        # Linux: ru_maxrss begins at the size of the process that started this one
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        own = int(status.split("VmHWM:")[1].split()[0]) // 1024
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // unit
    return max(own, child)


def _package(distribution: Any) -> tuple[str, str] | None:
    """Name and version; their lines are looked up because parsing 200 packages takes 0.1 s."""
    text = distribution.read_text("METADATA") or ""
    found = dict(re.findall(r"^(Name|Version): *(.*?)\s*$", text.partition("\n\n")[0], re.M))
    name = found.get("Name") or distribution.metadata["Name"]
    return (name, found.get("Version") or distribution.version) if name else None


def environment() -> dict[str, Any]:
    """Provenance that never decides skipping."""
    from importlib.metadata import distributions

    try:
        git = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True,
            text=True,
            timeout=5,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        git = ""
    packages = dict(filter(None, map(_package, distributions())))
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
        "git": git or None,
    }
