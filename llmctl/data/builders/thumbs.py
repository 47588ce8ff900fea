"""Single answers labelled as good or bad by the thumbs of people, as KTO learns from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from llmctl.data.builders.base import Builder, Dropped, Material, Row
from llmctl.records import answer, labelled


class ThumbsBuilder(Builder):
    """Good is what has more thumbs up than down, and what somebody wrote as a correction."""

    reads: ClassVar[tuple[str, ...]] = ("candidates",)
    form: ClassVar[str] = "labelled"

    def build(self, material: Material) -> Iterator[Row | Dropped]:
        """See Builder."""
        for row in material.rows:
            for number, each in enumerate(row["answers"]):
                up, down = int(each.get("up", 0)), int(each.get("down", 0))
                if up == down and not each.get("correction"):
                    reason = "tie" if up else "no_vote"
                    yield Dropped(f"{row['id']}:{number}", reason, f"{up} up, {down} down")
                    continue
                good = bool(each.get("correction")) or up > down
                completion = answer(each["content"])
                meta = row["meta"] | {"builder": self.kind, "up": up, "down": down}
                yield labelled(row["prompt"], completion, good, row["source"], meta)
