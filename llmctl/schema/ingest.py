"""What `llmctl ingest` may be asked."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from llmctl.rag.chunkers.base import Chunker
from llmctl.rag.cleaners.base import Cleaner
from llmctl.rag.embedders.base import Embedder
from llmctl.rag.readers.base import Reader
from llmctl.rag.sources.base import Source
from llmctl.rag.sources.folder import FolderSource
from llmctl.rag.stores.base import Store
from llmctl.schema.base import Recipe
from llmctl.schema.keywords import Keywords
from llmctl.schema.metadata import Metadata

DOCUMENTS = (
    *("markdown", "html", "text", "pdf", "docx", "pptx", "xlsx", "csv", "json", "rst"),
    *("epub", "email"),
)
"""What a folder of documents usually holds; code and parquet are asked for by name."""


def _readers() -> tuple[Reader, ...]:
    return tuple(Reader.of(kind) for kind in DOCUMENTS)


def _cleaners() -> tuple[Cleaner, ...]:
    return tuple(Cleaner.of(kind) for kind in ("unicode", "whitespace", "length"))


def _below(key: str) -> str:
    return f"source.{key}" if key else "source"


class IngestRecipe(Recipe):
    """Raw documents in; clean text, chunks and a vector store out."""

    impl: ClassVar[int] = 2
    needs: ClassVar[dict[str, str]] = {"numpy": "rag", "PyStemmer": "rag"}

    stage: Literal["ingest"] = Field(description="Names the stage.")
    source: Source = Field(
        description="A document, a folder that is read recursively, or a mapping with `kind`."
    )
    readers: tuple[Reader, ...] = Field(
        default_factory=_readers,
        min_length=1,
        description="How files become text; the first whose pattern fits a name takes the file.",
    )
    max_bytes: int = Field(
        50_000_000, gt=0, description="A larger file is reported instead of read."
    )
    cleaners: tuple[Cleaner, ...] = Field(
        default_factory=_cleaners, description="Repairs of a document's text, in this order."
    )
    chunker: Chunker = Field(
        default_factory=lambda: Chunker.of("sentence"), description="How a document is cut."
    )
    header: Literal["none", "title", "path"] = Field(
        "none",
        description="What is put in front of a chunk when it is embedded and indexed: nothing, "
        "the document's title, or title and headings. The chunk itself stays as it is.",
    )
    metadata: Metadata = Field(
        default_factory=lambda: Metadata.model_validate({}),
        description="Facts about documents that a search can filter by.",
    )
    embedder: Embedder = Field(
        default_factory=lambda: Embedder.of("onnx"),
        description="How chunks become vectors.",
    )
    store: Store = Field(
        default_factory=lambda: Store.of("chroma"), description="Where vectors are kept and found."
    )
    keywords: Keywords = Field(
        default_factory=lambda: Keywords.model_validate({}),
        description="The keyword index beside the vectors.",
    )
    on_error: Literal["skip", "fail"] = Field(
        "skip",
        description="A document that cannot be read is reported and left out, or ends the run.",
    )

    def inputs(self) -> dict[str, Path | str]:
        """The documents, and the models that cut and embed them."""
        found = {_below(key): ref for key, ref in self.source.inputs().items()}
        found |= {f"chunker.{key}": ref for key, ref in self.chunker.models().items()}
        return found | {f"embedder.{key}": ref for key, ref in self.embedder.models().items()}

    def revisions(self) -> dict[str, str]:
        """What the source is at now, where that can be known before it is read."""
        return {_below(key): value for key, value in self.source.revisions().items()}

    def always(self) -> str:
        """A source that has to be asked what it holds makes every run necessary."""
        return self.source.always()

    def estimate(self) -> dict[str, str]:
        """Size of the documents and the time to embed them on two cores."""
        if not isinstance(self.source, FolderSource):
            return {"documents": "known when the source is read", "memory": "about 1 GB"}
        taken = [f for f in self.source.files() if any(r.takes(f) for r in self.readers)]
        size = sum(f.stat().st_size for f in taken)
        return {
            "documents": f"{len(taken)}, {size / 1e6:.1f} MB",
            "time": f"about {10 + size / 28000:.0f} s on two CPU cores (28 KB of text per s)",
            "memory": "about 1 GB",
        }
