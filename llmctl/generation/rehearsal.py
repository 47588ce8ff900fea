"""What a recipe would ask: its builders run with a model that costs nothing.

Every prompt is rendered, and each reply is filled with words of its prompt, so that steps which
follow a reply are counted too.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llmctl.engines.base import Engine, Reply, Request
from llmctl.engines.echo import EchoSession
from llmctl.generation.asking import Asker, Asking
from llmctl.generation.spending import cost

if TYPE_CHECKING:
    from llmctl.schema.build_dataset import BuildDatasetRecipe

BYTES_PER_TOKEN = 4.3
"""Of UTF-8, in English prose."""


class Counting(EchoSession):
    """Counts what is asked; answers as `echo` does, and is never cut off."""

    def __init__(self) -> None:
        super().__init__("")
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Reply:
        """See EchoSession."""
        asked = sum(len(each["content"].encode()) for each in request.messages)
        tokens = round(asked / BYTES_PER_TOKEN)
        with self._lock:
            self.counts.update(calls=1, prompt=tokens, most=request.max_tokens)
        return Reply(super().answer(request).text, tokens, 0, "stop")


class Rehearsal(Asking):
    """Asks nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Engine, Counter[str]]] = []

    @contextmanager
    def open(self, engine: Engine) -> Iterator[Asker]:
        """Start nothing, and count what the step asks."""
        session = Counting()
        self.asked.append((engine, session.counts))
        yield Asker(self, engine, session)


def estimate(recipe: BuildDatasetRecipe) -> dict[str, str]:
    """Lines for `plan`: calls, tokens and cost of the builders, where the sources are there."""
    from llmctl import ui
    from llmctl.data.material import gather
    from llmctl.errors import LlmctlError
    from llmctl.stages.build_dataset import built

    rehearsal = Rehearsal()
    try:
        with ui.hushed():
            sources = list(recipe.sources())
            material = gather(sources, recipe.seed, rehearsal, recipe.format)
            made = built(recipe, material, [])
    except LlmctlError as error:
        return {"calls": f"cannot be told: {error}"}
    total: Counter[str] = Counter()
    price = 0.0
    for engine, counts in rehearsal.asked:
        total.update(counts)
        price += cost(counts["prompt"], counts["most"], getattr(engine, "price", {}))
    lines = {
        "calls": f"about {total['calls']:,} of the builders, without repairs, for {len(made):,} "
        "rows; what is in the cache is free",
        "tokens": f"about {total['prompt']:,} of prompts, at most {total['most']:,} of replies",
    }
    if price:
        lines["cost"] = f"at most about {price:.4g}"
    return lines
