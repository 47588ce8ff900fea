"""`make demo`: documents go in, a tuned, aligned, quantized, measured model answers over HTTP.

Every stage is the real command in a process of its own, under a socket guard that allows only
loopback (scripts/guard). The demo fails when tuning did nothing: held-out loss has to fall and the
preference for the better answers has to rise, each beyond two standard errors.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DEMO = Path("build/demo")
GUARD_LOG = DEMO / "guard.log"
REQUEST = DEMO / "request.json"
QUESTION = "What does llmctl do when nothing has changed since the last run?"
READY_SECONDS = 180.0
STAGES = (
    ("ingest", "recipes/ingest/demo.yaml"),
    ("build-dataset", "recipes/build-dataset/demo.yaml"),
    ("build-dataset", "recipes/build-dataset/demo-pairs.yaml"),
    ("dedup", "recipes/dedup/demo.yaml"),
    ("sft", "recipes/sft/demo.yaml"),
    ("dpo", "recipes/dpo/demo.yaml"),
    ("quantize", "recipes/quantize/demo.yaml"),
    ("eval", "recipes/eval/demo.yaml"),
)
SERVE = "recipes/serve/demo.yaml"


class DemoError(Exception):
    """The demo did not show what it has to show."""


@dataclass
class Row:
    """One line of the closing table."""

    stage: str
    artifact: str
    what: str
    seconds: float
    memory_mb: int
    report: str
    ran: bool


def environment() -> dict[str, str]:
    """Offline, guarded, and quiet about things that are no news."""
    path = os.pathsep.join(
        filter(None, [str(ROOT / "scripts/guard"), os.environ.get("PYTHONPATH")])
    )
    return {
        **os.environ,
        "PYTHONPATH": path,
        "LLMCTL_GUARD_LOG": str(GUARD_LOG.absolute()),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def command(*args: str) -> list[str]:
    """The command line as users run it."""
    return [sys.executable, "-m", "llmctl", *args]


def manifest_of(out: Path) -> dict[str, Any]:
    """The manifest of an artifact."""
    found: dict[str, Any] = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    return found


def plan(stage: str, recipe: str) -> dict[str, Any] | None:
    """What the stage would do now; None when its inputs are not there yet."""
    done = subprocess.run(
        command(stage, recipe, "--dry-run", "--json"),
        env=environment(),
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout) if done.returncode == 0 else None


def everything_is_current() -> list[dict[str, Any]] | None:
    """The plans of all stages when nothing has to run: they are asked side by side."""
    if not REQUEST.exists():
        return None
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
        plans = list(pool.map(lambda each: plan(*each), STAGES))
    current = all(each is not None and each["status"] == "up to date" for each in plans)
    return [each for each in plans if each is not None] if current else None


def run_stage(stage: str, recipe: str) -> Row:
    """Run one stage; its progress goes to the terminal as it is."""
    print(f"\n== llmctl {stage} {recipe}", flush=True)
    process = subprocess.Popen(
        command(stage, recipe, "--json", "--offline"),
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        text = process.stdout.read()
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    if code:
        raise DemoError(f"llmctl {stage} {recipe} ended with exit code {code}")
    result = json.loads(text)
    return row_of(stage, Path(result["out"]), ran=result["status"] != "up to date")


def row_of(stage: str, out: Path, *, ran: bool) -> Row:
    """The table's line of a finished artifact, from its manifest."""
    manifest = manifest_of(out)
    timing = manifest["timing"]
    report = out / "report.html"
    return Row(
        stage,
        str(out),
        what_came_out(stage, manifest),
        timing["seconds"],
        timing["peak_memory_mb"],
        str(report) if report.exists() else "",
        ran,
    )


