"""The commands. What is imported here imports typer and nothing else: `--help` answers at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from llmctl import __version__
from llmctl.options import (
    Debug,
    DryRun,
    Follow,
    Force,
    Json,
    Offline,
    Out,
    Quiet,
    RecipeFile,
    Sets,
    Sweep,
    Verbose,
    complete_recipe,
    swept,
)  # fmt: skip
from llmctl.reporting import leave, reporting

if TYPE_CHECKING:
    from llmctl.runner import Options

STAGES = {
    "ingest": "Turn documents into a searchable store.",
    "build-dataset": "Turn chunks, documents or rows into training data.",
    "dedup": "Remove duplicates, near duplicates and leaks.",
    "sft": "Fine-tune a model on examples.",
    "dpo": "Align a model with preference pairs.",
    "quantize": "Make a model smaller, and measure what that cost.",
    "eval": "Measure a model, compare it and decide.",
    "serve": "Serve a model over HTTP in OpenAI's form.",
}

ANNOTATE = "build-dataset annotate"


class Commands(TyperGroup):
    """A command may have a name of two words: `build-dataset annotate` beside `build-dataset`."""

    def resolve_command(self, context: Any, args: list[str]) -> Any:
        """Take two words as one where that is the name of a command."""
        two = " ".join(args[:2])
        return super().resolve_command(context, [two, *args[2:]] if two in self.commands else args)


app = typer.Typer(
    name="llmctl",
    cls=Commands,
    help="One recipe-driven command line for the whole life of a language model.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
recipes_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
prompts_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
lineage_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
app.add_typer(recipes_app, name="recipes", help="The bundled recipes.")
app.add_typer(prompts_app, name="prompts", help="The prompt templates of builders.")
app.add_typer(lineage_app, name="lineage", help="The chain of artifacts behind an artifact.")


def _stage_command(stage: str) -> Callable[..., None]:
    def command(
        recipe: RecipeFile,
        sets: Sets = None,
        out: Out = None,
        dry_run: DryRun = False,
        force: Force = False,
        as_json: Json = False,
        quiet: Quiet = False,
        verbose: Verbose = False,
        offline: Offline = False,
        debug: Debug = False,
    ) -> None:
        with reporting(quiet=quiet, verbose=verbose, debug=debug):
            from llmctl.runner import Options

            options = Options(sets or (), out, force, as_json, offline)
            if dry_run:
                _show_plan(stage, recipe, options)
                return
            from llmctl.runner import gate_error, run

            result = run(stage, recipe, options)
            _print_result(result, as_json)
            failed = gate_error(result)
            if failed is not None:
                raise failed

    return command


def _print_result(result: dict[str, Any], as_json: bool) -> None:
    from llmctl import ui

    if as_json:
        import json

        ui.result(json.dumps(result, ensure_ascii=False, indent=1))
    elif result["stage"] != "serve":  # serve printed its address when it was ready
        ui.result(result["out"])


def _show_plan(stage: str | None, recipe: Path, options: Options, probe: bool = False) -> None:
    from llmctl import planning

    planning.show(stage, recipe, options, probe)


def _dedup_command() -> Callable[..., None]:
    plain = _stage_command("dedup")

    def command(
        recipe: RecipeFile,
        sets: Sets = None,
        out: Out = None,
        sweep: Sweep = None,
        dry_run: DryRun = False,
        force: Force = False,
        as_json: Json = False,
        quiet: Quiet = False,
        verbose: Verbose = False,
        offline: Offline = False,
        debug: Debug = False,
    ) -> None:
        with reporting(quiet=quiet, verbose=verbose, debug=debug):
            asked = [*(sets or ()), *([] if sweep is None else [swept(sweep)])]
        plain(recipe, asked, out, dry_run, force, as_json, quiet, verbose, offline, debug)

    return command


def _ingest_command() -> Callable[..., None]:
    batch = _stage_command("ingest")

    def command(
        recipe: RecipeFile,
        sets: Sets = None,
        out: Out = None,
        follow: Follow = False,
        dry_run: DryRun = False,
        force: Force = False,
        as_json: Json = False,
        quiet: Quiet = False,
        verbose: Verbose = False,
        offline: Offline = False,
        debug: Debug = False,
    ) -> None:
        if not follow or dry_run:
            batch(recipe, sets, out, dry_run, force, as_json, quiet, verbose, offline, debug)
            return
        with reporting(quiet=quiet, verbose=verbose, debug=debug):
            from llmctl.runner import Options
            from llmctl.runner import follow as run

            result, number = run(recipe, Options(sets or (), out, force, as_json, offline))
            _print_result(result, as_json)
            if number == signal.SIGINT:
                raise KeyboardInterrupt

    return command


for _name, _help in STAGES.items():
    _made = {"ingest": _ingest_command, "dedup": _dedup_command}.get(_name)
    _command = _made() if _made else _stage_command(_name)
    app.command(_name, help=_help)(_command)


@app.command(ANNOTATE)
def annotate(
    queue: Annotated[
        Path,
        typer.Argument(
            metavar="QUEUE", help="Artifact with a queue.jsonl, or a file of candidates."
        ),
    ],
    votes: Annotated[
        Path, typer.Option("--votes", metavar="FILE", help="Where votes are kept; it is resumed.")
    ] = Path("votes.jsonl"),
    annotator: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Who votes; the user's name without it."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws which answer is shown first.")] = 42,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say which of two answers is better, in the terminal.

    Keys: a, b, t (tie), s (skip), q (quit). Each vote is kept at once; run again to go on.
    The builder `votes` makes pairs of them.
    """
    with reporting(quiet=quiet, debug=debug):
        from llmctl import annotate as annotating

        annotating.show(queue, votes, annotator=annotator, seed=seed, as_json=as_json)


