"""What the weights and checkpoints of a plan take on disk, and how a full disk is told.

Pure: no torch, no ray, no network.
"""

import errno
import os
from collections import Counter
from typing import NamedTuple

from sweep.gridfile.keys.resources import Resources
from sweep.gridfile.keys.schema import Grid, Stage
from sweep.plan.bundles import Bundles
from sweep.plan.trials import Trial, cost
from trainers.processes import devices

CHECKPOINTS = 3
"""Two are kept, and a third one is there while it is written."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors of a write that has no room, or no permission of the system as a whole."""


class Disk(NamedTuple):
    """Bytes; None where only the hub knows the model's size."""

    kept: int | None
    """Weights that stay for good."""
    peak: int | None
    """At most so many at one time, checkpoints of the running trials among them."""


def disk(grid: Grid, planned: list[Trial], at_once: int | None = None) -> Disk:
    """Of all trials in a plan. Parents are counted as if all their children came at the end.

    `at_once` is how many trials the cluster runs at once, or passes over several; where it is not
    known, this machine stands for it.
    """
    slots = at_once or running_at_once(grid.most_gpus)
    lanes = Bundles(grid).expected(planned, slots)
    kept = peak = largest = 0
    for name, stage in grid.stages.items():
        at_once = slots * max((lanes[t.key] for t in planned if t.stage == name), default=1)
        costs = [cost(trial) for trial in planned if trial.stage == name]
        sizes_known = [one.disk_bytes for one in costs if one.disk_bytes is not None]
        saved = [one.checkpoint_bytes for one in costs if one.checkpoint_bytes is not None]
        if len(sizes_known) < len(costs) or len(saved) < len(costs):
            return Disk(None, None)
        largest_here = max(sizes_known, default=0)
        stay = {"all": sum(sizes_known), "best": largest_here, "none": 0}[stage.keep]
        is_start = any(other.start_from == name for other in grid.stages.values())
        kept += stay
        if stage.keep == "best":
            stay *= _undecided(grid, stage, [trial for trial in planned if trial.stage == name])
        peak += (
            sum(sizes_known) if is_start else min(stay + at_once * largest_here, sum(sizes_known))
        )
        largest = max(largest, min(at_once, len(saved)) * CHECKPOINTS * max(saved, default=0))
    return Disk(kept, peak + largest)


def _undecided(grid: Grid, stage: Stage, planned: list[Trial]) -> int:
    """Models that `keep: best` holds at once: while further seeds are to come, or cells of a run
    that decides, that of each setting may be the best one's (sweep/schedule/retention.py)."""
    if grid.decide is not None and stage.searched_axes:
        return len(planned)
    settings = Counter(
        (trial.parent, trial.label, trial.spec.model_copy(update={"seed": 0}).model_dump_json())
        for trial in planned
        if trial.spec is not None
    )
    return len(settings) if max(settings.values(), default=1) > 1 else 1


def running_at_once(resources: Resources, gpus: int | None = None) -> int:
    """Trials at once on nodes with so many GPUs in all, or else on this machine. A plan made where
    no GPU is takes as many GPUs as one trial needs.

    CPUs limit it where trials ask for no GPU alone: what a node with GPUs has is not known here.
    """
    if resources.max_concurrent is not None:
        return resources.max_concurrent
    if resources.gpus_per_trial:
        if gpus is None:
            gpus = max(len(devices.visible()), devices.per_trial(resources.gpus_per_trial))
        return max(1, devices.on_gpus(gpus, resources.gpus_per_trial))
    return max(1, devices.trials_at_once(devices.cores(), 0, resources.cpus_per_trial, 0))


def full(error: BaseException | None) -> BaseException | None:
    """The error that says that there was no room, among this one and those that it came from; None
    where none does.

    Libraries in Rust and C++ leave the error's number out, but say it in words.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return error
        if any(os.strerror(number) in str(error) for number in FULL):
            return error
        error = error.__cause__ or error.__context__
    return None
