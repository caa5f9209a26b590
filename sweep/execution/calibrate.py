"""Time a few real steps and items, as many at once as trials will run: `--calibrate`.

The same code as a trial's runs, on the grid's own model and a slice of its data that is prepared
once, in fresh processes that see the devices of a trial. Each measurement has a few seconds: a fast
machine takes many steps in them, a slow one few. Answers are cut off after some tokens, and how
long they would be follows from how many have ended by then (sweep/execution/eval_speed.py). Nothing
is kept but the figures.
"""

import contextlib
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from analysis.text import listed
from sweep.gridfile.keys.resources import Resources
from sweep.gridfile.keys.schema import BASE, Grid
from sweep.price.calibration import Calibration, setting, stage_setting, timed
from sweep.resolve.resolve import CannotStart, resolve
from sweep.storage import run_folder
from trainers import devices, files, process
from trainers.data import prepare_process
from trainers.files import Damaged
from trainers.models import load
from trainers.specs.conditions import Conditions
from trainers.specs.kinds import StageSpec
from trainers.specs.result import OutOfTime
from trainers.tasks import benchmarks

STEPS = 40
"""Optimizer steps of a measurement at most."""
WARM_UP = 2
"""Steps not counted: the first ones allocate."""
SECONDS = 4.0
"""For the steps at one batch size."""
BENCHMARK_SECONDS = 6.0
"""For the items of one benchmark."""
MOST_SECONDS = 45.0
"""For all of it, from the first process on; benchmarks share what training has left."""
FEW_EXAMPLES = 16
"""Of a slice for trials without a GPU: DPO's reference is computed for all of it."""


def read(run_dir: Path, grid: Grid, say: Callable[[str], None]) -> Calibration | None:
    """What was measured for this run folder before, as far as it holds for the grid of now: None
    where another model, other resources or another `evaluate` were measured, without the stages
    whose settings are others. What is left out is said.

    Raises:
        Damaged: the record is not whole, or of another form.
    """
    path = run_dir / run_folder.CALIBRATION
    record = files.read_json(path)
    try:
        measured = None if record is None else Calibration.model_validate(record)
    except ValidationError as error:
        raise Damaged(f"{path}: not as --calibrate writes it; measure again") from error
    if measured is None:
        return None
    if measured.setting == setting(grid):
        return _of_stages(measured, path, grid, say)
    was = "by an earlier version"
    if (measured.model, measured.limit) != (grid.model, grid.evaluate.limit) and measured.model:
        limit = "no" if measured.limit is None else measured.limit
        was = f"on {measured.model.name} with {limit} evaluate.limit"
    elif measured.setting is not None:
        was = "with other resources, or other settings of `evaluate`"
    say(f"{path}: measured {was}, so it does not count; --calibrate measures again")
    return None


def _of_stages(
    measured: Calibration, path: Path, grid: Grid, say: Callable[[str], None]
) -> Calibration:
    """Without the stages that have other settings now."""
    others = [
        name
        for name, speed in measured.stages.items()
        if name in grid.stages and speed.setting != stage_setting(grid, name)
    ]
    if not others:
        return measured
    say(
        f"{path}: measured with other settings of {listed(others)}, so that does not count; "
        "--calibrate measures again"
    )
    stages = {name: speed for name, speed in measured.stages.items() if name not in others}
    return measured.model_copy(update={"stages": stages})


class _Slice(NamedTuple):
    """A stage's first cell on a part of its data, and the batch sizes to measure at."""

    spec: StageSpec
    batch_sizes: tuple[int, ...]


def measure(grid: Grid, run_dir: Path) -> Calibration:
    """Measure in as many processes as trials fit here, take the mean, write calibration.json.

    Raises:
        CannotStart: something that the grid needs is missing.
    """
    named, grid = grid, resolve(grid).pinned
    at_once = fit_here(grid.most_gpus, devices.cores(), len(devices.visible()))
    slices = {name: _slice(grid, name) for name in grid.stages}
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch:
        _say(
            f"preparing {sum(s.spec.sources[0].examples or 0 for s in slices.values()):,} examples"
        )
        _prepare(grid, slices, scratch)
        _say(f"{at_once} at once, about {MOST_SECONDS:.0f} s in all")
        if (gpus := grid.most_gpus.gpus_per_trial) > 1:
            _say(f"on one GPU; trials have {gpus:g}, and take down to a {gpus:g}th of the time")
        started = time.time()
        with ProcessPoolExecutor(at_once, mp_context=context) as pool:
            jobs = [
                pool.submit(_measure, grid, slices, scratch, place, started)
                for place in range(at_once)
            ]
            found = [job.result() for job in jobs]
    figures = _mean(found)
    for stage, speed in figures["stages"].items():
        speed["setting"] = stage_setting(named, stage)
    about = {"model": named.model, "limit": named.evaluate.limit, "setting": setting(named)}
    calibration = Calibration(at_once=at_once, **about, **figures)
    files.write_json(run_dir / run_folder.CALIBRATION, calibration.model_dump())
    return calibration


def fit_here(resources: Resources, cores: int, gpus: int) -> int:
    """Trials at once on this machine, at least one."""
    fits = devices.trials_at_once(
        cores, gpus, resources.cpus_per_trial, resources.gpus_per_trial if gpus else 0.0
    )
    return max(1, min(fits, resources.max_concurrent or fits))


def _say(text: str) -> None:
    print(f"calibrate: {text}", file=sys.stderr, flush=True)


