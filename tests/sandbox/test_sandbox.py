"""The sandbox against programs that want out, want all, or want to look finished."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from llmctl.errors import MissingError
from llmctl.sandbox import _jail, run
from llmctl.sandbox.limits import Limits

try:
    run.check()
except MissingError as missing:
    pytest.skip(str(missing), allow_module_level=True)

SMALL = Limits(seconds=1.5, memory_mb=128, files_mb=1, output_kb=8)
SECRET = "a-secret-of-the-parent"
CLIMB = """
try:
    print("escaped", {expression})
except OSError as error:
    print("kept in:", error.strerror)
"""


def test_a_program_runs_to_its_end() -> None:
    found = run.run("import json, math, re, random, datetime\nprint(input().upper())", stdin="hi\n")
    assert (found.status, found.output, found.error) == ("done", "HI\n", "")


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("while True: pass", "timeout"),
        ("import time\ntime.sleep(60)", "timeout"),
        ("import signal\nsignal.signal(15, signal.SIG_IGN)\nwhile True: pass", "timeout"),
        ("x = []\nwhile True: x.append(bytearray(10**6))", "memory"),
        ("x = 'a' * 10**11", "memory"),
        ("while True: print('x' * 999)", "output"),
        ("import sys\nwhile True: sys.stderr.write('x' * 999)", "output"),
        ("n = 0\nwhile True:\n  open(str(n), 'w').write('x' * 9999)\n  n += 1", "files"),
        ("import os\nn = 0\nwhile True:\n  os.mkdir(str(n))\n  n += 1", "files"),
        ("import os\nwhile True:\n  os.mkdir('a')\n  os.chdir('a')", "files"),
        ("import os\nwhile True:\n  os.mkdir('a' * 255)\n  os.chdir('a' * 255)", "files"),
        ("import os, time\nos.close(1); os.close(2)\n"
         "for n in range(300): open(str(n), 'wb').write(bytes(2**20)); time.sleep(0.004)", "files"),
        ("import os, time\nkept = [open(str(n), 'wb') for n in range(40)]\n"
         "for file in kept: os.unlink(file.name); file.write(bytes(2**20)); file.flush()\n"
         "time.sleep(1)", "files"),
        ("import os\nos.posix_fallocate(os.open('f', os.O_CREAT | os.O_RDWR), 0, 9)", "failed"),
        ("f = open('f', 'wb')\nwhile True: f.write(b'x' * 10**6)", "failed"),
        ("import os\nwhile True: os.fork()", "failed"),
        ("import subprocess\nsubprocess.run(['true'])", "failed"),
        ("import multiprocessing\nmultiprocessing.Process(target=print).start()", "failed"),
        ("import threading as t, time\nwhile True: t.Thread(target=time.sleep, args=[9]).start()",
         "failed"),
        ("import os\nos.kill(os.getppid(), 9)", "failed"),
        ("import os, signal\nos.killpg(os.getpgid(os.getppid()), signal.SIGKILL)", "failed"),
        ("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "failed"),
        ("import resource, os\nresource.prlimit(os.getppid(), 0, (1, 1))", "failed"),
        ("import ctypes\nctypes.string_at(0)", "failed"),
        ("def f(): f()\nf()", "failed"),
        ("assert 1 == 2", "failed"),
        ("this is no Python", "failed"),
        ("raise SystemExit", "exited"),
        ("import os\nos._exit(0)", "exited"),
        ("import sys\nsys.exit(3)", "failed"),
    ],
)  # fmt: skip
def test_limits_and_endings(program: str, status: str) -> None:
    assert run.run(program, SMALL).status == status


@pytest.mark.parametrize(
    "expression",
    [
        "open('{file}').read()",
        "open('{file}', 'w')",
        "open('{folder}/new', 'w')",
        "__import__('os').unlink('{file}')",
        "__import__('os').rename('{file}', 'mine')",
        "__import__('os').truncate('{file}', 0)",
        "__import__('os').chmod('{file}', 0o777)",
        "__import__('os').utime('{file}')",
        "__import__('os').listdir('{folder}')",
        "__import__('os').symlink('{file}', 'link') or open('link').read()",
        "__import__('os').link('{file}', 'link')",
        "open(f'/proc/{{__import__(\"os\").getppid()}}/environ').read()",
        "open('/proc/self/mem', 'rb')",
        "open('/etc/passwd').read()",
        "__import__('os').memfd_create('x')",
        "__import__('socket').create_connection(('127.0.0.1', {port}))",
        "__import__('socket').socket(__import__('socket').AF_UNIX)",
        "__import__('os').execv('/bin/true', ['true'])",
        "__import__('os').posix_spawn('/bin/true', ['true'], {{}})",
        "__import__('os').setpriority(0, __import__('os').getppid(), 19)",
    ],
)
def test_nothing_outside_is_reached(expression: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text(SECRET)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        text = expression.format(file=file, folder=tmp_path, port=port)
        found = run.run(CLIMB.format(expression=text))
    assert found.status == "done", found
    assert found.output.startswith("kept in: "), found.output
    assert file.read_text() == SECRET and os.listdir(tmp_path) == ["file"]


DOOR = """
import ctypes, fcntl, os, platform, socket, struct
victim, arm, libc = int(input()), platform.machine() == "aarch64", ctypes.CDLL(None, use_errno=True)

def call(numbers, *values):
    if libc.syscall(ctypes.c_long(numbers[arm]), *values) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

try:
    {lines}
    print("escaped")
except OSError as error:
    print("kept in:", error.strerror)
