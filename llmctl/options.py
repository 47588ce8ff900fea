"""Arguments and options that several commands share, and how a shell completes them.

As cli.py, it imports typer and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer


def complete_recipe(incomplete: str) -> Iterator[str]:
    """Recipe files below the typed path."""
    head, slash, _ = incomplete.rpartition("/")
    folder = Path(head + slash) if slash else Path(".")
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = f"{head}{slash}{path.name}"
        if not path.name.startswith(".") and name.startswith(incomplete):
            if path.is_dir():
                yield f"{name}/"
            elif path.suffix in (".yaml", ".yml"):
                yield name


def complete_key(context: typer.Context, incomplete: str) -> list[str]:
    """`KEY=` for every key of the stage that is being typed."""
    from llmctl.schema.keys import dotted_keys

    names = [name for name in dotted_keys(str(context.info_name)) if name.startswith(incomplete)]
    return [f"{name}=" for name in names]


RecipeFile = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE",
        help="YAML recipe.",
        readable=False,  # typer would tell it in four lines; the loader does in one
        autocompletion=complete_recipe,
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set one value of the recipe (dotted key, YAML value); repeatable.",
        autocompletion=complete_key,
    ),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of the artifact.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Show warnings and errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show details.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
Offline = Annotated[bool, typer.Option("--offline", help="Fetch nothing from a hub.")]
Force = Annotated[bool, typer.Option("--force", help="Run even when up to date.")]
Follow = Annotated[
    bool,
    typer.Option("--follow", help="Follow the recipe's stream until SIGTERM or Ctrl-C."),
]
Sweep = Annotated[
    str | None,
    typer.Option(
        "--sweep",
        metavar="T,T,...",
        help="Count what other thresholds of minhash would drop, e.g. 0.6,0.7,0.9.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")]


def swept(text: str) -> str:
    """The KEY=VALUE that `--sweep T,T` is; raises RecipeError when a part is no number."""
    try:
        return f"sweep={[float(part) for part in text.split(',')]}"
    except ValueError:
        from llmctl.errors import RecipeError

        hint = "give thresholds above 0 and at most 1, as in --sweep 0.6,0.9"
        raise RecipeError(f"--sweep '{text}': {hint}") from None
