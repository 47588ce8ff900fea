"""Values that are no recipe's: secrets and addresses stay in environment variables."""

from __future__ import annotations

import os

from llmctl.errors import MissingError


def variable(key: str, name: str, example: str = "...") -> str:
    """The value of the variable that a recipe's `key` names; it is never printed."""
    found = os.environ.get(name, "").strip()
    if not found:
        raise MissingError(
            f"{key}: the environment variable {name} is not set; export {name}={example}"
        )
    return found
