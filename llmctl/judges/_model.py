"""What judges that ask a model share: its engine, its prompt and its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from llmctl.engines.base import Engine
from llmctl.generation import prompts
from llmctl.judges.base import Answered, Contest, Judge


class ModelJudge(Judge):
    """A judge whose verdict a model writes in enforced form; one out of form is asked for again."""

    block: ClassVar[str] = ""
    """The block of the prompt template."""

    engine: Engine = Field(description="The model that judges.")
    reasons: bool = Field(True, description="Have a reason written before the verdict.")
    max_tokens: int = Field(200, ge=8, description="Longest reply, in tokens.")
    temperature: float = Field(0.0, ge=0, le=2, description="0 always takes the likeliest token.")
    prompt: str | None = Field(
        None,
        min_length=5,
        description="Your own template: a .jinja file (see `llmctl prompts copy`), or the text of "
        "its one block; none takes the one that comes with llmctl.",
    )

    def model_inputs(self) -> dict[str, Path | str]:
        """The engine's model, and the template where it is a file."""
        found = {f"engine.{name}": ref for name, ref in self.engine.model_inputs().items()}
        return found | prompts.inputs(self.prompt)

    def revisions(self) -> dict[str, str]:
        """The version of a template that comes with llmctl."""
        return prompts.revisions(self.prompt, self.kind)

    def template(self) -> prompts.Prompt:
        """The prompt template with the block that is needed."""
        return prompts.chosen(self.prompt, self.kind, [self.block])

    def shown(self, item: Answered | Contest) -> dict[str, Any]:
        """The variables of the template that both kinds of judge have."""
        return {
            "question": conversation(item.messages),
            "reference": item.reference,
            "context": item.context,
            "note": item.note,
            "row": item.row,
            "reasons": self.reasons,
        }


def conversation(messages: Sequence[Mapping[str, Any]]) -> str:
    """What was asked: the one question, or every turn with its role."""
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n\n".join(f"{each['role']}: {each['content']}" for each in messages)
