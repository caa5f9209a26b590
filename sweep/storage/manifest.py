"""manifest.json: with what a run was made, and which evaluations its table should hold."""

import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import trainers
from sweep.gridfile.schema import Grid
from sweep.plan.evaluations import WantedByStage
from sweep.storage.run_folder import RunFolder
from trainers import files
from trainers.data.row_counts import Preparation

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
    earlier = files.read_json(folder.manifest) or {}
    changed = changed_code(folder)
    counted = [one.model_dump() for one in prepared]
    asked = [one["asked"] for one in counted]
    before = [one for one in earlier.get("prepared", []) if one["asked"] not in asked]
    record = {
        "name": grid.name,
        "created": earlier.get("created", files.now()),
        "updated": files.now(),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "packages": packages(),
        "hardware": {
            "machine": platform.machine(),
            "system": platform.platform(),
            "cpus": os.cpu_count(),
        },
        "code": code(),
        "code_changes": earlier.get("code_changes", [])
        + ([{"time": files.now(), "changed": changed}] if changed else []),
        "data": earlier.get("data", {}) | data,
        "prepared": before + counted,
        "stages": {
            stage: {"evaluations": [want.model_dump(exclude={"heldout", "task"}) for want in mine]}
            for stage, mine in wants.items()
        },
    }
    files.write_json(folder.manifest, record)


def code() -> dict[str, str]:
    """Content of every file that decides weights or scores, by its name."""
    root = Path(trainers.__file__).parent
    paths = sorted(path for path in root.rglob("*") if path.suffix in (".py", ".yaml"))
    return {
        f"trainers/{file.relative_to(root).as_posix()}": hashlib.sha256(
            file.read_bytes()
        ).hexdigest()[:16]
        for file in paths
    }


def code_hash() -> str:
    """One hash of all of `code()`."""
    return files.short_hash(code())


def packages() -> dict[str, str]:
    return {name: metadata.version(name) for name in PACKAGES}


def changed_code(folder: RunFolder) -> list[str]:
    """What decides weights and scores and is not what it was when a trial of the run was trained:
    files of `trainers`, and versions of libraries."""
    earlier = files.read_json(folder.manifest) or {}
    if "code" not in earlier or not any(folder.path.glob("trials/*/train.json")):
        return []
    changed = []
    now = code()
    for name in sorted(now.keys() | earlier["code"].keys()):
        if now.get(name) != earlier["code"].get(name):
            what = "is new" if name not in earlier["code"] else "has changed"
            changed.append(f"{name} {what if name in now else 'is gone'}")
    for name, version in packages().items():
        then = earlier.get("packages", {}).get(name, version)
        if name != "ray" and then != version:
            changed.append(f"{name} {then} then, {version} now")
    return changed


def _git_commit() -> str | None:
    """The commit of this code, marked where the work tree differs; None outside a checkout."""
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    return run.stdout.strip() or None
