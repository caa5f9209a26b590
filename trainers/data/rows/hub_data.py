"""Rows of a data set on the hub, at one commit."""

import re
from typing import Any

from trainers import files
from trainers.data.rows.stored_rows import DataUnavailable
from trainers.specs.data import DataSpec

COMMIT = re.compile(r"[0-9a-f]{40}")


def table(data: DataSpec) -> Any:
    """Of the commit that is asked for and of no other, also offline: each has a folder of its own.

    `datasets` falls back to the newest thing in its cache folder on any error.
    """
    import datasets

    revision = commit(data)
    try:
        return datasets.load_dataset(
            data.name,
            name=data.config,
            split=data.split,
            revision=revision,
            cache_dir=str(files.cache_folder("datasets") / revision),
        )
    except Exception as error:  # the hub client raises a dozen unrelated types
        raise DataUnavailable(f"data set {data.name!r}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """With the key of the grid file where a data set has several configurations."""
    configs = re.search(r"Config name is missing.*?(\[.*?\])", str(error), re.DOTALL)
    if configs is None:
        return str(error)
    return f"it has several configurations; set `config:` to one of {configs[1]}"


def commit(data: DataSpec) -> str:
    """The commit that a revision means now, or, offline, meant when it was last fetched."""
    if COMMIT.fullmatch(data.revision or ""):
        return str(data.revision)
    from huggingface_hub import HfApi

    try:
        commit = HfApi().resolve_revision(data.name, repo_type="dataset", revision=data.revision)
    except Exception as error:  # the hub client raises a dozen unrelated types
        raise DataUnavailable(f"data set {data.name!r}: {error}") from error
    return commit.resolved
