"""Upload of a dataset to the Hugging Face Hub: refused at once where it cannot work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from llmctl import ui
from llmctl.errors import MissingError

if TYPE_CHECKING:
    from llmctl.schema.publishing import Push

OFFLINE = ("LLMCTL_OFFLINE", "HF_HUB_OFFLINE")
FILES = ("README.md", "*.jsonl", "export/*")
"""What is uploaded: the card and the rows."""


def check(push: Push) -> None:
    """Refuse before any work what cannot be uploaded after it."""
    name = next((n for n in OFFLINE if os.environ.get(n, "0").lower() in ("1", "true", "yes")), "")
    if name:
        raise MissingError(
            f"push: {push.repo}: {name} is set, nothing can be uploaded; unset it, leave out "
            "--offline, or take `push` out of the recipe"
        )
    if not os.environ.get(push.token_env):
        raise MissingError(
            f"push: {push.repo}: no token in the environment variable {push.token_env}; "
            f"export {push.token_env}=…"
        )


def upload(push: Push, folder: Path) -> str:
    """Upload the card and the rows in one commit; returns the address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(token=os.environ[push.token_env])
    ui.note(f"uploading to {push.repo}")
    try:
        api.create_repo(push.repo, repo_type="dataset", private=push.private, exist_ok=True)
        api.upload_folder(
            repo_id=push.repo,
            repo_type="dataset",
            folder_path=folder,
            allow_patterns=list(FILES),
            commit_message="Dataset made by llmctl",
        )
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no"
        hint = f"the token in {push.token_env} may not write there" if status in (401, 403) else ""
        said = hint or str(error).splitlines()[0]
        raise MissingError(f"push: {push.repo}: the Hub answered {status}: {said}") from None
    except Exception as error:  # the client's transport has errors of its own, by version
        raise MissingError(
            f"push: {push.repo}: the Hub cannot be reached ({type(error).__name__}); run again "
            "when it can, no work is lost"
        ) from None
    return f"{api.endpoint}/datasets/{push.repo}"
