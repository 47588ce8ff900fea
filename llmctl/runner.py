"""recipe -> schema -> stage -> artifact: the one place where they meet."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from llmctl import artifact as artifacts
from llmctl import digest, ui
from llmctl.errors import (
    EmptyError,
    GateError,
    InconclusiveError,
    LlmctlError,
    MissingError,
    RecipeError,
    install_hint,
    is_disk_full,
)
from llmctl.schema.base import Loaded, leaves, load

LIVE = ("serve",)
"""Stages whose artifact is appended to while they run, and which never skip."""


@dataclass(frozen=True)
class Options:
    """The options that every stage shares."""

    sets: Sequence[str] = ()
    out: Path | None = None
    force: bool = False
    as_json: bool = False
    offline: bool = False


@dataclass(frozen=True)
class Plan:
    """What a run would do, and why."""

    loaded: Loaded
    inputs: dict[str, artifacts.Input]
    key_parts: dict[str, Any]
    reason: list[str]
    missing: list[str] = field(default_factory=list)

    @property
    def recipe(self) -> Any:
        """The valid recipe."""
        return self.loaded.recipe

    @property
    def key(self) -> str:
        """What decides skipping."""
        return digest.of_json(self.key_parts)

    @property
    def up_to_date(self) -> bool:
        """Whether there is nothing to do."""
        return not self.reason


def device_class() -> str:
    """`cuda` where an NVIDIA device is there, else `cpu`; without importing torch."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")
    return "cuda" if Path("/dev/nvidiactl").exists() and not hidden else "cpu"


