"""The sandbox against programs that want out, want all, or want to look finished."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
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
    parent = subprocess.Popen([sys.executable, "-c", code])
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
