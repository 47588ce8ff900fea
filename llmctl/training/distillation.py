"""A linear layer after an embedding model learns the order in which hybrid search puts texts.

Hybrid search finds more than the vectors alone: words and the neighbourhood of a text count, too.
Its order of the nearest texts of each query, the query's own left out, is the teacher (Hinton et
al. 2015: the two distributions over the texts come as near as they can). The model itself stays
as it is, so all vectors are made once and a pass over the queries takes seconds on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from llmctl import ui
from llmctl.errors import InputError
from llmctl.rag import fusion
from llmctl.schema.sft import SftRecipe
from llmctl.training import config, mining, pairs
from llmctl.training.mining import Encoder
from llmctl.training.pairs import Pair
from llmctl.tuning.embedding import Teacher

NEIGHBOURS = 8
"""As in `retrieve`: how many similar candidates smooth a score."""


@dataclass(frozen=True)
class Lesson:
    """Vectors of length 1, and the order to be learnt."""

    queries: np.ndarray
    """float32, shape (queries, dimensions)."""
    texts: np.ndarray
    """float32, shape (texts, dimensions)."""
    candidates: np.ndarray
    """Rows of `texts`, int64, shape (queries, candidates)."""
    scores: np.ndarray
    """What the search gives each candidate, about 0 to 1, shape (queries, candidates)."""


class Head(torch.nn.Module):
    """The linear layer; it begins as the identity."""

    def __init__(self, lesson: Lesson, temperature: float) -> None:
        super().__init__()
        width = lesson.texts.shape[1]
        self.linear = torch.nn.Linear(width, width, bias=False)
        torch.nn.init.eye_(self.linear.weight)
        self.temperature = temperature
        self.register_buffer("texts", torch.from_numpy(lesson.texts), persistent=False)

    def forward(
        self, queries: torch.Tensor, candidates: torch.Tensor, scores: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """KL divergence, in nats, of the head's distribution over the texts from the search's."""
        asked = functional.normalize(self.linear(queries), dim=-1)  # (batch, dimensions)
        found = functional.normalize(self.linear(self.texts[candidates]), dim=-1)
        cosines = torch.einsum("bd,bkd->bk", asked, found)
        loss = functional.kl_div(
            functional.log_softmax(cosines / self.temperature, dim=-1),
            functional.softmax(scores / self.temperature, dim=-1),
            reduction="batchmean",
        )
        return {"loss": loss}


def lesson(encoder: Encoder, train: Sequence[Pair], teacher: Teacher, scratch: Path) -> Lesson:
    """Search all texts for each query, as `retrieve` does by default."""
    corpus = pairs.one_each(train)
    if len(corpus) < 3:
        raise InputError(f"{len(corpus)} texts: too few to put in order")
    count = min(teacher.candidates, len(corpus) - 1)
    place = {each.group: row for row, each in enumerate(corpus)}
    ui.note(f"searching {len(corpus)} texts for {len(train)} queries")
    texts = encoder.texts([each.whole for each in corpus])
    queries = encoder.queries([each.query for each in train])
    index = mining.keyword_index(
        [each.whole for each in corpus], scratch / "keywords", teacher.keywords
    )
    rows = [index.row(str(row)) for row in range(len(corpus))]
    found = [
        _order(query, index.scores(each.query)[rows], place[each.group], texts, count, teacher)
        for each, query in zip(train, queries, strict=True)
    ]
    candidates, scores = (np.stack(each) for each in zip(*found, strict=True))
    return Lesson(queries, texts, candidates, scores)


def _order(
    query: np.ndarray, words: np.ndarray, own: int, texts: np.ndarray, count: int, teacher: Teacher
) -> tuple[np.ndarray, np.ndarray]:
    """(rows of the best texts, their scores): relative scores of both searches, smoothed."""
    cosines = texts @ query
    words = words.astype(np.float32)
    cosines[own], words[own] = -1.0, 0.0
    near, said = (np.argsort(-each, kind="stable")[:count] for each in (cosines, words))
    rows = np.union1d(near, said)
    rows = rows[rows != own]
    score = teacher.alpha * fusion.relative(cosines[rows], float(cosines[near[-1]]))
    score += (1 - teacher.alpha) * fusion.relative(words[rows], float(words[said[-1]]))
    best = np.argsort(-score, kind="stable")[:count]
    rows, score = rows[best], score[best]
    smooth = fusion.smoothed(score, texts[rows], teacher.smoothing, NEIGHBOURS)
    return rows, np.asarray(smooth, dtype=np.float32)


def build_trainer(recipe: SftRecipe, folder: Path, head: Head, taught: Lesson) -> Any:
    """transformers' trainer of the layer alone."""
    from transformers import Trainer, TrainingArguments

    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(taught.queries)

        def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
            return {
                name: torch.from_numpy(getattr(taught, name)[row])
                for name in ("queries", "candidates", "scores")
            }

    settings = config.encoder_arguments(recipe, folder)
    return Trainer(
        model=head,
        args=TrainingArguments(**settings, remove_unused_columns=False),
        train_dataset=Rows(),
    )


def with_head(model: Any, weight: torch.Tensor) -> Any:
    """The model with the layer behind its pooling, as sentence-transformers writes it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize

    width = int(weight.shape[0])
    dense = Dense(
        width, width, bias=False, activation_function=torch.nn.Identity(),
        init_weight=weight.detach().cpu(),
    )  # fmt: skip
    made = SentenceTransformer(
        modules=[*model, dense, Normalize()], prompts=model.prompts, device=model.device
    )
    return made.eval()