def what_came_out(stage: str, manifest: dict[str, Any]) -> str:
    """One phrase per stage, from numbers in the manifest."""
    metrics = manifest["metrics"]
    rows = {name: each["rows"] for name, each in manifest["outputs"].items() if "rows" in each}
    if stage == "ingest":
        return f"{metrics['documents']} documents, {metrics['chunks']} chunks"
    if stage in ("build-dataset", "dedup"):
        kept = {n.partition(".")[0]: c for n, c in rows.items() if n.endswith(".jsonl")}
        return ", ".join(f"{name} {count}" for name, count in kept.items())
    if stage == "sft":
        return f"loss {metrics['eval_loss_before']:.3f} -> {metrics['eval_loss_after']:.3f}"
    if stage == "dpo":
        return f"preference {metrics['preference_before']:.2f} -> {metrics['preference_after']:.2f}"
    if stage == "quantize":
        sizes = {n: o["bytes"] / 1e6 for n, o in manifest["outputs"].items() if n.endswith(".gguf")}
        return ", ".join(
            f"{Path(n).stem.rpartition('-')[2]} {mb:.0f} MB" for n, mb in sizes.items()
        )
    return ", ".join(
        f"{name.partition('.')[0]} "
        f"{metrics[name] - metrics[f'{name}_diff']:.2f} -> {metrics[name]:.2f}"
        for name in ("loss.loss", "preference.preference", "arc_easy.acc")
    )


def check_tuning() -> list[str]:
    """The two claims of the demo with their error bars; raises when one does not hold."""
    sft = manifest_of(DEMO / "sft")["metrics"]
    dpo = manifest_of(DEMO / "dpo")["metrics"]
    claims = (
        ("held-out loss after SFT", "nats per token", sft, "eval_loss", -1),
        ("preference for the better answer after DPO", "share of pairs", dpo, "preference", 1),
    )
    lines, broken = [], []
    for what, unit, metrics, name, sign in claims:
        change, error = metrics[f"{name}_diff"], metrics[f"{name}_diff_se"]
        line = (
            f"{what}: {metrics[f'{name}_before']:.3f} ± {metrics[f'{name}_before_se']:.3f} -> "
            f"{metrics[f'{name}_after']:.3f} ± {metrics[f'{name}_after_se']:.3f} {unit}; "
            f"change {change:+.3f} ± {error:.3f} (n={metrics['eval_rows']}, paired, ± 1 SE)"
        )
        lines.append(line)
        if not sign * change > 2 * error:
            broken.append(line)
    if broken:
        raise DemoError("tuning did nothing that can be told from noise: " + "; ".join(broken))
    return lines


