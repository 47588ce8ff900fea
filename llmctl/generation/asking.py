"""How a run asks models for rows: one cache and one count of calls for all of its steps."""

from __future__ import annotations

import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llmctl.records import Dropped

if TYPE_CHECKING:
    from llmctl.engines.base import Engine, Reply, Session

Item = TypeVar("Item", bound=Mapping[str, Any])
Result = TypeVar("Result")


class Refused(Exception):  # noqa: N818 - it is the reason of a dropped row, not a failure
    """A reply that cannot be used; whoever asked drops the row with this reason."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Asking:
    """What all steps of a run share when they ask models."""

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def open(self, engine: Engine) -> Iterator[Asker]:
        """Start an engine for one step."""
        with engine.open(self.cache) as session:
            yield Asker(self, session)

    def count(self, reply: Reply) -> None:
        """Add one reply to the counts."""
        with self._lock:
            self.counts.update(
                calls=1,
                cached_calls=int(reply.cached),
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
            )


class Asker:
    """One engine that one step asks."""

    def __init__(self, asking: Asking, session: Session) -> None:
        self.asking = asking
        self.session = session

    def ask(
        self,
        messages: Sequence[dict[str, str]],
        schema: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """The reply: parsed when there is a schema, else its text; raises Refused.

        `options` are the other fields of Request. Safe to call from several threads.
        """
        reply = self.session.chat(messages, schema=schema, **options)
        self.asking.count(reply)
        if schema is None:
            return reply.text
        if reply.finish_reason == "length":
            raise Refused("reply_cut_off", f"{reply.completion_tokens} tokens")
        try:
            return json.loads(reply.text)
        except ValueError as error:
            raise Refused("reply_not_in_form", str(error)) from None

    def each(
        self, items: Sequence[Item], work: Callable[[Item], Iterable[Result]], label: str
    ) -> Iterator[Result | Dropped]:
        """What `work` makes of each item, in the order of the items, several at a time.

        `work` runs in a thread and may ask as often as it likes. What it raises as Refused
        becomes a Dropped with the item's `id`; anything else ends the run.
        """
        from llmctl import ui

        def worked(item: Item) -> list[Result | Dropped]:
            try:
                return list(work(item))
            except Refused as refused:
                return [Dropped(str(item["id"]), refused.reason, refused.detail)]

        with ui.progress(label, len(items)) as advance:
            for results in in_order(items, worked, self.session.concurrency):
                yield from results
                advance()


def in_order(
    items: Iterable[Item], work: Callable[[Item], list[Result]], threads: int
) -> Iterator[list[Result]]:
    """`work` of each item in the order of the items, by so many threads."""
    if threads == 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(threads)
    try:
        waiting: deque[Future[list[Result]]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= 32 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
