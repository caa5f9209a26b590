"""What the weights and checkpoints of a plan take on disk, and how a full disk is told.

Pure: no torch, no ray, no network.
"""

import errno
import os
from typing import NamedTuple

from sweep.gridfile.schema import Grid, Resources
from sweep.plan.trials import Trial, cost

CHECKPOINTS = 3
"""Two are kept, and a third one is there while it is written."""

COPIES = 3
"""In a checkpoint: the weights and AdamW's two moments, all in float32."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors of a write that has no room, or no permission of the system as a whole."""


class Disk(NamedTuple):
    """Bytes; None where only the hub knows the model's size."""

    kept: int | None
    """Weights that stay for good."""
    peak: int | None
    """At most so many at one time, checkpoints of the running trials among them."""


def disk(grid: Grid, planned: list[Trial]) -> Disk:
    """Of all trials in a plan. Parents are counted as if all their children came at the end."""
    at_once = running_at_once(grid.resources)
    kept = peak = largest = 0
    for name, stage in grid.stages.items():
        sizes = [cost(trial).disk_bytes for trial in planned if trial.stage == name]
        if None in sizes:
            return Disk(None, None)
        found = [size for size in sizes if size is not None]
        one = max(found, default=0)
        stay = {"all": sum(found), "best": one, "none": 0}[stage.keep]
        is_start = any(other.start_from == name for other in grid.stages.values())
        kept += stay
        peak += sum(found) if is_start else min(stay + at_once * one, sum(found))
        largest = max(largest, min(at_once, len(found)) * CHECKPOINTS * COPIES * one)
    return Disk(kept, peak + largest)


def running_at_once(resources: Resources) -> int:
    """Trials at once, as far as it can be told before a cluster is asked: on one GPU, or here."""
    if resources.max_concurrent is not None:
        return resources.max_concurrent
    if resources.gpus_per_trial:
        return max(1, int(1 / resources.gpus_per_trial))  # of several GPUs, one trial
    return max(1, int((os.cpu_count() or 1) // resources.cpus_per_trial))


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
