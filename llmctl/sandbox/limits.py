"""What a program in the sandbox may use."""

from __future__ import annotations

from pydantic import Field

from llmctl.schema.base import Part


class Limits(Part):
    """Limits of one program; it can start no further process and reach no network at all."""

    seconds: float = Field(5.0, gt=0, le=3600, description="Time until it is ended, in seconds.")
    memory_mb: int = Field(512, ge=64, description="Address space, in MiB.")
    files_mb: int = Field(8, ge=0, description="Files in its own temporary folder, in MiB.")
    output_kb: int = Field(64, ge=1, description="What it may print, in KiB.")
    packages: bool = Field(
        False, description="Whether installed packages can be imported, or Python's own alone."
    )
