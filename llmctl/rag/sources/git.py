"""A git repository at one commit, read from its objects: no checkout, and no hook runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import IO

from pydantic import Field, field_validator

from llmctl.errors import InputError, LlmctlError, MissingError
from llmctl.rag.fetching import check_online
from llmctl.rag.readers.base import Unreadable
from llmctl.rag.sources.base import Source, Unit

SAFE = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false",
        "-c", "protocol.allow=never", "-c", "protocol.https.allow=always",
        "-c", "protocol.file.allow=always", "-c", "fetch.recurseSubmodules=false")  # fmt: skip
FILES = ("100644", "100755")
"""Modes of files; links and submodules point elsewhere and are left out."""
WANTED = "refs/llmctl/wanted"
POINTER = b"version https://git-lfs.github.com/spec/"


class GitSource(Source):
    """Every file of a commit; hidden files, links and submodules are left out."""

    url: str = Field(min_length=1, description="Folder of a repository, or its https address.")
    ref: str = Field(
        "HEAD",
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/+-]*$",
        description="Branch, tag or commit.",
    )
    include: tuple[str, ...] = Field(
        ("*",), min_length=1, description="Shell patterns; the path of a file must fit one of them."
    )
    timeout: float = Field(600.0, gt=0, description="Seconds that fetching may take.")

    @field_validator("url")
    @classmethod
    def _https_or_folder(cls, url: str) -> str:
        scheme = url.partition("://")[0] if "://" in url else ""
        remote_copy = re.match(r"[\w.-]+@?[\w.-]*:", url) and not scheme
        if scheme not in ("", "https", "file") or remote_copy or "::" in url or url[0] == "-":
            raise ValueError("an https address or a folder is needed")
        if scheme == "https" and "@" in url.split("/")[2]:
            raise ValueError("holds a user name or a password; use git's credential helper")
        return url

    def units(self, scratch: Path) -> Iterator[Unit]:
        """The files of the commit in the order of their paths."""
        folder = self._repository(scratch)
        ref = self.ref if self._is_local() else WANTED
        commit = self._commit(folder, ref)
        told = {"commit": commit, "repository": self.url}
        with subprocess.Popen(
            self._command(folder, "cat-file", "--batch"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
        ) as objects:
            for name, path in self._tree(folder, commit):
                kept = scratch / "git" / name / Path(path).name
                if not kept.is_file():
                    _copy(objects, name, kept)
                if kept.stat().st_size < 1000 and kept.read_bytes().startswith(POINTER):
                    error = Unreadable("lfs_pointer", "its content is in Git LFS, not here")
                    yield Unit(path, error=error, meta=told)
                else:
                    yield Unit(path, kept, meta=told)
            assert objects.stdin is not None
            objects.stdin.close()

    def label(self) -> str:
        """The address and what of it."""
        return f"{self.url} at {self.ref}"

    def inputs(self) -> dict[str, Path | str]:
        """The objects of a repository say nothing; see `revisions`."""
        return {}

    def revisions(self) -> dict[str, str]:
        """The commit, for a repository on this machine."""
        return {"ref": self._commit(self._local(), self.ref)} if self._is_local() else {}

    def always(self) -> str:
        """A branch elsewhere may have moved; a commit that is named in full cannot."""
        fixed = self._is_local() or re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", self.ref)
        return "" if fixed else f"{self.label()} is asked again on every run"

    def _is_local(self) -> bool:
        return not self.url.startswith("https://")

    def _local(self) -> Path:
        return Path(self.url.removeprefix("file://"))

    def _repository(self, scratch: Path) -> Path:
        """The folder whose objects are read; what is elsewhere is fetched once, one commit deep."""
        if self._is_local():
            return self._local()
        folder = scratch / "repository"
        self._run(Path(), "init", "--quiet", "--bare", "--template=", "--", str(folder.absolute()))
        done = self._call(folder, "rev-parse", "--quiet", "--verify", WANTED)
        if done.returncode:
            check_online(self.label())
            self._run(
                folder, "fetch", "--quiet", "--depth=1", "--no-tags",
                "--", self.url, f"+{self.ref}:{WANTED}",
            )  # fmt: skip
        return folder

    def _commit(self, folder: Path, ref: str) -> str:
        if not folder.is_dir():
            raise InputError(f"source.url: {folder} is not there")
        done = self._call(
            folder, "rev-parse", "--quiet", "--verify", "--end-of-options", f"{ref}^{{commit}}"
        )
        if done.returncode:
            why = _first_line(done.stderr) or f"no commit is named {self.ref}"
            raise InputError(f"source.ref: {self.label()}: {why}")
        return done.stdout.decode().strip()

    def _tree(self, folder: Path, commit: str) -> Iterator[tuple[str, str]]:
        """(name of the object, path) of the files that are wanted."""
        listing = self._run(folder, "ls-tree", "-r", "-z", "--full-tree", commit)
        for entry in listing.split(b"\0"):
            if not entry:
                continue
            about, _, raw = entry.partition(b"\t")
            mode, _, name = about.decode().split(" ")
            path = raw.decode("utf-8", "replace")
            hidden = any(part.startswith(".") for part in path.split("/"))
            if mode in FILES and not hidden and any(fnmatch(path, p) for p in self.include):
                yield name, path

    def _command(self, folder: Path, *arguments: str) -> list[str]:
        binary = shutil.which("git")
        if binary is None:
            raise MissingError("the source git needs the program git: apt-get install git")
        return [binary, "-C", str(folder.absolute()), *SAFE, *arguments]

    def _call(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = self._command(folder, *arguments)
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self.timeout,
                env=_environment(),
            )
        except subprocess.TimeoutExpired:
            raise LlmctlError(
                f"{self.label()}: not fetched within {self.timeout:g} s; raise source.timeout"
            ) from None

    def _run(self, folder: Path, *arguments: str) -> bytes:
        done = self._call(folder, *arguments)
        if done.returncode:
            raise LlmctlError(f"{self.label()}: git {arguments[0]}: {_first_line(done.stderr)}")
        return done.stdout


def _environment() -> dict[str, str]:
    """Nobody is asked for a password, and no object is fetched behind our back."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k == "GIT_SSL_CAINFO"}
    return {**own, "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}


def _first_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[0][:300] if lines else ""


def _copy(objects: subprocess.Popen[bytes], name: str, path: Path) -> None:
    """One object's bytes into a file, in pieces; the file appears when it is whole."""
    assert objects.stdin is not None and objects.stdout is not None
    objects.stdin.write(f"{name}\n".encode())
    objects.stdin.flush()
    head = objects.stdout.readline().split()
    if len(head) != 3:
        raise LlmctlError(f"git cat-file: object {name} is missing; the repository is damaged")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent.with_name(f"{name}.partial")
    with partial.open("wb") as file:
        _pieces(objects.stdout, file, int(head[2]))
    objects.stdout.read(1)
    partial.replace(path)


def _pieces(source: IO[bytes], target: IO[bytes], size: int) -> None:
    while size:
        data = source.read(min(size, 1 << 20))
        if not data:
            raise LlmctlError("git cat-file: ended in the middle of an object")
        target.write(data)
        size -= len(data)
