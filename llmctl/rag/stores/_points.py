"""Chunks as Qdrant's points: its ids are numbers or UUIDs, so a chunk's id is in the payload."""

from __future__ import annotations

import uuid

NAMESPACE = uuid.UUID("5f0c2b1e-6a53-4d0e-9a8e-3b1f7c9d2e44")
KEY = "chunk"
"""The payload's field with the chunk's id."""


def point_of(chunk: str) -> uuid.UUID:
    """The point's id: always the same for a chunk."""
    return uuid.uuid5(NAMESPACE, chunk)
