"""Run one program in the sandbox and say how it ended.

A child process of its own: Landlock lets it read Python and write to a temporary folder, a system
call filter forbids sockets, processes, signals and what else reaches outside, limits of the kernel
bound time, memory and each file, and the environment is empty. Linux on x86_64 or aarch64 from
5.13. Where one of these cannot be had nothing is run. Output and all files together are watched,
ten times a second: what is written between two looks can be above the limit for that moment.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import selectors
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from llmctl.errors import MissingError
from llmctl.sandbox import _jail
from llmctl.sandbox.limits import Limits

Status = Literal["done", "exited", "failed", "timeout", "memory", "output", "files"]
READABLE = [
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo",
    "/etc/ld.so.cache", "/etc/localtime", "/dev/urandom", "/dev/random", "/dev/zero", "/dev/null",
]  # fmt: skip
WATCH_SECONDS = 0.1
BLOCK = 4096
DEFAULT = Limits.model_validate({})


@dataclass(frozen=True)
class Outcome:
    """How a program ended; `done` means that its last line was reached.

    exited: it called exit before that. failed: an exception or a signal. timeout, memory, output,
    files: the limit that it hit.
    """

    status: Status
    output: str
    error: str
    seconds: float

    @property
    def why(self) -> str:
        """One line for people: the exception, or the limit."""
        last = self.error.strip().splitlines()
        if self.status == "failed" and last:
            return last[-1][:200]
        return {"exited": "ended before its last line"}.get(self.status, self.status)


def run(program: str, limits: Limits = DEFAULT, stdin: str = "") -> Outcome:
    """Run a Python program; raises MissingError where it cannot be isolated.

    That the end was reached is told by a random word which the program is not given. A program
    that searches the memory of its own interpreter can still find it: what is checked here are
    mistakes and short cuts, not an attacker of the check.
    """
    check()
    return _run(program, limits, stdin)


@cache
def check() -> None:
    """Raise MissingError, once and for all, where programs cannot be isolated."""
    if sys.platform != "linux":
        raise MissingError(f"running generated code needs Linux, this is {sys.platform}")
    try:
        outcome = _run("import os\nos.open('/etc/hostname', os.O_RDONLY)", DEFAULT, "")
        why = "" if "PermissionError" in outcome.error else outcome.why
    except OSError as error:  # no descriptor that tells when a process ends
        why = str(error)
    if why:
        raise MissingError(
            "running generated code needs a sandbox that this machine does not give: "
            f"{why}; it takes Linux 5.13 or later with Landlock and seccomp"
        )


def _run(program: str, limits: Limits, stdin: str) -> Outcome:
    with _folder() as folder:
        (folder / "main.py").write_text(program, encoding="utf-8", errors="surrogatepass")
        (folder / "stdin").write_text(stdin, encoding="utf-8", errors="replace")
        token = secrets.token_hex(16)
        reads, writes = os.pipe()
        try:
            process = _started(folder, limits, token, writes)
        finally:
            os.close(writes)
        try:
            return _watched(process, folder, limits, token, reads)
        finally:
            os.close(reads)


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="llmctl-sandbox-"))
    try:
        yield folder
    finally:
        try:
            shutil.rmtree(folder)
        except (OSError, RecursionError):
            # too deep for Python, or folders that their program made unreadable
            for command in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
                subprocess.run([*command, "--", str(folder)], capture_output=True, check=False)


def _started(folder: Path, limits: Limits, token: str, status: int) -> subprocess.Popen[bytes]:
    prefixes = {sys.base_prefix, sys.base_exec_prefix, os.path.dirname(os.__file__)}
    if limits.packages:
        prefixes |= {sys.prefix, *(p for p in sys.path if p.endswith("-packages"))}
    settings = {
        **limits.model_dump(),
        "cpu_seconds": math.ceil(limits.seconds) + 1,
        "status": status,
        "token": token,
        "readable": [*READABLE, *sorted(prefixes)],
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    flags = ["-s", "-P", "-B", *([] if limits.packages else ["-S"])]
    with (folder / "stdin").open("rb") as stdin:
        return subprocess.Popen(
            [sys.executable, *flags, _jail.__file__],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={
                "LANG": "C.UTF-8", "HOME": str(folder), "TMPDIR": str(folder),
                "PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            },
            pass_fds=[status],
            start_new_session=True,
        )  # fmt: skip


def _watched(
    process: subprocess.Popen[bytes], folder: Path, limits: Limits, token: str, status: int
) -> Outcome:
    """Collect the output until the end or until a limit is passed."""
    began = time.monotonic()
    assert process.stdout and process.stderr
    texts = {process.stdout: b"", process.stderr: b""}
    hit: Status | None = None
    try:
        with _end_of(process) as gone, selectors.DefaultSelector() as selector:
            selector.register(gone, selectors.EVENT_READ)
            for stream in texts:
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map() and hit is None:
                left = began + limits.seconds - time.monotonic()
                for key, _ in selector.select(max(0.0, min(left, WATCH_SECONDS))):
                    data = b"" if key.fileobj == gone else os.read(key.fd, 1 << 16)
                    if data:
                        texts[key.fileobj] += data  # type: ignore[index]
                    else:
                        selector.unregister(key.fileobj)
                if sum(map(len, texts.values())) > limits.output_kb << 10:
                    hit = "output"
                elif _larger(folder, process.pid, (limits.files_mb << 20) + (1 << 16)):
                    hit = "files"
                elif left <= 0:
                    hit = "timeout"
    finally:
        process.kill()  # nothing, where it ended by itself
        process.wait()
    os.set_blocking(status, False)
    reached = _read(status) == token.encode()
    seconds = time.monotonic() - began
    output, error = (text[: limits.output_kb << 10].decode(errors="replace")
                     for text in texts.values())  # fmt: skip
    for stream in texts:
        stream.close()
    return Outcome(hit or _status(process.returncode, reached), output, error, seconds)


@contextmanager
def _end_of(process: subprocess.Popen[bytes]) -> Iterator[int]:
    """A descriptor that is ready once the process ended, whatever it did to its streams."""
    gone = os.pidfd_open(process.pid)
    try:
        yield gone
    finally:
        os.close(gone)


def _read(status: int) -> bytes:
    try:
        return os.read(status, 256)
    except BlockingIOError:
        return b""


def _status(code: int, reached: bool) -> Status:
    if code == 0:
        return "done" if reached else "exited"
    if code == _jail.OUT_OF_MEMORY:
        return "memory"
    if code == -24:  # SIGXCPU
        return "timeout"
    return "failed"


def _larger(folder: Path, pid: int, most: int) -> bool:
    """Whether the files take more bytes, at least a block for each entry, with or without a name.

    What vanishes meanwhile is nothing; counting ends at the limit, however many entries there are.
    What cannot be counted, because it lies too deep or was made unreadable, is too much.
    """
    most -= _unnamed(pid)
    waiting = [str(folder)]
    while waiting and most >= 0:
        try:
            with os.scandir(waiting.pop()) as entries:
                for each in entries:
                    with suppress(FileNotFoundError):
                        most -= _size(each.stat(follow_symlinks=False))
                    if most < 0:
                        break
                    if each.is_dir(follow_symlinks=False):
                        waiting.append(each.path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return True
    return most < 0


def _unnamed(pid: int) -> int:
    """Bytes of the files that a process has open and that stand in no folder any more."""
    total = 0
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return 0  # it ended, and these files with it
    for each in descriptors:
        with suppress(OSError):  # closed meanwhile
            found = os.stat(f"/proc/{pid}/fd/{each}")
            if stat.S_ISREG(found.st_mode) and not found.st_nlink:
                total += _size(found)
    return total


def _size(found: os.stat_result) -> int:
    return max(BLOCK, found.st_size, found.st_blocks * 512)