def _slice(grid: Grid, stage: str) -> _Slice:
    """Examples for two of the largest batches that are measured; steps go through them again."""
    cells = grid.stages[stage].cells
    sizes = sorted({spec.batch_size for _, spec in cells})
    largest = sizes[-1] if grid.trial_resources(stage).gpus_per_trial else 4 * sizes[0]
    sizes = sorted({sizes[0], min(sizes[-1], largest)})
    first = cells[0][1]
    enough = max(2 * sizes[-1], FEW_EXAMPLES) // first.examples_per_row
    sources = tuple(
        source.model_copy(update={"examples": min(source.examples or enough, enough)})
        for source in first.sources
    )
    update = {"data": sources, "heldout": 0, "epochs": None, "tokens": None, "steps": STEPS}
    return _Slice(first.model_copy(update=update | {"learning_rate": 1e-6}), tuple(sizes))


def _prepare(grid: Grid, slices: dict[str, _Slice], scratch: str) -> None:
    request = prepare_process.Request(
        model=grid.model.name,
        revision=grid.model.revision,
        specs=tuple(heldout.spec for heldout in slices.values()),
        cache=f"{scratch}/data",
    )
    try:
        with prepare_process.preparing(request) as prepared:
            prepared()
    except prepare_process.PrepareFailed as error:
        raise CannotStart(str(error)) from error


def _mean(found: list[Any]) -> Any:
    """Numbers averaged over the processes, place by place."""
    match found[0]:
        case dict():
            return {key: _mean([one[key] for one in found]) for key in found[0]}
        case float():
            return float(np.mean(found))
        case first:
            return first


def _measure(
    grid: Grid, slices: dict[str, _Slice], scratch: str, place: int, started: float
) -> dict[str, Any]:
    """In a process of its own, which has not looked at the GPUs yet."""
    resources = grid.most_gpus
    gpus = min(resources.gpus_per_trial, 1.0)  # TRL trains in no process that sees several
    devices.restrict(gpus, place)
    process.prepare(resources.threads, gpus)
    start_seconds = time.time() - started
    folder = Path(scratch) / str(place)
    begun = time.monotonic()
    loaded = load.load(grid.model.name, grid.model.revision)
    loaded.model.save_pretrained(folder / "model")
    trial_seconds = 2 * (time.monotonic() - begun)  # loaded to train, and again to evaluate
    return {
        "device": load.device().type,
        "start_seconds": start_seconds,
        "trial_seconds": trial_seconds,
        "stages": {
            stage: _training(grid, stage, part, folder / stage, Path(scratch, "data"), place)
            for stage, part in slices.items()
        },
        "benchmarks": dict(_evaluations(grid, place, started + MOST_SECONDS)),
    }


def _training(
    grid: Grid, stage: str, part: _Slice, folder: Path, data: Path, place: int
) -> dict[str, float]:
    """Seconds of a step against its tokens, at the smallest and the largest batch of the stage."""
    from trainers import dispatch

    timings = []
    examples = tokens = 0
    for size in part.batch_sizes:
        if place == 0:
            _say(f"{stage}, batch size {size}, about {SECONDS:.0f} s")
        loaded = load.load(grid.model.name, grid.model.revision)
        spec = part.spec.model_copy(update={"batch_size": size})
        at = folder / str(size)
        at.mkdir(parents=True)
        with contextlib.suppress(OutOfTime):  # looked at after each step
            dispatch.train(spec, loaded, data, BASE, at, Conditions(time.monotonic() + SECONDS))
        records = [json.loads(line) for line in (at / "metrics.jsonl").read_text().splitlines()]
        if not records:
            raise CannotStart(f"--calibrate: no step of {stage} at batch size {size} ended in time")
        examples += size * len(records)
        tokens += records[-1]["tokens"]
        steps = [{"tokens": 0, "seconds": 0.0}, *records]
        first = min(WARM_UP, len(steps) - 2)
        for before, after in zip(steps[first:], steps[first + 1 :], strict=False):
            timings.append(
                (after["tokens"] - before["tokens"], after["seconds"] - before["seconds"])
            )
        step_seconds = timings[-1][1]
        if place == 0:
            _say(f"{stage}, batch size {size}: {step_seconds:.3f} s a step")
        if step_seconds > SECONDS:  # a larger batch would take the time of all else
            break
    per_step, per_token = _line(timings)
    return {
        "tokens_per_example": tokens / examples,
        "seconds_per_step": per_step,
        "seconds_per_token": per_token,
    }


def _evaluations(grid: Grid, place: int, end: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Seconds of each benchmark, until `end` by the wall clock."""
    from sweep.execution import eval_speed
    from trainers.evaluate import harness

    resources = grid.most_gpus
    process.prepare(resources.evaluation_threads, resources.gpus_per_trial)
    loaded = load.load(grid.model.name, grid.model.revision)
    lm = harness.open_model(loaded, grid.evaluate)
    names = timed(grid)
    for number, name in enumerate(names):
        benchmark = benchmarks.find(name)
        share = max(end - time.time(), 0.0) / (len(names) - number)
        seconds = min(share, BENCHMARK_SECONDS)
        if place == 0:
            _say(f"{name} ({number + 1} of {len(names)}), about {seconds:.0f} s")
        speed = eval_speed.measure(lm, benchmark, grid.evaluate, seconds)
        if place == 0:
            _say(f"{name}: {speed['seconds_per_item']:.3f} s an item")
        yield name, speed


def _line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Intercept and slope, neither negative, of the least-squares line of (amount, seconds)."""
    from scipy.optimize import nnls

    amounts = np.array([[1.0, amount] for amount, _ in points])
    (intercept, slope), _ = nnls(amounts, np.array([seconds for _, seconds in points]))
    return float(intercept), float(slope)