def versions(needs: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Versions of the packages that a recipe uses, and the ones that are not installed."""
    found, missing = {}, []
    for name in sorted(needs):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            missing.append(name)
    return found, missing


def require(what: str, needs: dict[str, str]) -> None:
    """Refuse to begin what needs packages that are not installed; needs: package -> extra."""
    missing = versions(needs)[1]
    if missing:
        extras = ",".join(sorted({needs[name] for name in missing} - {""}))
        raise MissingError(f"{what} needs {', '.join(missing)}: {install_hint(extras)}")


def plan(stage: str | None, path: Path, options: Options, *, fetch: bool = False) -> Plan:
    """Check the recipe, digest the inputs, and compare with what is in `out`."""
    return _plan(_load(stage, path, options), options, fetch=fetch)


def _load(stage: str | None, path: Path, options: Options) -> Loaded:
    """The recipe, read once: it may be a pipe, or be edited while a run waits for another."""
    loaded = load(stage, path, options.sets, options.out)
    recipe = loaded.recipe
    artifacts.check_out(recipe.out, str(loaded.place("out")), recipe.stage, recipe.inputs())
    return loaded


def _plan(loaded: Loaded, options: Options, *, fetch: bool = False) -> Plan:
    recipe = loaded.recipe
    needs = recipe.all_needs()
    if fetch:
        require(recipe.stage, needs)
    packages, missing = versions(needs)
    inputs = _inputs(loaded, fetch)
    key_parts = {
        "stage": recipe.stage,
        "impl": recipe.impl,
        "recipe": recipe.fingerprint(),
        "inputs": {key: each.digest for key, each in inputs.items()} | recipe.revisions(),
        "packages": packages,
        "device": device_class(),
    }
    reason = ["--force"] if options.force else why(recipe, key_parts)
    if recipe.stage in LIVE:
        reason = reason or ["a service always runs"]
    if recipe.always():
        reason = reason or [recipe.always()]
    return Plan(loaded, inputs, key_parts, reason, missing)


def _inputs(loaded: Loaded, fetch: bool) -> dict[str, artifacts.Input]:
    """The inputs with their digests; files come first, models may have to be fetched."""
    refs, found = loaded.recipe.inputs(), {}
    for wanted in (Path, str):
        for key, ref in refs.items():
            if isinstance(ref, wanted):
                place = str(loaded.place(key))
                found[key] = artifacts.find_input(key, ref, place, fetch=fetch)
        if wanted is Path:
            loaded.recipe.look()
    return {key: found[key] for key in refs}


def why(recipe: Any, key_parts: dict[str, Any]) -> list[str]:
    """Why a stage has to run; empty when `out` is up to date."""
    manifest = artifacts.read_manifest(recipe.out)
    if manifest is None:
        return [f"no artifact in {recipe.out}"]
    reasons = differences(manifest, recipe.dump(), key_parts)
    if not reasons:
        wrong = artifacts.changed_output(recipe.out, manifest)
        reasons = [wrong] if wrong else []
    return reasons


def differences(
    manifest: dict[str, Any], recipe: dict[str, Any], parts: dict[str, Any]
) -> list[str]:
    """Each difference between a manifest and what would be made now, in words."""
    old = manifest["key_parts"]
    reasons = []
    for name in ("stage", "impl", "device"):
        if old.get(name) != parts[name]:
            what = "implementation" if name == "impl" else name
            reasons.append(f"{what} {old.get(name)} -> {parts[name]}")
    if old.get("recipe") != parts["recipe"]:
        before, now = dict(leaves(manifest["recipe"])), dict(leaves(recipe))
        for loc in dict.fromkeys([*now, *before]):
            if before.get(loc, _ABSENT) != now.get(loc, _ABSENT):
                key = ".".join(map(str, loc))
                shown = [_shown(each.get(loc, _ABSENT)) for each in (before, now)]
                reasons.append(f"recipe: {key} {shown[0]} -> {shown[1]}")
    for label in ("inputs", "packages"):
        one = label.removesuffix("s")
        before, now = old.get(label, {}), parts[label]
        for name in dict.fromkeys([*now, *before]):
            if name not in before:
                reasons.append(f"{one} {name} is new")
            elif name not in now:
                reasons.append(f"{one} {name} is no longer used")
            elif before[name] != now[name]:
                detail = f" {before[name]} -> {now[name]}" if one == "package" else " changed"
                reasons.append(f"{one} {name}{detail}")
    return reasons


_ABSENT = object()


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "(none)"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def run(stage: str | None, path: Path, options: Options) -> dict[str, Any]:
    """Run a stage from its recipe; returns what `--json` prints."""
    if options.offline:
        go_offline()
    loaded = _load(stage, path, options)
    out, where = loaded.recipe.out, str(loaded.place("out"))
    with artifacts.locked(out, where):
        planned = _plan(loaded, options, fetch=True)
        if not planned.up_to_date and artifacts.publish_finished(out, planned.key):
            planned = _plan(loaded, options)
        if planned.up_to_date:
            artifacts.sweep(out)
            ui.note(f"{planned.recipe.stage}: {out} is up to date")
            return _result(planned, "up to date")
        ui.note(f"{planned.recipe.stage}: {out}: runs because: {'; '.join(planned.reason[:5])}")
        execute(planned)
        return _result(planned, "done")


def follow(path: Path, options: Options) -> tuple[dict[str, Any], int]:
    """Follow the stream of an ingest recipe; (what `--json` prints, signal that ended it or 0)."""
    if options.offline:
        go_offline()
    loaded = _load("ingest", path, options)
    if loaded.recipe.source.kind != "stream":
        raise RecipeError(
            f"{loaded.place('source')}: source: --follow needs a source of kind 'stream', "
            f"found '{loaded.recipe.source.kind}'"
        )
    out, where = loaded.recipe.out, str(loaded.place("out"))
    with artifacts.locked(out, where):
        first = _plan(loaded, options, fetch=True)

        def publish() -> None:
            planned = _plan(loaded, replace(options, force=False))
            if not planned.up_to_date:
                ui.note(f"ingest: {out}: snapshot because: {'; '.join(planned.reason[:5])}")
                try:
                    execute(planned)
                except EmptyError as error:
                    # what was deleted must not be found any more, so the last one is taken away
                    artifacts.withdraw(out)
                    ui.warn(f"{error}; there is no snapshot until a document comes")

        counts, number = import_module("llmctl.rag.follow").run(first.recipe, publish)
        return {**_result(first, "followed"), "follow": counts}, number


def gate_error(result: dict[str, Any]) -> LlmctlError | None:
    """The gate that an artifact did not pass, new or up to date, as the error of its exit code."""
    failed = result.get("failed")
    if failed is None:
        return None
    cls = GateError if failed["exit_code"] == GateError.exit_code else InconclusiveError
    return cls(f"{result['out']}: {failed['message']}")


def execute(planned: Plan) -> None:
    """Do the work of a plan, whatever is in `out`."""
    recipe = planned.recipe
    facts = {
        "key": planned.key,
        "key_parts": planned.key_parts,
        "recipe": recipe.dump(),
        "seed": recipe.seed,
        "reason": planned.reason,
        "parent_keys": [i.manifest["key"] for i in planned.inputs.values() if i.manifest],
    }
    work = import_module(f"llmctl.stages.{recipe.stage.replace('-', '_')}").run
    live = recipe.stage in LIVE
    try:
        with artifacts.building(recipe.out, recipe.stage, facts, planned.inputs, live=live) as each:
            work(recipe, each)
    except LlmctlError:
        raise
    except Exception as error:
        explained = _disk(error, recipe.out, str(planned.loaded.place("out")))
        if explained is None:
            raise
        raise explained from error
    if each.summary:
        ui.table("", ["", ""], [[label, value] for label, value in each.summary])


def _disk(error: Exception, out: Path, where: str) -> LlmctlError | None:
    """An error of the disk as one line for the user; None for every other error."""
    number = error.errno if isinstance(error, OSError) else None
    if is_disk_full(error):
        return LlmctlError(f"{out}: the disk is full; free some space and run again to continue")
    if number == errno.EFBIG:
        return LlmctlError(f"{out}: a file grew beyond what is allowed here (see `ulimit -f`)")
    if isinstance(error, OSError) and number in (errno.EROFS, errno.EACCES, errno.EPERM):
        path = str(error.filename or out)
        verb = "written" if os.access(path, os.R_OK) or not os.path.exists(path) else "read"
        return RecipeError(f"{where}: {path} cannot be {verb}: {error.strerror}")
    return None


def _result(planned: Plan, status: str) -> dict[str, Any]:
    manifest = artifacts.read_manifest(planned.recipe.out) or {}
    return {
        "stage": planned.recipe.stage,
        "out": str(planned.recipe.out),
        "status": status,
        "reason": planned.reason,
        "metrics": manifest.get("metrics", {}),
        "dropped": manifest.get("dropped", {}),
        **({"failed": manifest["failed"]} if "failed" in manifest else {}),
    }


def go_offline() -> None:
    """Tell the libraries that nothing may be fetched."""
    for name in ("LLMCTL_OFFLINE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ[name] = "1"
