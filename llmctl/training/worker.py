"""One of the processes that `launch` starts: python -m llmctl.training.worker FOLDER."""

from __future__ import annotations

import json
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from llmctl import processes, ui
from llmctl.artifact import SCRATCH, Artifact, Input, read_manifest
from llmctl.errors import LlmctlError
from llmctl.schema.base import schema_of
from llmctl.training import launch


def main(folder: Path) -> int:
    """Run the stage; what came out, or the error, is left in the folder."""
    import torch

    rank = int(os.environ["RANK"])
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    job = json.loads((folder / "job.json").read_bytes())
    stage = job["recipe"]["stage"]
    recipe = schema_of(stage).model_validate(job["recipe"])
    artifact = _artifact(job, folder, rank)
    ui.configure(quiet=bool(rank))
    try:
        import_module(f"llmctl.stages.{stage}").run(recipe, artifact)
    except LlmctlError as error:
        told = {"kind": type(error).__name__, "message": str(error)}
        (folder / f"error-{rank}.json").write_text(json.dumps(told), encoding="utf-8")
        return 1
    except Exception:  # often because another process is gone, which the parent tells in one line
        with (folder / f"rank-{rank}.log").open("a", encoding="utf-8") as log:
            log.write(traceback.format_exc())
        return 1
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if rank == 0:
        found = {name: getattr(artifact, name) for name in (*launch.FIELDS, "dropped")}
        waiting = folder / "result.partial"
        waiting.write_text(json.dumps(found), encoding="utf-8")
        waiting.replace(folder / launch.RESULT)
    return 0


def _artifact(job: dict[str, Any], folder: Path, rank: int) -> Artifact:
    """The artifact itself for the first process; for others a folder that nobody reads.

    All of them share the checkpoints, which each writes its part of.
    """
    own = Path(job["folder"]) if rank == 0 else folder / f"rank-{rank}"
    inputs = {}
    for key, row in job["inputs"].items():
        manifest = Path(row["manifest"]) if "manifest" in row else None
        inputs[key] = Input(
            key,
            row["ref"],
            None if row["path"] == "None" else Path(row["path"]),
            row["sha256"],
            read_manifest(manifest.parent) if manifest else None,
            manifest,
        )
    if rank:
        (own / SCRATCH).mkdir(parents=True, exist_ok=True)
        link = own / SCRATCH / "checkpoints"
        if not link.is_symlink():
            link.symlink_to((Path(job["folder"]) / SCRATCH / "checkpoints").resolve())
    return Artifact(own, inputs, forced=job["forced"])


if __name__ == "__main__":
    processes.die_with_parent(int(os.environ[launch.INSIDE]))  # first: torch takes seconds
    sys.exit(main(Path(sys.argv[1])))
