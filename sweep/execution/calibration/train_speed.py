"""Seconds of a training's steps against their tokens, measured on a slice of its data."""

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sweep.gridfile.keys.schema import BASE, Grid
from sweep.price.calibration import Training
from sweep.resolve.resolve import CannotStart
from trainers.models import load
from trainers.specs.conditions import Conditions
from trainers.specs.kinds import StageSpec
from trainers.specs.result import OutOfTime

STEPS = 40
"""Optimizer steps of a measurement at most."""
WARM_UP = 2
"""Steps not counted: the first ones allocate."""
SECONDS = 4.0
"""For the steps at one batch size."""
FEW_EXAMPLES = 16
"""Of a slice for trials without a GPU: DPO's reference is computed for all of it."""


class Slice(NamedTuple):
    """The first cell of a training on a part of its data, and the batch sizes to measure at."""

    words: str
    """The training's."""
    spec: StageSpec
    batch_sizes: tuple[int, ...]


def slice_of(grid: Grid, training: Training) -> Slice:
    """Examples for two of the largest batches that are measured; steps go through them again."""
    specs = [grid.stages[stage].cells[number][1] for stage, number in training.cells]
    sizes = sorted({spec.batch_size for spec in specs})
    on_gpu = grid.trial_resources(training.cells[0][0]).gpus_per_trial
    largest = sizes[-1] if on_gpu else 4 * sizes[0]
    sizes = sorted({sizes[0], min(sizes[-1], largest)})
    first = specs[0]
    enough = max(2 * sizes[-1], FEW_EXAMPLES) // first.examples_per_row
    sources = tuple(
        source.model_copy(update={"examples": min(source.examples or enough, enough)})
        for source in first.sources
    )
    update = {"data": sources, "heldout": 0, "epochs": None, "tokens": None, "steps": STEPS}
    spec = first.model_copy(update=update | {"learning_rate": 1e-6})
    return Slice(training.words, spec, tuple(sizes))


def measure(
    grid: Grid, part: Slice, folder: Path, data: Path, say: Callable[[str], None]
) -> dict[str, float]:
    """As `StageSpeed` has it (sweep/price/calibration.py), from steps at the smallest and the
    largest batch.

    Raises:
        CannotStart: no step ended.
    """
    from trainers import dispatch
    from trainers.ops import memory

    timings = []
    examples = tokens = 0
    for size in part.batch_sizes:
        say(f"{part.words}, batch size {size}, about {SECONDS:.0f} s")
        loaded = load.load(grid.model.name, grid.model.revision, adapter=part.spec.adapter)
        spec = part.spec.model_copy(update={"batch_size": size})
        at = folder / str(size)
        at.mkdir(parents=True)
        with contextlib.suppress(OutOfTime):  # looked at after each step
            dispatch.train(spec, loaded, data, BASE, at, Conditions(time.monotonic() + SECONDS))
        del loaded
        memory.release()
        records = [json.loads(line) for line in (at / "metrics.jsonl").read_text().splitlines()]
        if not records:
            raise CannotStart(
                f"--calibrate: no step of {part.words} at batch size {size} ended in time"
            )
        examples += size * len(records)
        tokens += records[-1]["tokens"]
        steps = [{"tokens": 0, "seconds": 0.0}, *records]
        first = min(WARM_UP, len(steps) - 2)
        for before, after in zip(steps[first:], steps[first + 1 :], strict=False):
            timings.append(
                (after["tokens"] - before["tokens"], after["seconds"] - before["seconds"])
            )
        step_seconds = timings[-1][1]
        say(f"{part.words}, batch size {size}: {step_seconds:.3f} s a step")
        if step_seconds > SECONDS:  # a larger batch would take the time of all else
            break
    per_step, per_token = _line(timings)
    return {
        "tokens_per_example": tokens / examples,
        "seconds_per_step": per_step,
        "seconds_per_token": per_token,
    }


def _line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Intercept and slope, neither negative, of the least-squares line of (amount, seconds)."""
    from scipy.optimize import nnls

    amounts = np.array([[1.0, amount] for amount, _ in points])
    (intercept, slope), _ = nnls(amounts, np.array([seconds for _, seconds in points]))
    return float(intercept), float(slope)
