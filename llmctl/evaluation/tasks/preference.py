"""How often a model finds the better answer of a pair likelier than the worse one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from llmctl.evaluation.tasks.base import Item, Scored, Task, draw, nll, rows_of, too_long


class PreferenceTask(Task):
    """`preference` is the share of pairs whose chosen answer is the likelier one.

    `margin` is the difference of the two log-probabilities, in nats, per token or in sum.
    """

    metrics: ClassVar[tuple[str, ...]] = ("preference", "margin")
    shares: ClassVar[frozenset[str]] = frozenset({"preference"})

    data: Path = Field(description="Pairs (prompt, chosen, rejected), or a folder with a split.")
    split: Literal["train", "validation", "test"] = Field(
        "test", description="Split that is read when `data` is a folder."
    )
    normalise: Literal["tokens", "none"] = Field(
        "tokens", description="tokens: per token, so that length does not count; none: in sum."
    )

    def items(self, work: Path, limit: int | None, seed: int) -> list[Item]:
        """The pairs of the split."""
        return draw(rows_of(self.data, self.split), limit, seed)

    def score(self, session: Any, items: Sequence[Item], work: Path) -> Iterator[Scored]:
        """1 where the chosen answer is the likelier one, else 0."""
        from llmctl.training import pair_checks, preference

        pair_checks.refuse([(item.where, item.data) for item in items], pair_checks.pair_faults)
        for item in items:
            pair = preference.tokens_of(session.tokenizer, item.data, item.where)
            wrong = too_long(session, pair.longest)
            if wrong or pair_checks.same(item.data):
                yield Scored(unmeasured=wrong or "both answers are the same text")
                continue
            answers = [pair.chosen, pair.rejected]
            found = nll(
                session,
                [
                    (pair.prompt + answer, [False] * len(pair.prompt) + [True] * len(answer))
                    for answer in answers
                ],
            )
            each = [total / (count if self.normalise == "tokens" else 1) for total, count in found]
            margin = each[1] - each[0]
            yield Scored({"preference": float(margin > 0), "margin": margin})
