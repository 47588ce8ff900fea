"""What may be asked of `serve`: which engine, where it listens, with which documents."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from llmctl.engines.base import Engine
from llmctl.schema.base import Part, Recipe
from llmctl.schema.parts import Variable
from llmctl.schema.retrieve import Retrieve, store_needs


class Rag(Retrieve):
    """Retrieved text in front of every question; all keys of `retrieve` may be given."""

    store: Path = Field(description="Artifact folder of ingest.")
    k: int = Field(3, ge=1, le=50, description="Chunks in front of a question.")
    min_score: float | None = Field(
        0.2, ge=-1, le=1, description="Smallest cosine of a chunk that is used."
    )
    max_chars: int = Field(
        3000, ge=100, description="Most characters of retrieved text; whole chunks are left out."
    )


class Limits(Part):
    """What a client may ask for."""

    body_bytes: int = Field(1_048_576, ge=1024, description="Largest request body.")
    max_tokens: int = Field(1024, ge=1, description="Most tokens of an answer; also the default.")
    requests: int = Field(
        64, ge=1, description="Requests under way at once; a further one is answered 429."
    )


class ServeRecipe(Recipe):
    """A model over HTTP in OpenAI's form."""

    needs: ClassVar[dict[str, str]] = {"fastapi": "serve", "uvicorn": "serve", "httpx": "serve"}

    stage: Literal["serve"] = Field(description="Names the stage.")
    engine: Engine = Field(description="What runs the model.")
    name: str = Field("llmctl", min_length=1, description="Name of the model for clients.")
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port; 0 takes a free one.")
    api_key_env: Variable | None = Field(
        None, description="Environment variable with the key that clients must send."
    )
    rag: Rag | None = Field(None, description="Documents to answer from.")
    limits: Limits = Field(
        default_factory=lambda: Limits.model_validate({}), description="What a client may ask for."
    )
    drain_seconds: float = Field(
        20, ge=0, description="Time for requests under way when the server is told to stop."
    )
    max_seconds: float | None = Field(
        None, gt=0, description="Stop by itself after so long; for tests."
    )
    trace_content: bool = Field(
        False, description="Keep messages and answers in the traces, not just their sizes."
    )

    @model_validator(mode="after")
    def _key_beyond_loopback(self) -> Self:
        if self.api_key_env is None and not is_loopback(self.host):
            raise ValueError(
                f"listening on {self.host} needs `api_key_env`: without a key anyone who reaches "
                "the machine can use the model"
            )
        return self

    @model_validator(mode="after")
    def _engine_fits(self) -> Self:
        if self.rag is not None and self.rag.engine is None:
            self.rag.check_engine(self.engine)
        return self

    def all_needs(self) -> dict[str, str]:
        """With documents, also what the store and its embedder need."""
        return super().all_needs() | (store_needs(self.rag.store) if self.rag else {})

    def inputs(self) -> dict[str, Path | str]:
        """The model and the store."""
        found = {f"engine.{name}": ref for name, ref in self.engine.model_inputs().items()}
        if self.rag is not None:
            found["rag.store"] = self.rag.store
            found |= {f"rag.{key}": ref for key, ref in self.rag.inputs().items()}
        return found


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
