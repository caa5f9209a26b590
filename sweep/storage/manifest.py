"""manifest.json: with what a run was made, and which evaluations its table should hold."""

import hashlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import trainers
from analysis.benchmarks import ON_DATA_OF
from sweep.gridfile.keys.schema import Grid
from sweep.plan.evaluations import WantedByStage
from sweep.resolve.resolve import ResolvedGrid
from sweep.storage.run_folder import LAYOUT, RunFolder
from trainers import files
from trainers.data.row_counts import Preparation
from trainers.processes import devices
from trainers.tasks import benchmarks

PACKAGES = (
    "torch", "transformers", "trl", "accelerate", "datasets", "lm_eval", "ray", "tokenizers",
    "numpy",
)  # fmt: skip


def write(
    folder: RunFolder, resolved: ResolvedGrid, prepared: list[Preparation], most: dict[str, int]
) -> None:
    """Written at every start; `created` and the data seen by earlier starts are kept. `most` is how
    many trials of a stage run at most, where the run chooses among its cells."""
    earlier = files.read_json(folder.manifest) or {}
    changed = changed_code(folder)
    counted = [preparation.model_dump() for preparation in prepared]
    asked = [preparation["asked"] for preparation in counted]
    before = [
        preparation
        for preparation in earlier.get("prepared", [])
        if preparation["asked"] not in asked
    ]
    record = {
        "name": resolved.grid.name,
        "layout": LAYOUT,
        "created": earlier.get("created", files.now()),
        "updated": files.now(),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "packages": packages(),
        "hardware": {
            "machine": platform.machine(),
            "system": platform.platform(),
            "cpus": devices.cores(),
            "gpus": len(devices.visible()),
        },
        "code": code(),
        "code_changes": earlier.get("code_changes", [])
        + ([{"time": files.now(), "changed": changed}] if changed else []),
        "data": earlier.get("data", {}) | resolved.fingerprints,
        "prepared": before + counted,
        "stages": {
            stage: {
                "evaluations": [want.record for want in of_stage],
                "resources": _held(resolved.grid, stage),
            }
            | _screens(resolved.grid, stage)
            | ({"trials": most[stage]} if stage in most else {})
            for stage, of_stage in resolved.evaluations.items()
        },
        "earlier_stages": _earlier_stages(earlier, resolved.evaluations),
    }
    files.write_json(folder.manifest, record)


def _earlier_stages(before: dict[str, Any], now: WantedByStage) -> dict[str, Any]:
    """Stages that the grid file has no more, for their trials that are left: with the evaluations
    on data of stages as they were, and of the benchmarks those that are wanted now, as now."""
    common = {want.benchmark: want.record for wants in now.values() for want in wants}
    stages = before.get("earlier_stages", {}) | before.get("stages", {})
    left = {}
    for name, stage in stages.items():
        if name in now:
            continue
        kept = []
        for want in stage.get("evaluations", []):
            of_data = want["benchmark"].partition(ON_DATA_OF)[0] in benchmarks.OF_STAGES
            kept.append(want if of_data else common.get(want["benchmark"]))
        left[name] = stage | {"evaluations": [want for want in kept if want is not None]}
    return left


def _held(grid: Grid, stage: str) -> dict[str, float]:
    """What a trial of the stage holds while it runs."""
    resources = grid.trial_resources(stage)
    return {"gpus": resources.gpus_per_trial, "cpus": resources.cpus_per_trial}


def _screens(grid: Grid, stage: str) -> dict[str, str]:
    """What a stage of screening runs screens."""
    screened = grid.stages[stage].screens if stage in grid.stages else ""
    return {"screens": screened} if screened else {}


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
    """What decides weights and scores and differs from when the run's trials were trained: files of
    `trainers` by their content, wherever they lie, and versions of libraries."""
    earlier = files.read_json(folder.manifest) or {}
    if "code" not in earlier or not any(folder.path.glob("trials/*/train.json")):
        return []
    versions = packages()
    libraries = [
        f"{name} {then} then, {versions[name]} now"
        for name, then in earlier.get("packages", {}).items()
        if name != "ray" and versions.get(name, then) != then
    ]
    return _changed_files(earlier["code"], code()) + libraries


NAMED_FILES = 6
"""More changed files than this are counted rather than named."""


def _changed_files(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """A file that was only moved has the same content and is no change."""
    old, new = set(before.values()), set(now.values())
    changed = [
        f"{name} {'has changed' if name in before else 'is new'}"
        for name, digest in now.items()
        if digest not in old
    ]
    changed += [
        f"{name} is gone"
        for name, digest in before.items()
        if digest not in new and name not in now
    ]
    if len(changed) <= NAMED_FILES:
        return sorted(changed)
    return [f"{len(changed)} files of trainers/ differ, for example {sorted(changed)[0]}"]


def _git_commit() -> str | None:
    """The commit of this code, marked where the work tree differs; None outside a checkout."""
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    return run.stdout.strip() or None
