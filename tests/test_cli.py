"""The command line is a contract: help, errors, streams, exit codes.

`UPDATE=1` rewrites the snapshots.
"""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, Run
from typer.main import get_command

from llmctl import cli
from llmctl.schema.base import STAGES
from llmctl.words import typed

SNAPSHOTS = Path(__file__).parent / "snapshots"
PLAIN = {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}
SMOKE = ROOT / "recipes" / "dedup" / "smoke.yaml"


def commands() -> list[list[str]]:
    """Every command and group of the command line."""
    found: list[list[str]] = [[]]
    for name, command in sorted(get_command(cli.app).commands.items()):  # type: ignore[attr-defined]
        found.append([name])
        found += [[name, below] for below in sorted(getattr(command, "commands", {}))]
    return found


def compare(name: str, text: str) -> None:
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("UPDATE"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("command", commands(), ids=lambda c: "-".join(c) or "llmctl")
def test_help(llmctl: Run, command: list[str]) -> None:
    result = llmctl(*command, "--help", env=PLAIN)
    assert result.returncode == 0 and result.stderr == ""
    compare("help-" + ("-".join(command).replace(" ", "-") or "llmctl"), result.stdout)


def test_the_stages_are_the_eight() -> None:
    assert tuple(cli.STAGES) == STAGES


ERRORS = {
    "no-command": (["sfft", "x.yaml"], 2),
    "no-recipe": (["sft"], 2),
    "missing-recipe": (["sft", "none.yaml"], 2),
    "wrong-stage": (["sft", "good.yaml"], 2),
    "unknown-key": (["dedup", "typo.yaml"], 2),
    "unknown-kind": (["dedup", "kind.yaml"], 2),
    "kind-without-keys": (["eval", "bare.yaml"], 2),
    "bad-value": (["dedup", "good.yaml", "--set", "seed=soon"], 2),
    "bad-set": (["dedup", "good.yaml", "--set", "seed"], 2),
    "empty-sweep": (["dedup", "good.yaml", "--sweep", ""], 2),
    "bad-sweep": (["dedup", "good.yaml", "--sweep", "0.5]"], 2),
    "missing-input": (["dedup", "good.yaml"], 2),
    "invalid-yaml": (["dedup", "broken.yaml"], 2),
    "list-recipe": (["dedup", "list.yaml"], 2),
    "empty-recipe": (["dedup", "empty.yaml"], 2),
    "folder-recipe": (["dedup", "folder"], 2),
    "unknown-schema": (["schema", "sftt"], 2),
    "unknown-recipe": (["recipes", "show", "sft/smok"], 2),
    "no-artifact": (["lineage", "show", "folder"], 2),
    "validate-all": (["validate", "typo.yaml", "broken.yaml", "good.yaml"], 2),
    "missing-env": (["dedup", "env.yaml"], 2),
}


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """A folder full of mistakes."""
    good = "stage: dedup\nout: build/x\ndata: none.jsonl\n"
    files = {
        "good.yaml": good,
        "typo.yaml": good + "sed: 3\n",
        "bare.yaml": "stage: eval\nout: build/x\nmodel: m\ntasks: [choice]\n",
        "kind.yaml": good + "methods:\n  - kind: minhsh\n",
        "broken.yaml": "stage: [dedup\n",
        "list.yaml": "- stage: dedup\n",
        "empty.yaml": "",
        "env.yaml": good + "seed: ${env:LLMCTL_NOT_SET}\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", ERRORS)
def test_errors(llmctl: Run, wrong: Path, name: str) -> None:
    arguments, code = ERRORS[name]
    result = llmctl(*arguments, env=PLAIN, cwd=wrong)
    assert result.returncode == code
    assert result.stdout == "" and "Traceback" not in result.stderr
    compare(f"error-{name}", result.stderr)


def test_help_on_a_full_stdout_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "llmctl", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (
        1, "cannot write to stdout: No space left on device\n",
    )  # fmt: skip


def test_stdout_is_the_result_alone(llmctl: Run, tmp_path: Path) -> None:
    first = llmctl("dedup", SMOKE, "--out", tmp_path / "a")
    assert (first.returncode, first.stdout) == (0, f"{tmp_path / 'a'}\n")
    assert "runs because: no artifact" in first.stderr
    again = llmctl("dedup", SMOKE, "--out", tmp_path / "a")
    assert (again.returncode, again.stdout) == (0, f"{tmp_path / 'a'}\n")
    assert again.stderr.strip() == f"dedup: {tmp_path / 'a'} is up to date"
    quiet = llmctl("dedup", SMOKE, "--out", tmp_path / "a", "-q", "--force")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    document = json.loads(llmctl("dedup", SMOKE, "--out", tmp_path / "a", "--json").stdout)
    assert document["status"] == "up to date" and document["out"] == str(tmp_path / "a")


def test_plan_takes_what_a_dry_run_takes() -> None:
    """So that a command that runs is planned by one other word."""
    stage, plan = (get_command(cli.app).commands[name] for name in ("sft", "plan"))  # type: ignore[attr-defined]
    missing = {option.name for option in stage.params} - {option.name for option in plan.params}
    assert missing == {"dry_run"}


def test_a_dry_run_writes_nothing(llmctl: Run, tmp_path: Path) -> None:
    for arguments in (["dedup", SMOKE, "--dry-run"], ["plan", SMOKE]):
        result = llmctl(*arguments, "--out", tmp_path / "a", "--set", "seed=9")
        assert result.returncode == 0
        assert re.search(r"seed +9 +--set seed", result.stdout)
        assert re.search(rf"out +\"{tmp_path / 'a'}\" +--out", result.stdout)
        assert "because no artifact" in result.stdout
    document = json.loads(llmctl("plan", SMOKE, "--out", tmp_path / "a", "--json").stdout)
    assert document["status"] == "would run"
    assert document["origins"]["seed"] == "default"
    assert not list(tmp_path.iterdir())


def in_terminal(*arguments: str | Path, columns: int = 80) -> tuple[int, str]:
    """Run in a pseudo-terminal; returns the exit code and everything that was shown."""
    main, other = pty.openpty()
    command = [sys.executable, "-m", "llmctl", *map(str, arguments)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    with subprocess.Popen(
        command, stdin=other, stdout=other, stderr=other, env=environment, close_fds=True
    ) as process:
        os.close(other)
        shown = b""
        while True:
            try:
                part = os.read(main, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
    os.close(main)
    return process.returncode, shown.decode().replace("\r\n", "\n")


def test_a_table_fits_a_narrow_terminal() -> None:
    code, shown = in_terminal("recipes", "list", columns=50)
    assert code == 0 and max(map(len, shown.splitlines())) <= 50


def test_in_a_terminal(tmp_path: Path) -> None:
    code, shown = in_terminal("dedup", SMOKE, "--out", tmp_path / "a")
    assert code == 0 and str(tmp_path / "a") in shown.replace("\n", "")
    code, shown = in_terminal("dedup", tmp_path / "none.yaml")
    assert code == 2 and "no such recipe" in shown.replace("\n", "") and "Traceback" not in shown


def test_a_closed_pipe_is_no_traceback(llmctl: Run) -> None:
    command = f"{sys.executable} -m llmctl schema sft | head -1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.stdout.strip() == "{" and "Traceback" not in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end with 130 and leave nothing that looks done."""
    command = [sys.executable, "-m", "llmctl", "dedup", str(SMOKE), "--out", str(tmp_path / "a")]
    from llmctl.artifact import locked

    with locked(tmp_path / "a", "here"):
        # a job in the background of a shell ignores Ctrl-C, and so would its children
        process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stderr is not None
        assert "waiting for it" in process.stderr.readline()
        time.sleep(0.1)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.strip() == "interrupted; run again to continue"
    assert not (tmp_path / "a").exists()


def program(*body: str) -> str:
    """A program whose only command does what these lines say."""
    lines = "".join(f"        {line}\n" for line in body)
    return (
        "import signal, sys\nfrom llmctl.cli import app\n@app.command()\ndef slow():\n"
        "    from llmctl.reporting import reporting\n"
        f"    with reporting():\n{lines}app(['slow'])\n"
    )


IMPORTING = (
    "try:",
    "    signal.raise_signal(signal.SIGTERM)",
    "except KeyboardInterrupt as error:",
    "    raise ImportError('numpy failed') from None",
)


def shell(command: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A line for bash, in which `llmctl` is the command."""
    given = f'llmctl() {{ {sys.executable} -m llmctl "$@"; }}; {command}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(
        ["bash", "-c", given], capture_output=True, text=True, cwd=cwd, env=environment
    )


def test_a_stdout_that_knows_ascii_only_shows_escapes(tmp_path: Path) -> None:
    (tmp_path / "ä.yaml").write_text("# Grüße\nstage: dedup\nout: ä\ndata: ä.jsonl\n")
    (tmp_path / "ä.jsonl").write_text('{"text": "a"}\n')
    done = shell("llmctl dedup ä.yaml -q", tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\xe4\n", "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_stream_stops_nothing(tmp_path: Path, closed: str) -> None:
    done = shell(f"llmctl dedup {SMOKE} --out made {closed}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made" / "manifest.json").is_file()


def test_a_working_directory_that_is_gone_is_one_line(tmp_path: Path) -> None:
    done = shell(f"mkdir x; cd x; rmdir ../x; llmctl dedup {SMOKE}", tmp_path)
    assert done.returncode == 2
    assert done.stderr == "the working directory is not there any more; change to another one\n"


@pytest.mark.parametrize("text", ["é", "\udcc3\udca9"])
def test_what_was_typed_is_utf8_in_every_locale(text: str) -> None:
    assert typed(text) == "é"
    assert typed("\udcff") == "\ufffd"


def test_a_cache_that_cannot_be_kept_is_named() -> None:
    code = program("import os", "os.mkdir(os.environ['LLMCTL_CACHE'] + '/models')")
    env = {**os.environ, "LLMCTL_CACHE": "/proc/none"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    told = "/proc/none: the cache cannot be kept there; set LLMCTL_CACHE to a folder\n"
    assert (done.returncode, done.stderr) == (2, told)


def test_a_full_disk_that_a_library_tells_of_is_one_line() -> None:
    """SQLite has an error of its own for it; `ask` keeps its replies there."""
    full = "raise sqlite3.OperationalError('database or disk is full')"
    code = program("import sqlite3", full)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    told = "the disk is full; free some space and run again\n"
    assert (done.returncode, done.stderr) == (1, told)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("MemoryError", "the memory ran out; end other programs"),
        ("OSError(24, 'Too many open files', 'x')", "too many files are open; raise the limit"),
    ],
)
def test_a_limit_of_the_machine_is_one_line(raised: str, told: str) -> None:
    code = program(f"raise {raised}")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(told)


def test_a_recipe_may_come_through_a_pipe(tmp_path: Path) -> None:
    """It was read twice, the second time to nothing."""
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    recipe = "stage: dedup\\nout: made\\ndata: rows.jsonl\\n"
    done = shell(f"printf '{recipe}' | llmctl dedup /dev/stdin -q", tmp_path)
    assert (done.returncode, done.stdout) == (0, "made\n"), done.stderr


def test_an_import_that_is_interrupted_is_an_interrupt() -> None:
    """NumPy turns a KeyboardInterrupt of its import into an ImportError, others print it."""
    printing = (*IMPORTING[:3], "    sys.excepthook(type(error), error, None)", IMPORTING[3])
    for code in (program(*IMPORTING), program(*printing)):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 130
        assert done.stderr == "interrupted; run again to continue\n"


@pytest.mark.parametrize(
    "start", [["-m", "llmctl"], ["-c", "from llmctl import __main__ as m; m.main()"]]
)
def test_an_interrupt_before_the_commands_are_there_says_nothing(
    tmp_path: Path, start: list[str]
) -> None:
    (tmp_path / "typer.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, *start, "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_a_second_interrupt_ends_at_once() -> None:
    """While the interpreter ends, Python would print where each of its threads stood."""
    again = "import atexit, signal\natexit.register(signal.raise_signal, signal.SIGINT)\n"
    done = subprocess.run(
        [sys.executable, "-c", again + program(*IMPORTING)], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGINT
    assert done.stderr == "interrupted; run again to continue\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell: str) -> None:
    def complete(words: str) -> str:
        count = str(len(words.split(" ")) - 1)
        environment = {
            **os.environ,
            "_LLMCTL_COMPLETE": f"complete_{shell}",
            "_TYPER_COMPLETE_ARGS": words,
            "COMP_WORDS": words,
            "COMP_CWORD": count,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
        code = "import sys; sys.argv=['llmctl']; from llmctl.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            cwd=ROOT,
        ).stdout

    assert "build-dataset" in complete("llmctl build")
    assert "recipes/dedup/smoke.yaml" in complete("llmctl dedup recipes/dedup/sm")
    assert "seed=" in complete("llmctl dedup recipes/dedup/smoke.yaml --set se")


def test_secrets_are_not_printed(llmctl: Run, tmp_path: Path) -> None:
    """Planted tokens stay out of the manifest and out of every stream."""
    secret = "sk-planted-0123456789"
    env = {"OPENAI_API_KEY": secret, "HF_TOKEN": secret}
    results = [
        llmctl("dedup", SMOKE, "--out", tmp_path / "a", "-v", env=env),
        llmctl("plan", SMOKE, "--json", env=env),
        llmctl("doctor", "--json", env=env),
    ]
    for result in results:
        assert secret not in result.stdout + result.stderr
    assert secret not in (tmp_path / "a" / "manifest.json").read_text()
