"""What the libraries print while a stage runs goes where it belongs: stdout stays clean."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator

CHATTY = (
    "bitsandbytes",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "transformers",
    "torch",
)
# Lines that say nothing a user could act on; everything else is shown.
HARMLESS = (
    ".*`use_reentrant`.*",
    ".*pin_memory.*",
    ".*lr_scheduler.step.*",
    ".*does not have a loss type.*",
)


def hush() -> None:
    """Errors only from the libraries' loggers; some warn while they are imported."""
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)


@contextlib.contextmanager
def libraries() -> Iterator[None]:
    """Errors only from the libraries' loggers; their prints go to stderr."""
    import datasets
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    hush()
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message=message)
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield
