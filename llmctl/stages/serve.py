"""serve: a model over HTTP until it is told to stop."""

from __future__ import annotations

import signal
import socket
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from llmctl import ui
from llmctl.artifact import Artifact
from llmctl.environment import variable
from llmctl.errors import LlmctlError, RecipeError
from llmctl.schema.serve import ServeRecipe

if TYPE_CHECKING:
    from types import FrameType

DATABASE = "traces.sqlite"
STOPPING = (signal.SIGTERM, signal.SIGINT)


def run(recipe: ServeRecipe, artifact: Artifact) -> None:
    """Serve until SIGTERM, Ctrl-C or `max_seconds`; requests under way are finished.

    The address is printed on stdout when the server answers. Traces and feedback are appended to
    `traces.sqlite` of the artifact, across runs.
    """
    artifact.determinism = "none"
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    try:
        _serve(recipe, artifact)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _stoppable() -> threading.Event:
    """What a signal sets from now on, instead of ending the command."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in STOPPING:
        signal.signal(number, handle)
    return stop


def _serve(recipe: ServeRecipe, artifact: Artifact) -> None:
    from llmctl.server.app import create
    from llmctl.server.documents import Documents
    from llmctl.server.traces import Traces

    key = api_key(recipe)
    listener = listen(recipe.host, recipe.port)
    with ExitStack() as stack:
        stack.callback(listener.close)
        retriever = None
        if recipe.rag is not None:
            from llmctl.rag.retrieve import opened

            retriever = stack.enter_context(opened(recipe.rag.store))
        ui.note("loading the model")
        session = stack.enter_context(recipe.engine.start())
        documents = None
        if recipe.rag is not None and retriever is not None:
            documents = Documents(retriever, recipe.rag, session)
        traces = Traces(artifact.path(DATABASE), content=recipe.trace_content)
        stack.callback(traces.close)
        before = traces.totals()
        stop = _stoppable()
        server = _server(create(recipe, session, traces, documents, key), recipe)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive() and not stop.is_set():
            time.sleep(0.02)
        if not thread.is_alive():
            raise LlmctlError("the server ended before it was ready")
        host = f"[{recipe.host}]" if ":" in recipe.host else recipe.host
        ui.result(f"http://{host}:{listener.getsockname()[1]}")
        ui.note("serving; stop with Ctrl-C")
        stop.wait(recipe.max_seconds)
        ui.note("stopping: requests under way are finished")
        server.should_exit = True
        thread.join(recipe.drain_seconds + 5)
        after = traces.totals()
    artifact.metrics.update(
        {name: round(after[name] - before[name], 3) for name in after}
        | {f"{name}_in_all": after[name] for name in ("requests", "feedback")}
    )
    artifact.summary.append(("requests", f"{artifact.metrics['requests']} in this run"))


def _server(app: Any, recipe: ServeRecipe) -> Any:
    import uvicorn

    return uvicorn.Server(uvicorn.Config(app, **uvicorn_options(recipe)))


def uvicorn_options(recipe: ServeRecipe) -> dict[str, Any]:
    """The settings of the HTTP server."""
    return {
        "log_level": "info" if ui.is_verbose() else "warning",
        "access_log": ui.is_verbose(),
        "timeout_graceful_shutdown": max(1, round(recipe.drain_seconds)),
        "server_header": False,
        "limit_concurrency": 4 * recipe.limits.requests,
    }


def api_key(recipe: ServeRecipe) -> str | None:
    """The key that clients must send."""
    return None if recipe.api_key_env is None else variable("api_key_env", recipe.api_key_env)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; raises RecipeError when the address is taken or not this machine's."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family[0], socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(family[4])
    except OSError as error:
        hint = "; give another `port`, or 0 for a free one" if port else ""
        raise RecipeError(
            f"cannot listen on {host}:{port}: {error.strerror or error}{hint}"
        ) from None
    listener.set_inheritable(True)
    return listener
