"""Classifier: a score or a class of a text, from a linear head on an embedding model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from llmctl import rows, shards
from llmctl.data import outset
from llmctl.data.filters.base import Within
from llmctl.data.formats.base import text
from llmctl.errors import InputError
from llmctl.records import form_of
from llmctl.tuning.base import Task

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.schema.parts import TrainData
    from llmctl.schema.sft import SftRecipe


class ClassifierTask(Task):
    """The embedding model stays as it is; its vectors are computed once and a head is fitted.

    Scores by ridge regression, classes by logistic regression. It is how educational value was
    learnt from a model's scores for FineWeb-Edu (Penedo et al. 2024). To tune the encoder, too,
    train it with task embedding first and name that artifact as the model.
    """

    has_steps: ClassVar[bool] = False
    needs: ClassVar[dict[str, str]] = {"sentence-transformers": "train", "scipy": "train"}

    label: str = Field(
        "label",
        min_length=1,
        description="Field with the label or score, such as meta.score, or judge:NAME for what a "
        "judge of build-dataset gave.",
    )
    target: Literal["auto", "classes", "score"] = Field(
        "auto", description="auto: numbers are scores, texts and true/false are classes."
    )
    within: Within = Field(
        "both", description="What of a conversation is read; raw texts are read whole."
    )
    threshold: float | None = Field(
        None, description="Scores from here on count as good; F1 of that is measured, too."
    )
    decay: tuple[float, ...] = Field(
        (1e-4, 1e-3, 1e-2, 1e-1),
        min_length=1,
        description="Weights of the squared coefficients; the best in five-fold "
        "cross-validation is taken.",
    )

    def look(self, data: TrainData) -> None:
        """Rows are in our own form."""
        outset.begun(data.train, rows.placed(shards.find(data.train)), self.check)
        if (apart := data.validation) is not None:
            outset.begun(apart, rows.placed(shards.held_out(apart)), self.check)

    def check(self, row: dict[str, Any], where: str) -> None:
        """A text, a conversation or a pair; it may have no label."""
        if not any(key in row for key in ("text", "messages", "chosen")):
            raise InputError(f"{where}: needs `text` or `messages`; found {', '.join(row)}")
        if form_of(row) == "texts":
            text(row, "text", where)

    def tune(self, recipe: SftRecipe, artifact: Artifact) -> None:
        """Fit the head; measured by accuracy and F1, or by correlation, of held-out rows."""
        from llmctl.training import classifier

        classifier.tune(recipe, self, artifact)
