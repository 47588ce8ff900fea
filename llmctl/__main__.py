"""The command `llmctl`, which `python -m llmctl` is, too."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line; a Ctrl-C before it is imported ends at once and says nothing."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from llmctl.cli import main as commands

    commands()


if __name__ == "__main__":
    main()
