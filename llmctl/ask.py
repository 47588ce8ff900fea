"""ask: a question to a store, answered by a model from numbered sources, or not at all.

Nothing is asked of a model when the store holds too little about the question; what a model says
is only passed on with citations that resolve.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl import rows, ui
from llmctl.errors import InputError
from llmctl.rag import evidence, prompt
from llmctl.rag.citations import resolved
from llmctl.rag.retrieve import Hit, Retriever, opened
from llmctl.rag.terms import words
from llmctl.schema.ask import AskRecipe
from llmctl.schema.base import load

if TYPE_CHECKING:
    from llmctl.engines.base import Session

Answer = dict[str, Any]


class Asker:
    """A recipe with its store open; the model is started when the first question needs it."""

    def __init__(self, recipe: AskRecipe, retriever: Retriever, session: LateSession) -> None:
        self.recipe, self.retriever, self._session = recipe, retriever, session

    def ask(self, question: str) -> Answer:
        """The answer with citations, sources, evidence and every step."""
        if not question.strip():
            raise InputError("the question is empty; say what you want to know")
        began = time.perf_counter()
        known, threshold = self.known(question)
        answer: Answer = {
            "question": question, "answer": self.recipe.decline.text, "declined": None,
            "citations": [], "removed_citations": 0, "sources": [],
            "evidence": {**known, "threshold": threshold}, "trace": [],
        }  # fmt: skip
        if threshold is not None and known["evidence"] < threshold:
            answer["declined"] = "evidence"
        else:
            self._answered(question, answer)
        answer["seconds"] = round(time.perf_counter() - began, 3)
        return answer

    def known(self, question: str) -> tuple[dict[str, float], float | None]:
        """(evidence for a question, the evidence that it needs).

        When a route may choose other stores, the store that knows most about the question counts.
        """
        stores = [self.retriever]
        stores += [self.retriever.other(Path(p)) for p in self.recipe.retrieve.inputs().values()]
        return max((self._known(each, question) for each in stores), key=_margin)

    def _known(self, retriever: Retriever, question: str) -> tuple[dict[str, float], float | None]:
        decline = self.recipe.decline
        known = evidence.evidence(retriever, question)
        if decline.deviations is None:
            return known, None
        usual = evidence.usual(retriever)
        return known, round(usual.threshold(decline.deviations, decline.least), 4)

    def _answered(self, question: str, answer: Answer) -> None:
        recipe = self.recipe
        session = self._session.get() if recipe.retrieve.asks_engine else None
        found = self.retriever.search(question, recipe.retrieve, session)
        answer["trace"] = found.trace
        hits = fitting(found.hits, recipe.prompt.max_chars)
        if not found.asked.search or not hits:
            answer["declined"] = "sources" if found.asked.search else "route"
            return
        answer["sources"] = [source(number, hit) for number, hit in enumerate(hits, 1)]
        reply = self._session.get().chat(
            messages(recipe, question, hits),
            max_tokens=recipe.max_tokens,
            temperature=recipe.temperature,
            seed=recipe.seed,
        )
        answer["tokens"] = {"prompt": reply.prompt_tokens, "answer": reply.completion_tokens}
        if says_unknown(reply.text, recipe.prompt.unknown):
            answer |= {"answer": recipe.prompt.unknown, "declined": "model"}
            return
        cited = resolved(reply.text.strip(), hits, recipe.citations.attribute)
        answer["removed_citations"] = cited.removed
        if recipe.citations.required and not cited.citations:
            # the model said something that no source says: kept for the log, not for the reader
            unsaid = {"answer": recipe.prompt.unknown, "declined": "unsupported"}
            answer |= {**unsaid, "unsupported": reply.text.strip()}
            return
        answer |= {"answer": cited.text, "citations": cited.citations}


def _margin(found: tuple[dict[str, float], float | None]) -> float:
    """How far the evidence is above what is needed."""
    known, threshold = found
    return known["evidence"] - (threshold or 0.0)


class LateSession:
    """An engine that is started at its first use: a declined question starts none."""

    def __init__(self, recipe: AskRecipe, stack: Any) -> None:
        self._recipe, self._stack = recipe, stack
        self._session: Session | None = None

    def get(self) -> Session:
        """The running model; its replies are kept in `out`."""
        if self._session is None:
            cache = self._recipe.out / "replies.sqlite"
            self._session = self._stack.enter_context(self._recipe.engine.open(cache))
        return self._session


@contextmanager
def asker(recipe: AskRecipe) -> Iterator[Asker]:
    """Open a recipe's store for questions."""
    from contextlib import ExitStack

    from llmctl.runner import require

    require("ask", recipe.all_needs())
    with ExitStack() as stack:
        retriever = stack.enter_context(opened(recipe.store))
        try:
            recipe.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{recipe.out}: cannot be written: {error.strerror}") from None
        yield Asker(recipe, retriever, LateSession(recipe, stack))


