"""The command `llmctl`, which `python -m llmctl` is, too."""

from __future__ import annotations

import io
import os
import signal
import sys


def main() -> None:
    """Run the command line; a Ctrl-C before it is imported ends at once and says nothing."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    prepare_streams()
    from llmctl.cli import main as commands

    commands()


def prepare_streams() -> None:
    """Let stdout take every character, and stdout and stderr be there when they were closed."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 until the process ends
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")


if __name__ == "__main__":
    main()
