"""manifest.json: with what a run was made, and which evaluations its table should hold."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from sweep import store
from sweep.grid import Grid
from sweep.store import RunFolder
from sweep.wanted import WantedByStage
from trainers.counts import Preparation

PACKAGES = (
    "torch", "transformers", "trl", "accelerate", "datasets", "lm_eval", "ray", "tokenizers",
    "numpy",
)  # fmt: skip


def write(
    folder: RunFolder,
    grid: Grid,
    data: dict[str, str],
    wants: WantedByStage,
    prepared: list[Preparation],
) -> None:
    """Written at every start; `created` and the data seen by earlier starts are kept."""
    earlier = store.read_json(folder.manifest) or {}
    counted = [one.model_dump() for one in prepared]
    asked = [one["asked"] for one in counted]
    before = [one for one in earlier.get("prepared", []) if one["asked"] not in asked]
    record = {
        "name": grid.name,
        "created": earlier.get("created", store.now()),
        "updated": store.now(),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "hardware": {
            "machine": platform.machine(),
            "system": platform.platform(),
            "cpus": os.cpu_count(),
        },
        "data": earlier.get("data", {}) | data,
        "prepared": before + counted,
        "stages": {
            stage: {"evaluations": [want.model_dump(exclude={"heldout", "task"}) for want in mine]}
            for stage, mine in wants.items()
        },
    }
    store.write_json(folder.manifest, record)


def _git_commit() -> str | None:
    """The commit of this code, marked where the work tree differs; None outside a checkout."""
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    return run.stdout.strip() or None