app.command("merge", help="Join adapters and models of one base into one model.")(
    _stage_command("merge")
)


@app.command()
def plan(
    recipe: RecipeFile,
    sets: Sets = None,
    out: Out = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="sft, dpo: run three steps and tell the time.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    offline: Offline = False,
    debug: Debug = False,
) -> None:
    """Show what would run and why.

    The resolved recipe with the origin of each value, the inputs and an estimate.
    """
    with reporting(quiet=quiet, verbose=verbose, debug=debug):
        from llmctl.runner import Options

        _show_plan(None, recipe, Options(sets or (), out, force, as_json, offline), probe)


@app.command()
def validate(
    recipes: Annotated[
        list[Path],
        typer.Argument(metavar="RECIPE...", readable=False, autocompletion=complete_recipe),
    ],
    sets: Sets = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Check recipes without running them; one line per mistake."""
    with reporting(quiet=quiet, debug=debug):
        from llmctl import planning

        planning.validate(recipes, sets or ())


@app.command()
def schema(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="One of the eight stages.")],
    debug: Debug = False,
) -> None:
    """Print the JSON Schema of a stage's recipe."""
    with reporting(debug=debug):
        from llmctl import ui
        from llmctl.schema.export import text_of

        ui.result(text_of(stage).rstrip())


@recipes_app.command("list")
def recipes_list(as_json: Json = False, debug: Debug = False) -> None:
    """List the bundled recipes: name, and what each does."""
    with reporting(debug=debug):
        from llmctl import bundled

        bundled.show_list(as_json)


@recipes_app.command("show")
def recipes_show(name: str, debug: Debug = False) -> None:
    """Print a bundled recipe, for example `dedup/smoke`."""
    with reporting(debug=debug):
        from llmctl import bundled, ui

        ui.result(bundled.path_of(name).read_text(encoding="utf-8").rstrip())


@recipes_app.command("copy")
def recipes_copy(
    name: str,
    target: Annotated[Path, typer.Argument(help="File or folder to copy to.")] = Path("."),
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Copy a bundled recipe to edit it."""
    with reporting(debug=debug):
        from llmctl import bundled, ui

        ui.result(str(bundled.copy(name, target, force=force)))


@prompts_app.command("list")
def prompts_list(debug: Debug = False) -> None:
    """List the templates: name, what each is for, its variables."""
    with reporting(debug=debug):
        from llmctl.generation import prompts

        prompts.show_list()


@prompts_app.command("show")
def prompts_show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="For example qa.")],
    debug: Debug = False,
) -> None:
    """Print a template."""
    with reporting(debug=debug):
        from llmctl import ui
        from llmctl.generation import prompts

        ui.result(prompts.find(name).text.rstrip("\n"))


@prompts_app.command("copy")
def prompts_copy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="For example qa.")],
    target: Annotated[Path, typer.Argument(help="File or folder to write to.")] = Path("."),
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Copy a template for editing; point a builder's `prompt` to it."""
    with reporting(debug=debug):
        from llmctl import ui
        from llmctl.generation import prompts

        ui.result(str(prompts.copy(name, target, force=force)))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the new project.")] = Path("."),
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Start a project of your own.

    A Makefile, recipes, a CI workflow and sample documents.
    """
    with reporting(debug=debug):
        from llmctl import bundled, ui

        ui.result(str(bundled.init(folder, force=force)))


@app.command()
def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Show what this machine has and what each extra lacks."""
    with reporting(debug=debug):
        from llmctl import doctor as checks

        leave(checks.show(as_json))


@app.command()
def search(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="An artifact of ingest.")],
    query: Annotated[str, typer.Argument(metavar="QUERY")],
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="How many hits.")] = 5,
    mode: Annotated[
        str | None, typer.Option(metavar="MODE", help="hybrid, dense or bm25; hybrid without it.")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(metavar="SHARE", help="hybrid: share of the vectors, 0 to 1.")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option("--filter", metavar="FILTER", help="Only chunks whose metadata fit."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set any key of a recipe's `retrieve` (dotted key, YAML value); repeatable.",
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the parts of each score, and every step.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find the chunks that answer a question."""
    with reporting(debug=debug):
        from llmctl import search as searching
        from llmctl.words import typed

        part = searching.part_of(k, sets or (), mode=mode, alpha=alpha, filter=only)
        searching.show(store, typed(query), part, as_json, explain)


@app.command()
def ask(
    recipe: RecipeFile,
    question: Annotated[str, typer.Argument(metavar="QUESTION")],
    sets: Sets = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show evidence, sources, scores and every step.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Answer a question from a store, with citations.

    Says so, before any model is asked, when the documents hold nothing about it.
    """
    with reporting(quiet=quiet, debug=debug):
        from llmctl import ask as asking
        from llmctl.words import typed

        asking.show(recipe, typed(question), sets or (), as_json, explain)


@app.command()
def explore(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="A folder, a file or a pattern of rows.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The page that is written.")
    ] = Path("explore.html"),
    tokenizer: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Count lengths in this model's tokens, not in words."),
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="Group topics by embeddings (onnx …), not by words."),
    ] = None,
    sample: Annotated[
        int, typer.Option(metavar="ROWS", min=1, help="Rows that are looked at word by word.")
    ] = 50_000,
    seed: Annotated[int, typer.Option(min=0, help="Draws the rows.")] = 42,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show what is in a dataset.

    Lengths, repeats, topics, requests, vocabulary, languages, sources, examples: one HTML page.
    """
    with reporting(quiet=quiet, debug=debug):
        from llmctl import explore as exploring

        exploring.show(
            data,
            out,
            tokenizer=tokenizer,
            embedder=embedder,
            sample=sample,
            seed=seed,
            as_json=as_json,
        )


@lineage_app.command("show")
def lineage_show(artifact: Path, as_json: Json = False, debug: Debug = False) -> None:
    """Draw the chain from an artifact back to its sources."""
    with reporting(debug=debug):
        from llmctl import lineage

        lineage.show(artifact, as_json)


@lineage_app.command("verify")
def lineage_verify(artifact: Path, debug: Debug = False) -> None:
    """Read every byte of the chain again and compare it with the manifests."""
    with reporting(debug=debug):
        from llmctl import lineage

        lineage.verify(artifact)


@lineage_app.command("diff")
def lineage_diff(a: Path, b: Path, as_json: Json = False, debug: Debug = False) -> None:
    """Show how two artifacts differ: recipe, inputs, versions, metrics."""
    with reporting(debug=debug):
        from llmctl import lineage

        lineage.diff(a, b, as_json)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"llmctl {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script."""
    try:
        app()
    except OSError as error:  # stdout is full or closed while help is printed
        print(f"cannot write to stdout: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)