def messages(recipe: AskRecipe, question: str, hits: Sequence[Hit]) -> list[dict[str, str]]:
    """What the model gets: instruction, rule and sources, then the question."""
    told = recipe.prompt.instruction.replace("{unknown}", recipe.prompt.unknown)
    shown = prompt.blocks([(str(hit["source"]["uri"]), hit["text"]) for hit in hits])
    return [
        {"role": "system", "content": "\n\n".join([told, prompt.RULE, *shown])},
        {"role": "user", "content": prompt.harmless(question)},
    ]


def fitting(hits: Sequence[Hit], max_chars: int) -> list[Hit]:
    """The best hits that fit together; a longer one is left out and a shorter one may follow."""
    kept, room = [], max_chars
    for hit in hits:
        if len(hit["text"]) <= room:
            kept.append(hit)
            room -= len(hit["text"])
    return kept


def source(number: int, hit: Hit) -> dict[str, Any]:
    """A source as it is shown and logged."""
    return {
        "number": number, "id": hit["id"], "uri": hit["source"]["uri"], "title": hit["title"],
        "spans": hit["spans"], "score": hit["score"], "parts": hit["parts"], "text": hit["text"],
    }  # fmt: skip


def says_unknown(text: str, unknown: str) -> bool:
    """Whether an answer is the agreed sentence, give or take marks and a few words around it."""
    said, wanted = list(words(text)), list(words(unknown))
    if not said:
        return True
    width = len(wanted)
    there = any(said[i : i + width] == wanted for i in range(len(said) - width + 1))
    return there and len(said) <= width + 12


def show(path: Path, question: str, sets: Sequence[str], as_json: bool, explain: bool) -> None:
    """Answer one question on stdout, and log it in the recipe's `out`."""
    recipe = load("ask", path, sets).recipe
    with asker(recipe) as each:
        answer = each.ask(question)
        with (recipe.out / "answers.jsonl").open("a", encoding="utf-8") as log:
            log.write(rows.dumps({"time": round(time.time(), 3), **answer}) + "\n")
    if as_json:
        ui.result(json.dumps(answer, indent=1, ensure_ascii=False))
        return
    ui.result(answer["answer"])
    for line in told(answer):
        ui.result(line)
    if explain:
        for line in explained(answer):
            ui.result(line)


def told(answer: Answer) -> Iterator[str]:
    """The citations, one line each: number, document, span, quote."""
    if answer["citations"]:
        yield ""
    for each in answer["citations"]:
        quote = " ".join(each["quote"].split())
        quote = quote if len(quote) <= 120 else quote[:119] + "…"
        yield f"[{each['number']}] {each['uri']}:{each['start']}-{each['end']}  {quote}"
    if answer["removed_citations"]:
        yield f"({answer['removed_citations']} citations that name no source were removed)"


def explained(answer: Answer) -> Iterator[str]:
    """Why it was answered or not, the sources with their scores, and the steps."""
    from llmctl.rag.trace import lines

    facts = answer["evidence"]
    need = "nothing" if facts["threshold"] is None else f"{facts['threshold']:.3f}"
    yield ""
    yield (
        f"evidence {facts['evidence']:.3f} (cosine {facts['cosine']:.3f}, words "
        f"{facts['words']:.3f}), needed {need}; declined: {answer['declined'] or 'no'}"
    )
    columns = ["source", "score", "document", "parts"]
    table = [
        [
            str(each["number"]), f"{each['score']:.3f}",
            f"{each['uri']}:{each['spans'][0][0]}-{each['spans'][-1][1]}",
            " ".join(f"{name}={value:g}" for name, value in each["parts"].items()),
        ]
        for each in answer["sources"]
    ]  # fmt: skip
    width = ui.stdout_width()
    yield from ui.table_lines("", columns, table, width)
    steps = [list(row) for row in lines(answer["trace"])]
    yield from ui.table_lines("steps", ["step", "ms", "what it did"], steps, width)
