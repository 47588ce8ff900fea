"""The requests that are worked on at one time: so many at most, and each leaves a trace."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from llmctl.server.requests import Refused
from llmctl.server.traces import Trace, Traces


class UnderWay:
    """Gives a place to each request, at most `most` at one time."""

    def __init__(self, most: int, model: str, traces: Traces) -> None:
        self.count = 0
        self._most = most
        self._model = model
        self._traces = traces

    @contextmanager
    def place(self, route: str, prefix: str) -> Iterator[Trace]:
        """The trace of one request, which is kept when it ends; no place is status 429."""
        if self.count >= self._most:
            raise Refused(429, "too many requests are under way; try again soon", "busy")
        trace = Trace(f"{prefix}-{uuid.uuid4().hex}", time.time(), route, self._model)
        self.count += 1
        try:
            yield trace
        except Refused as refused:
            trace.status, trace.error = refused.status, str(refused)
            raise
        finally:
            self.count -= 1
            trace.seconds = time.time() - trace.started
            self._traces.add(trace)


class Stream(StreamingResponse):
    """An event stream that has its place until it ends.

    The events cannot leave the place themselves: when a client hangs up, whoever asked for them is
    cancelled between two of them, or before the first one, and their own end may never run.
    """

    def __init__(self, events: AsyncIterator[bytes], trace: Trace, place: AsyncExitStack) -> None:
        headers = {"cache-control": "no-store", "x-request-id": trace.id}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        async with self._place:
            await super().__call__(scope, receive, send)
