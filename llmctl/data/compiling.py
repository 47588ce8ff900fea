"""Says that kernels are being compiled: once after an installation, and half a minute long."""

from __future__ import annotations

from typing import Any

from numba.core import event

from llmctl import ui


class Announcing(event.Listener):  # type: ignore[misc, unused-ignore]
    """Tells of the first function that no run before has left compiled."""

    def __init__(self) -> None:
        self.told = False

    def on_start(self, _: Any) -> None:
        """A function is about to be compiled."""
        if not self.told:
            self.told = True
            ui.note("compiling the kernels: once after an installation, about half a minute")

    def on_end(self, _: Any) -> None:
        """See Listener."""


def announce() -> None:
    """Listen from now on."""
    event.register("numba:compile", Announcing())
