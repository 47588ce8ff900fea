"""Child processes leave Ctrl-C to their parent and end with it, also when they are busy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORKER = """
import time
from llmctl.quantizers.gguf import worker
with worker(1) as run:
    print(run._process.pid, flush=True)
    time.sleep(60)
"""
TRAINING = """
import os, sys, time
from pathlib import Path
from llmctl.training import launch
folder = Path(sys.argv[1])
os.mkfifo(folder / "job.json")  # it waits for its job for ever
print(launch._start(folder, 1)[0].pid, flush=True)
time.sleep(60)
"""


def state(pid: int) -> list[str]:
    """(state, CPU time) of a process, as /proc/PID/stat has it; a gone one is a zombie."""
    try:
        found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return ["Z"]
    return [found[0], *found[11:13]]


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet is a zombie."""
    return state(pid)[0] == "Z"


def until_it_waits(pid: int) -> None:
    """Until a process has slept for half a second: it has begun, however busy the machine is."""
    asleep, before = 0, [""]
    while asleep < 10 and not gone(pid):
        now = state(pid)
        asleep = asleep + 1 if now == before and now[0] == "S" else 0
        before = now
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is a call of Linux")
@pytest.mark.parametrize("code", [WORKER, TRAINING], ids=["quantize", "training"])
def test_a_busy_child_ends_with_its_parent(tmp_path: Path, code: str) -> None:
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert os.getsid(pid) != os.getsid(parent.pid), "Ctrl-C would reach it, too"
        until_it_waits(pid)
        if not gone(pid):  # a stopped one reads nothing more
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
    for _ in range(100):
        if gone(pid):
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the child lives on")


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is a call of Linux")
def test_a_child_whose_parent_was_gone_before_it_looked_ends_too() -> None:
    code = "import sys; from llmctl import processes; processes.die_with_parent(int(sys.argv[1]))"
    for parent, wanted in ((os.getpid(), 0), (os.getppid(), -signal.SIGKILL)):
        done = subprocess.run([sys.executable, "-c", code, str(parent)], check=False)
        assert done.returncode == wanted
