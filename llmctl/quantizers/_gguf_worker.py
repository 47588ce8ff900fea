"""llama-cpp-python in a process of its own: quantizes, tokenizes, measures; one JSON line each way.

Two copies of llama.cpp must not meet in one process, and a crash there is not ours.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmctl import processes


def types() -> dict[str, int]:
    """Name -> llama.cpp's number of every file type that can be made."""
    import llama_cpp

    prefix = "LLAMA_FTYPE_MOSTLY_"
    found = {n.removeprefix(prefix): getattr(llama_cpp, n) for n in dir(llama_cpp) if prefix in n}
    return {name: int(number) for name, number in found.items()}


def quantize(source: str, target: str, type: str, threads: int) -> dict[str, Any]:
    """Write `target`; raises RuntimeError when llama.cpp refuses."""
    import llama_cpp

    known = types()
    if type not in known:
        raise RuntimeError(f"llama.cpp has no type {type}; it has {', '.join(sorted(known))}")
    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread = threads
    params.ftype = known[type]
    code = llama_cpp.llama_model_quantize(
        os.fsencode(source), os.fsencode(target), ctypes.byref(params)
    )
    if code != 0:
        raise RuntimeError(f"llama.cpp could not make {type} (code {code})")
    return {}


def tokenize(path: str, texts: list[str]) -> dict[str, Any]:
    """Token ids of each text; special tokens in the text are parsed, none is added."""
    import llama_cpp

    model = llama_cpp.Llama(path, vocab_only=True, verbose=False)
    return {"ids": [model.tokenize(t.encode(), add_bos=False, special=True) for t in texts]}


def measure(
    path: str, windows: list[list[int]], source: str, prompt: str, threads: int
) -> dict[str, Any]:
    """Perplexity, agreement and KL over windows; a greedy answer; tokens a second."""
    import llama_cpp
    import numpy as np

    model = llama_cpp.Llama(
        path,
        n_ctx=max(512, *(len(w) for w in windows)),
        n_threads=threads,
        n_threads_batch=threads,
        logits_all=True,
        verbose=False,
    )
    nll, same, kl, count, clock = 0.0, 0, 0.0, 0, 0.0
    for number, window in enumerate(windows):
        model.reset()
        start = time.perf_counter()
        model.eval(window)
        clock += time.perf_counter() - start
        logits = np.asarray(model.scores[: len(window) - 1], dtype=np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        found = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        wanted = np.load(Path(source) / f"{number}.npy").astype(np.float64)
        nll -= found[np.arange(len(window) - 1), window[1:]].sum()
        same += int((found.argmax(1) == np.load(Path(source) / f"{number}.top.npy")).sum())
        kl += float((np.exp(wanted) * (wanted - found)).sum())
        count += len(window) - 1
    reply = model.create_chat_completion(
        [{"role": "user", "content": prompt}], max_tokens=32, temperature=0.0
    )
    return {
        "perplexity": float(np.exp(nll / count)),
        "agreement": same / count,
        "kl": max(0.0, kl / count),
        "tokens": count,
        "tokens_per_second": sum(map(len, windows)) / clock,
        "answer": reply["choices"][0]["message"]["content"],
    }


def main() -> None:
    """Answer requests from stdin on the real stdout; llama.cpp's own chatter goes to stderr."""
    processes.die_with_parent()  # half a file of a killed run is not written on
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work: dict[str, Callable[..., dict[str, Any]]] = {
        "quantize": quantize,
        "tokenize": tokenize,
        "measure": measure,
    }
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = work[request.pop("do")](**request)
        except (RuntimeError, ValueError, OSError) as error:
            reply = {"error": " ".join(str(error).split())}
        out.write(json.dumps(reply) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
