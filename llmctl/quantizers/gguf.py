"""GGUF files for llama.cpp: f16 first, then each asked type from it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from llmctl import ui
from llmctl.errors import LlmctlError
from llmctl.processes import processors
from llmctl.quantizers.base import Made, Measured, Quantizer, Runner

KNOWN = (
    "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1",
    "Q4_0", "IQ4_NL", "IQ4_XS", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K",
)  # fmt: skip
PROBES = (
    "Hello, world! It's 2024-11-05, 12345 tokens; don't panic.",
    "def f(x):\n    return x ** 2  # squared\n\n\n",
    "Grüße aus Köln: 你好, привет, 🙂 — ½ of 100%?",
    "  leading spaces,\ttabs\tand   runs   of   spaces  ",
    "<|im_start|>user\nWhat's up?<|im_end|>\n<|im_start|>assistant\n",
)


class GgufQuantizer(Quantizer):
    """llama.cpp's formats; the first type of the list is what later stages get."""

    needs: ClassVar[dict[str, str]] = {
        "gguf": "gguf",
        "llama-cpp-python": "gguf",
        "torch": "gguf",
        "transformers": "gguf",
        "safetensors": "gguf",
    }

    types: list[str] = Field(
        default_factory=lambda: ["Q4_K_M", "Q8_0"],
        min_length=1,
        description="Formats to make; the first is the artifact's model.",
    )
    keep_f16: bool = Field(False, description="Keep the f16 file that the others are made from.")
    threads: int = Field(0, ge=0, le=1024, description="Threads; 0 takes the number of processors.")

    @field_validator("types")
    @classmethod
    def _known(cls, types: list[str]) -> list[str]:
        from llmctl.words import nearest

        for each in types:
            if each not in KNOWN:
                near = nearest(each, KNOWN)
                hint = f", did you mean {near}?" if near else ""
                raise ValueError(f"no GGUF type {each}{hint}; there are: {', '.join(KNOWN)}")
        if len(set(types)) < len(types):
            raise ValueError("a type is there twice")
        return types

    def thread_count(self) -> int:
        """What llama.cpp is told."""
        return self.threads or processors()

    def wanted(self) -> list[str]:
        """Every file that is kept, f16 first."""
        others = [each for each in self.types if each != "F16"]
        return (["F16"] if self.keep_f16 or "F16" in self.types else []) + others

    def main(self) -> str:
        """See Quantizer."""
        return self.types[0]

    def quantize(self, folder: Path, name: str, work: Path) -> Iterator[Made]:
        """See Quantizer."""
        base = work / f"{name}-F16.gguf"
        with worker(self.thread_count()) as run:
            if not base.exists():
                self._write_f16(folder, base, run)
            yield Made("F16", base)
            for each in self.types:
                if each == "F16":
                    continue
                target = work / f"{name}-{each}.gguf"
                if not target.exists():
                    partial = target.with_suffix(".partial")
                    run.ask(
                        do="quantize", source=str(base), target=str(partial), type=each,
                        threads=self.thread_count(),
                    )  # fmt: skip
                    partial.rename(target)
                yield Made(each, target)

    def _write_f16(self, folder: Path, target: Path, run: Worker) -> None:
        """Write with the first pre-tokenizer that gives the folder's own token ids."""
        from llmctl.quantizers import _gguf_writer as gguf_writer

        wanted = hf_ids(folder, list(PROBES))
        partial = target.with_suffix(".partial")
        for name in gguf_writer.PRETOKENIZERS:
            gguf_writer.write(folder, partial, name, vocabulary_only=True)
            if run.tokenize(partial, list(PROBES)) == wanted:
                ui.detail(f"pre-tokenizer: {name}")
                gguf_writer.write(folder, partial, name)
                partial.rename(target)
                return
        raise LlmctlError(
            f"{folder}: no pre-tokenizer of llama.cpp gives this tokenizer's ids "
            f"(tried {', '.join(gguf_writer.PRETOKENIZERS)})"
        )

    @contextmanager
    def runner(self) -> Iterator[Runner]:
        """See Quantizer."""
        with worker(self.thread_count()) as run:
            yield run


def hf_ids(folder: Path, texts: list[str]) -> list[list[int]]:
    """Token ids as Transformers sees them; none is added."""
    from llmctl import pretrained
    from llmctl.modelref import silenced

    with silenced():
        tokenizer = pretrained.tokenizer(folder)
    return [tokenizer(text, add_special_tokens=False).input_ids for text in texts]


class Worker(Runner):
    """The child process."""

    def __init__(self, process: subprocess.Popen[str], threads: int) -> None:
        self._process = process
        self._threads = threads

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request; raises LlmctlError with llama.cpp's reason."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            raise LlmctlError(f"llama.cpp ended with {code} during {request['do']}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise LlmctlError(reply["error"])
        return reply

    def tokenize(self, path: Path, texts: list[str]) -> list[list[int]]:
        """See Runner."""
        ids: list[list[int]] = self.ask(do="tokenize", path=str(path), texts=texts)["ids"]
        return ids

    def measure(self, path: Path, windows: list[list[int]], source: Path, prompt: str) -> Measured:
        """See Runner."""
        reply = self.ask(
            do="measure", path=str(path), windows=windows, source=str(source), prompt=prompt,
            threads=self._threads,
        )  # fmt: skip
        return Measured(**reply)


@contextmanager
def worker(threads: int) -> Iterator[Worker]:
    """Start the child process; it ends with the context."""
    process = subprocess.Popen(
        [sys.executable, "-m", "llmctl.quantizers._gguf_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C is for the parent, which ends the child in order
    )
    try:
        yield Worker(process, threads)
    finally:
        assert process.stdin and process.stdout
        process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
