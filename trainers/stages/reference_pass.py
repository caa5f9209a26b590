"""The pass over preference pairs before DPO: the reference's log-probabilities, as a step that is
scheduled, interrupted and gone on with like a training."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainers.data.prepare import Prepared
from trainers.models import load
from trainers.ops.reference import reference
from trainers.processes import attempt
from trainers.specs.preference import DpoSpec
from trainers.specs.result import OutOfTime
from trainers.steps import checkpoints
from trainers.steps.records import CHECKPOINTS

VALUES = "log_probabilities"


def run(
    spec: DpoSpec,
    loaded: load.Loaded,
    data: Prepared,
    cache: Path,
    start: str,
    folder: Path,
    deadline: float = math.inf,
) -> dict[str, Any]:
    """Compute those of `data` under `loaded`, named `start`, into `cache`; what is there already is
    left. Goes on from the newest whole checkpoint in `folder`/checkpoints.

    Returns the figures of its record: pairs, those computed now, seconds, and the file's name.

    Raises:
        OutOfTime: the monotonic clock has passed `deadline`.
        Stopped: the attempt was asked to stop; its values are kept.
    """
    began = time.monotonic()
    pairs = len(data.train) + len(data.heldout)
    mark = {"start": start, "data": data.key, "bfloat16": load.bfloat16(spec.dtype)}
    unfinished = _Unfinished(folder / CHECKPOINTS, mark, pairs, spec, deadline)
    kept = reference(start, lambda: loaded, data, cache, spec.dtype, unfinished)
    return {
        "pairs": pairs,
        "pairs_computed": kept.computed,
        "reference_seconds": time.monotonic() - began,
        "reference_file": kept.file.name,
    }


class _Unfinished:
    """Checkpoints whose step is the number of pairs."""

    def __init__(
        self, folder: Path, mark: dict[str, Any], pairs: int, spec: DpoSpec, deadline: float
    ):
        """`mark` says of what the values are; those of anything else are not gone on from."""
        self._folder = folder
        self._mark = mark
        self._pairs = pairs
        self._every = 60 * spec.save_every_minutes
        self._deadline = deadline
        self._saved = time.monotonic()

    def known(self) -> np.ndarray | None:
        newest = checkpoints.newest(self._folder).checkpoint
        if newest is None or newest.state != self._mark or VALUES not in newest.tensors:
            return None
        return newest.tensors[VALUES].numpy().copy()

    def keep(self, values: np.ndarray) -> None:
        now, done = time.monotonic(), len(values)
        attempt.check()
        if done == self._pairs:
            return
        if now > self._deadline:
            raise OutOfTime(f"over the time limit at pair {done:,} of {self._pairs:,}")
        stop = attempt.asked_to_stop()
        if stop or now - self._saved >= self._every:
            checkpoints.save(
                self._folder, done, {VALUES: torch.from_numpy(values.copy())}, self._mark
            )
            self._saved = time.monotonic()
        if stop:
            raise attempt.Stopped(f"{stop}, at pair {done:,} of {self._pairs:,}")