def request_key() -> str:
    """What the served answer depends on: recipe, question and the artifacts behind it."""
    keys = [manifest_of(DEMO / name)["key"] for name in ("ingest", "quantize")]
    parts = [*keys, Path(SERVE).read_text(encoding="utf-8"), QUESTION]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def serve_once() -> Row:
    """Start the server, ask one question with the official client, stop it with SIGTERM."""
    if REQUEST.exists():
        answer = json.loads(REQUEST.read_text(encoding="utf-8"))
        if answer["key"] == request_key():
            print(f"\n== llmctl serve {SERVE}\nserve: the answer in {REQUEST} is up to date")
            return serve_row(answer, ran=False)
    print(f"\n== llmctl serve {SERVE}", flush=True)
    started = time.monotonic()
    process = subprocess.Popen(
        command("serve", SERVE, "--offline"), env=environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        asked = ask(address_of(process))
    finally:
        process.send_signal(signal.SIGTERM)
        # wait4 gives the peak memory of this server alone
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise DemoError(f"the server ended with {process.returncode} on SIGTERM")
    answer = {
        "key": request_key(),
        **asked,
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_mb": usage.ru_maxrss // 1024,
    }
    REQUEST.write_text(json.dumps(answer, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return serve_row(answer, ran=True)


def address_of(process: subprocess.Popen[str]) -> str:
    """The address that the server prints on stdout when it is ready."""
    assert process.stdout is not None
    watchdog = threading.Timer(READY_SECONDS, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            found = re.search(r"https?://[^\s\"']+", line)
            if found:
                return found[0].rstrip("/").removesuffix("/v1")
    finally:
        watchdog.cancel()
    raise DemoError("the server ended before it was ready")


def ask(address: str) -> dict[str, Any]:
    """One chat completion through the official OpenAI client, in a guarded process of its own."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/demo_client.py"), address, QUESTION],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        timeout=READY_SECONDS,
    )
    if done.returncode:
        raise DemoError(f"the OpenAI client failed with exit code {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if not answer["answer"].strip():
        raise DemoError("the server gave an empty answer")
    if not answer["sources"]:
        raise DemoError("the server gave an answer without sources")
    return answer


def serve_row(answer: dict[str, Any], *, ran: bool) -> Row:
    """Show the answer with its sources; return the table's line."""
    print(f"question: {QUESTION}\nanswer:   {' '.join(answer['answer'].split())}")
    print(f"sources:  {', '.join(answer['sources'])}")
    what = f"1 request, {answer['tokens']} tokens, {len(answer['sources'])} sources"
    return Row(
        "serve",
        str(DEMO / "serve"),
        what,
        answer["seconds"],
        answer["peak_memory_mb"],
        str(REQUEST),
        ran,
    )


def table(rows: list[Row]) -> str:
    """Aligned columns; the last line sums seconds and takes the largest memory."""
    head = ("stage", "artifact", "what came out", "seconds", "peak MB", "report")
    lines = [
        (r.stage, r.artifact, r.what, f"{r.seconds:.1f}", str(r.memory_mb), r.report) for r in rows
    ]
    total = sum(row.seconds for row in rows)
    peak = max(row.memory_mb for row in rows)
    lines.append(("all", "", "", f"{total:.1f}", str(peak), ""))
    widths = [max(len(line[n]) for line in (head, *lines)) for n in range(len(head))]
    shown = []
    for line in (head, tuple("-" * width for width in widths), *lines):
        cells = (
            text.rjust(width) if n in (3, 4) else text.ljust(width)
            for n, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        shown.append("  ".join(cells).rstrip())
    return "\n".join(shown)


def guard_line() -> str:
    """How many processes ran guarded and what was refused; raises when none was guarded."""
    lines = GUARD_LOG.read_text(encoding="utf-8").splitlines() if GUARD_LOG.exists() else []
    active = sum(line.startswith("active") for line in lines)
    refused = [line for line in lines if line.startswith("refused")]
    if not active:
        raise DemoError("the socket guard was not active")
    hosts = sorted({line.split()[1] for line in refused})
    detail = f" ({', '.join(hosts)})" if hosts else ""
    return (
        f"network: loopback only; the guard was active in {active} processes "
        f"and refused {len(refused)} attempts{detail}"
    )


def run() -> None:
    """The chain, the two claims, the table."""
    os.chdir(ROOT)
    started = time.monotonic()
    DEMO.mkdir(parents=True, exist_ok=True)
    GUARD_LOG.unlink(missing_ok=True)
    current = everything_is_current()
    if current is not None:
        rows = []
        for (stage, recipe), each in zip(STAGES, current, strict=True):
            print(f"== llmctl {stage} {recipe}\n{stage}: {each['out']} is up to date")
            rows.append(row_of(stage, Path(each["out"]), ran=False))
    else:
        rows = [run_stage(stage, recipe) for stage, recipe in STAGES]
    rows.append(serve_once())
    claims = check_tuning()
    print(f"\n{table(rows)}\n")
    print("\n".join(claims))
    print(guard_line())
    ran = sum(row.ran for row in rows)
    print(f"{ran} of {len(rows)} stages ran; this run took {time.monotonic() - started:.1f} s")


def main() -> int:
    """Exit code 0 when the chain ran and the claims hold."""
    try:
        run()
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; run again to continue", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
