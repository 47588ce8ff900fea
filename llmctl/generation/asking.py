"""How a run asks models for rows: replies in a form, repaired once, or refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llmctl.generation.forms import problem
from llmctl.generation.prompts import Prompt, bundled
from llmctl.generation.spending import CallError, Spending, charged
from llmctl.records import Dropped

if TYPE_CHECKING:
    from llmctl.engines.base import Engine, Reply, Session
    from llmctl.judges.base import Judge, LiveJudge

Item = TypeVar("Item", bound=Mapping[str, Any])
Result = TypeVar("Result")
CUT_OFF_PENALTY = 1.0
"""Added to `frequency_penalty` when a reply that did not end is asked for again."""


class Refused(Exception):  # noqa: N818 - it is the reason of a dropped row, not a failure
    """A reply that cannot be used; whoever asked drops the row with this reason."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Asking:
    """What all steps of a run share when they ask models."""

    def __init__(self, cache: Path | None = None, spending: Spending | None = None) -> None:
        self.cache = cache
        self.spending = spending or Spending()
        self.prompts: dict[str, str] = {}
        """Version -> sha256 of every template that was used."""

    @contextmanager
    def open(self, engine: Engine) -> Iterator[Asker]:
        """Start an engine for one step."""
        with charged(self.spending), engine.open(self.cache) as session:
            yield Asker(self, engine, session)

    @contextmanager
    def judge(self, judge: Judge) -> Iterator[LiveJudge]:
        """Make a judge ready for one step; its calls are charged too."""
        with charged(self.spending), judge.open(self.cache) as live:
            yield live


class Asker:
    """One engine that one step asks."""

    repairs = 1
    """How often a reply out of form is asked for again."""

    def __init__(self, asking: Asking, engine: Engine, session: Session) -> None:
        self.asking = asking
        self.engine = engine
        self.session = session

    def ask(
        self,
        messages: Sequence[dict[str, str]],
        schema: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """The reply: parsed and checked when there is a schema, else its text; raises Refused.

        `options` are the other fields of Request. Safe to call from several threads. The last reply
        out of form is not kept in the cache; one that was cut off is, as it would be again.
        """
        try:
            reply = self.session.chat(messages, schema=schema, **options)
        except CallError as error:
            raise Refused("call_failed", str(error)) from None
        try:
            return checked(reply, schema)
        except Refused as first:
            refused = first
        sent = list(messages)
        penalty = 0.0
        for _ in range(self.repairs):
            self.asking.spending.note("repairs")
            if refused.reason == "reply_cut_off":
                # most often it repeats itself; showing it the half reply would make that likelier
                penalty += CUT_OFF_PENALTY
            else:
                # a growing talk, so that no try is like the last
                sent = [*sent, *repair(reply, refused)]
            options = {**options, "penalty": penalty}
            try:
                reply = self.session.chat(sent, schema=schema, **options)
                return checked(reply, schema)
            except CallError:  # as when the longer conversation does not fit: the reason stays
                break
            except Refused as again:
                refused = again
        if refused.reason != "reply_cut_off":
            self.session.forget(sent, schema=schema, **options)
        raise refused

    def who(self) -> dict[str, Any]:
        """The engine, its model and the digest of the weights: for the `meta` of rows."""
        found = {"engine": self.engine.kind, "model": str(getattr(self.engine, "model", ""))}
        if getattr(self.engine, "base_url", ""):
            found["base_url"] = getattr(self.engine, "base_url", "")
        if self.session.weights:
            found["weights"] = self.session.weights[:16]
        return found

    def each(
        self, items: Sequence[Item], work: Callable[[Item], Iterable[Result]], label: str
    ) -> Iterator[Result | Dropped]:
        """What `work` makes of each item, in the order of the items, several at a time.

        `work` runs in a thread and may ask as often as it likes. What it raises as Refused
        becomes a Dropped with the item's `id`; anything else ends the run.
        """
        from llmctl import ui
        from llmctl.engines.base import in_order

        def worked(item: Item) -> list[Result | Dropped]:
            try:
                return list(work(item))
            except Refused as refused:
                return [Dropped(str(item["id"]), refused.reason, refused.detail)]

        spending = self.asking.spending
        with ui.progress(label, len(items)) as advance:
            for results in in_order(worked, items, self.session.concurrency, self.session.close):
                yield from results
                advance(1, spending.told())


def checked(reply: Reply, schema: dict[str, Any] | None) -> Any:
    """A reply as a value of the form that was asked for; raises Refused."""
    if reply.finish_reason == "length":
        raise Refused("reply_cut_off", f"{reply.completion_tokens} tokens")
    try:
        value = reply.text.strip() if schema is None else json.loads(reply.text)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Refused("reply_not_in_form", "half a surrogate pair is no text") from None
    except (ValueError, RecursionError) as error:
        raise Refused("reply_not_in_form", f"not JSON: {error}") from None
    if schema is None:
        if not value:
            raise Refused("reply_empty")
        return value
    wrong = problem(value, schema)
    if wrong:
        raise Refused("reply_not_in_form", wrong)
    return value


def repair(reply: Reply, refused: Refused) -> list[dict[str, str]]:
    """The turns that ask for a reply once more."""
    return [
        {"role": "assistant", "content": reply.text[:4000]},
        *bundled("repair").messages("again", problem=refused.detail or refused.reason),
    ]


class Writer:
    """An engine with a prompt template and its parameters: what a builder writes with."""

    def __init__(self, asker: Asker, prompt: Prompt, options: Mapping[str, Any]) -> None:
        self.asker = asker
        self.prompt = prompt
        self.options = dict(options)
        asker.asking.prompts[prompt.version] = prompt.digest

    def write(
        self,
        block: str,
        schema: dict[str, Any] | None = None,
        *,
        sample: int = 0,
        **variables: Any,
    ) -> Any:
        """What the model says to a block of the template; raises Refused.

        `sample` numbers several answers to the same prompt.
        """
        options = {**self.options, "seed": self.options["seed"] + sample}
        return self.asker.ask(self.prompt.messages(block, **variables), schema, **options)

    def each(
        self, items: Sequence[Item], work: Callable[[Item], Iterable[Result]], label: str
    ) -> Iterator[Result | Dropped]:
        """See Asker."""
        return self.asker.each(items, work, label)

    def generator(self) -> dict[str, Any]:
        """Who wrote: for the `meta` of rows."""
        return {**self.asker.who(), "prompt": self.prompt.version, **self.options}
