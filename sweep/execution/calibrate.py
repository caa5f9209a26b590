"""Time a few real steps and items, as many at once as trials will run: `--calibrate`.

The same code as a trial's runs, on the grid's own model and data, in fresh processes; nothing of
it is kept but the figures.
"""

import json
import math
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from sweep.gridfile.schema import BASE, Grid
from sweep.plan.cost import Calibration
from sweep.resolve.resolve import resolve
from sweep.storage import run_folder
from trainers import files, process
from trainers.evaluate import benchmarks
from trainers.files import Damaged
from trainers.models import load
from trainers.specs.kinds import StageSpec

STEPS = 10
WARM_UP = 2
"""Steps not counted: the first ones allocate."""


def read(run_dir: Path) -> Calibration | None:
    """What was measured for this run folder before, or None.

    Raises:
        Damaged: the record is not whole, or of another form.
    """
    path = run_dir / run_folder.CALIBRATION
    record = files.read_json(path)
    try:
        return None if record is None else Calibration.model_validate(record)
    except ValidationError as error:
        raise Damaged(f"{path}: not as --calibrate writes it; measure again") from error


def measure(grid: Grid, run_dir: Path) -> Calibration:
    """Measure in as many processes as trials fit here, take the mean, write calibration.json.

    Raises:
        CannotStart: something that the grid needs is missing.
    """
    grid = resolve(grid).pinned
    at_once = _fit_here(grid)
    context = multiprocessing.get_context("spawn")
    started = time.time()
    with (
        tempfile.TemporaryDirectory() as scratch,
        ProcessPoolExecutor(at_once, mp_context=context) as pool,
    ):
        jobs = [
            pool.submit(_measure, grid, scratch, str(number), started) for number in range(at_once)
        ]
        found = [job.result() for job in jobs]
    calibration = Calibration(at_once=at_once, **_mean(found))
    files.write_json(run_dir / run_folder.CALIBRATION, calibration.model_dump())
    return calibration


def _fit_here(grid: Grid) -> int:
    import torch

    resources = grid.resources
    fits = (os.cpu_count() or 1) // resources.cpus_per_trial
    if resources.gpus_per_trial:
        fits = min(fits, torch.cuda.device_count() // resources.gpus_per_trial)
    return max(1, min(int(fits), resources.max_concurrent or int(fits)))


def _mean(found: list[Any]) -> Any:
    """Numbers averaged over the processes, place by place."""
    match found[0]:
        case dict():
            return {key: _mean([one[key] for one in found]) for key in found[0]}
        case float():
            return float(np.mean(found))
        case first:
            return first


def _measure(grid: Grid, scratch: str, name: str, started: float) -> dict[str, Any]:
    process.prepare(grid.resources.threads)

    start_seconds = time.time() - started
    folder = Path(scratch) / name
    begun = time.monotonic()
    loaded = load.load(grid.model.name, grid.model.revision)
    loaded.model.save_pretrained(folder / "model")
    trial_seconds = 2 * (time.monotonic() - begun)  # loaded to train, and again to evaluate
    return {
        "device": str(load.device()),
        "start_seconds": start_seconds,
        "trial_seconds": trial_seconds,
        "stages": {
            stage: _training(grid, spec.cells, folder / stage)
            for stage, spec in grid.stages.items()
        },
        "benchmarks": dict(_evaluations(grid)),
    }


def _training(
    grid: Grid, cells: tuple[tuple[str, StageSpec], ...], folder: Path
) -> dict[str, float]:
    """Seconds of a step against its tokens, at the smallest and the largest batch of the stage."""
    from trainers import dispatch

    sizes = sorted({spec.batch_size for _, spec in cells})
    timings = []
    examples = tokens = 0
    for size in {sizes[0], sizes[-1]}:
        loaded = load.load(grid.model.name, grid.model.revision)
        spec = cells[0][1].model_copy(
            update={
                "batch_size": size,
                "steps": STEPS,
                "epochs": None,
                "tokens": None,
                "learning_rate": 1e-6,
                **_few_pairs(cells[0][1], 2 * STEPS * size),
            }
        )
        dispatch.train(spec, loaded, folder, BASE, folder, math.inf)
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        examples += size * len(records)
        tokens += records[-1]["tokens"]
        for before, after in zip(records[WARM_UP - 1 :], records[WARM_UP:], strict=False):
            timings.append(
                (after["tokens"] - before["tokens"], after["seconds"] - before["seconds"])
            )
    per_step, per_token = _line(timings)
    return {
        "tokens_per_example": tokens / examples,
        "seconds_per_step": per_step,
        "seconds_per_token": per_token,
    }


def _few_pairs(spec: StageSpec, enough: int) -> dict[str, Any]:
    """Of pairs no more than are needed: DPO's reference would be computed for all of them."""
    if spec.FORM != "pairs":
        return {}
    few = tuple(
        source.model_copy(update={"examples": min(source.examples or enough, enough)})
        for source in spec.sources
    )
    return {"data": few, "heldout": 0}


def _evaluations(grid: Grid):
    """Seconds of an evaluation against its items, at a batch and at a quarter of one."""
    from trainers.evaluate import harness

    process.prepare(grid.resources.evaluation_threads)
    loaded = load.load(grid.model.name, grid.model.revision)
    lm = harness.open_model(loaded, grid.evaluate)
    most = min(grid.evaluate.items_per_batch, grid.evaluate.limit or grid.evaluate.items_per_batch)
    for name in grid.evaluate.benchmarks:
        if name in benchmarks.OF_STAGES:
            continue
        benchmark = benchmarks.find(name)
        if benchmark.scores == "reward":  # a small part of the time, and no model is at hand
            continue
        harness.score(lm, benchmark, grid.evaluate.model_copy(update={"limit": 1}))
        timings = []
        total = 0
        for limit in (max(most // 4, 1), most):
            begun = time.monotonic()
            spec = grid.evaluate.model_copy(update={"limit": limit})
            found = harness.score(lm, benchmark, spec)
            timings.append((found.scores[0].n, time.monotonic() - begun))
            total = found.settings["items"]
        fixed, per_item = _line(timings)
        limit = grid.evaluate.limit
        items = total if limit is None else min(total, limit * len(found.settings["tasks"]))
        yield name, {"seconds": fixed, "seconds_per_item": per_item, "items": items}


def _line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Intercept and slope, neither negative, of the least-squares line of (amount, seconds)."""
    from scipy.optimize import nnls

    amounts = np.array([[1.0, amount] for amount, _ in points])
    (intercept, slope), _ = nnls(amounts, np.array([seconds for _, seconds in points]))
    return float(intercept), float(slope)