"""
READY = "fcntl.fcntl(r, 10, 9); fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC); os.write(w, b'x')"


@pytest.mark.parametrize(
    "lines",
    [
        "os.kill(victim, 9)",
        f"r, w = os.pipe(); fcntl.fcntl(r, fcntl.F_SETOWN, victim); {READY}",
        f"r, w = os.pipe(); fcntl.fcntl(r, 15, struct.pack('ii', 1, victim)); {READY}",
        f"r, w = socket.socketpair(); fcntl.ioctl(r, 0x8901, struct.pack('i', victim)); {READY}",
        f"r, w = socket.socketpair(); fcntl.ioctl(r, 0x8902, struct.pack('i', victim)); {READY}",
        "call((129, 138), victim, 9, struct.pack('iiiq', 9, 0, -1, 0) + bytes(108))",
        "call((297, 240), victim, victim, 9, struct.pack('iiiq', 9, 0, -1, 0) + bytes(108))",
        "call((234, 131), victim, victim, 9)",
        "call((200, 130), victim, 9)",
        "call((424, 424), os.open(f'/proc/{{victim}}', os.O_RDONLY), 9, None, 0)",
        "call((157, 167), 1, 0)",  # to live on when llmctl is gone
        "call((157, 167), 4, 0)",  # to hide its open files
        "call((256, 238), victim, 64, bytes(8), bytes(8))",
        "call((30, 196), 0, None, 0)",
    ],
)
def test_no_other_process_is_reached(lines: str) -> None:
    with subprocess.Popen(["sleep", "600"]) as victim:
        found = run.run(DOOR.replace("{lines}", lines.replace("{{", "{").replace("}}", "}")),
                        stdin=f"{victim.pid}\n")  # fmt: skip
        alive = victim.poll() is None
        victim.kill()
    assert found.status == "done" and found.output.startswith("kept in: "), found
    assert alive


def test_no_datagram_reaches_a_socket_of_the_machine(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(tmp_path / "log"))
        log.setblocking(False)
        pair = "__import__('socket').socketpair(type=__import__('socket').SOCK_DGRAM)[0]"
        found = run.run(CLIMB.format(expression=f"{pair}.sendto(b'x', '{tmp_path}/log')"))
        assert found.output.startswith("kept in: "), found
        with pytest.raises(BlockingIOError):
            log.recv(1)


def test_event_loops_still_run() -> None:
    found = run.run("import asyncio\nasync def f(): return 1\nprint(asyncio.run(f()))")
    assert (found.status, found.output) == ("done", "1\n"), found


def test_the_environment_is_empty_of_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", SECRET)
    program = "import os, sys\nprint(dict(os.environ), sys.argv, sys.orig_argv, os.listdir())"
    found = run.run(program)
    assert found.status == "done" and SECRET not in found.output
    assert "settings.json" not in found.output


def test_its_own_folder_can_be_written_and_is_gone_afterwards() -> None:
    found = run.run("open('a', 'w').write('b')\nimport os\nprint(open('a').read(), os.getcwd())")
    letter, folder = found.output.split()
    assert letter == "b" and not Path(folder).exists()


@pytest.mark.parametrize(
    "program",
    [
        "for n in range(400): os.mkdir('a'); os.chdir('a')",
        "for n in range(14): os.mkdir('a' * 255); os.chdir('a' * 255)",
        "os.mkdir('a'); open('a/b', 'w').close(); os.mkdir('a/c', 0)",
    ],
)
def test_whatever_a_program_leaves_is_removed(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(300)  # a thousand folders in each other take seconds to make
    try:
        assert run.run(f"import os\n{program}").status == "done"
    finally:
        sys.setrecursionlimit(usual)
    assert not os.listdir(tmp_path)


def test_threads_and_packages_are_possible() -> None:
    program = (
        "import threading\nt = threading.Thread(target=print, args=['x'])\nt.start()\nt.join()"
    )
    assert run.run(program).output == "x\n"
    numpy = "import numpy\nprint(numpy.arange(3).sum())"
    assert run.run(numpy).status == "failed"
    assert run.run(numpy, Limits(packages=True, seconds=60, memory_mb=2048)).output == "3\n"


def test_the_filter_has_each_call_once_on_both_machines() -> None:
    for column in (0, 1):
        numbers = [each[column] for each in _jail.FORBIDDEN.values() if each[column] is not None]
        assert len(numbers) == len(set(numbers))
    for machine in _jail.ARCHITECTURES:
        program = _jail.filter_of(machine, 1)
        assert len(program) % 8 == 0 and len(program) // 8 < 4096  # the kernel's limit


def test_a_machine_that_cannot_isolate_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_run", lambda *_: run.Outcome("done", "", "", 0.0))
    run.check.cache_clear()
    with pytest.raises(MissingError, match="Landlock and seccomp"):
        run.run("print(1)")
    monkeypatch.undo()
    run.check.cache_clear()


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    """A killed llmctl leaves no program behind."""
    code = (
        "from llmctl.sandbox.run import run\nfrom llmctl.sandbox.limits import Limits\n"
        "run('import time\\nprint(1, flush=True)\\ntime.sleep(60)', Limits(seconds=60))"
    )
    # what a killed llmctl leaves is its folder: not in the machine's own
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    children: list[str] = []
    while not children and parent.poll() is None:
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(parent.pid)], capture_output=True, text=True
        ).stdout.split()
        children = [pid for pid in listed if _jail.__file__ in cmdline(pid)]
    assert children
    parent.kill()
    parent.wait()
    while any(_jail.__file__ in cmdline(pid) for pid in children):
        pass


def cmdline(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
