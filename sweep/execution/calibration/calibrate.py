"""Time a few real steps and items, as many at once as trials will run: `--calibrate`.

The same code as a trial's runs, on the grid's own model and a slice of its data that is prepared
once, in fresh processes that see the devices of a trial. Each measurement has a few seconds: a fast
machine takes many steps in them, a slow one few. Answers are cut off after some tokens, and how
long they would be follows from how many have ended by then (`eval_speed`). Nothing is kept but the
figures.
"""

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from sweep.execution.calibration import train_speed
from sweep.execution.calibration.train_speed import SECONDS, Slice
from sweep.gridfile.keys.resources import Resources
from sweep.gridfile.keys.schema import Grid
from sweep.price.calibration import (
    VERSION,
    Calibration,
    scoring_threads,
    setting,
    sharded,
    timed,
    trainings,
)
from sweep.resolve.resolve import CannotStart, resolve
from trainers import files
from trainers.data import prepare_process
from trainers.models import adapters, load
from trainers.processes import devices, process
from trainers.specs.adapter import Adapter
from trainers.tasks import benchmarks

BENCHMARK_SECONDS = 6.0
"""For the items of one benchmark."""
MOST_SECONDS = 45.0
"""For one training of each stage and all benchmarks, from the first process on; benchmarks share
what training has left."""

ELSE = "leave --calibrate out: --dry-run estimates the hours"


def measure(grid: Grid, path: Path) -> Calibration:
    """Measure in as many processes as trials fit here, take the mean, write it to `path`.

    Raises:
        CannotStart: something that the grid needs is missing.
    """
    gpus = grid.most_gpus.gpus_per_trial
    if names := sharded(grid):
        raise CannotStart(
            f"--calibrate: it measures in one process, and trials of {names} divide their model "
            f"over several (`sharding`); {ELSE}"
        )
    if gpus and not devices.visible():
        raise CannotStart(
            f"--calibrate: trials ask for {gpus:g} GPUs each and this machine has none, so what it "
            f"measured would say nothing of them; measure where one is, or {ELSE}"
        )
    named, grid = grid, resolve(grid).pinned
    at_once = fit_here(grid.most_gpus, devices.cores(), len(devices.visible()))
    slices = {mark: train_speed.slice_of(grid, one) for mark, one in trainings(named).items()}
    further = max(len(slices) - len(grid.stages), 0)
    seconds = MOST_SECONDS + further * 2 * SECONDS
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch:
        examples = sum(part.spec.sources[0].examples or 0 for part in slices.values())
        _say(f"preparing {examples:,} examples")
        _prepare(grid, slices, scratch)
        _say(f"{at_once} at once, about {seconds:.0f} s in all")
        if gpus > 1:
            _say(f"on one GPU; trials have {gpus:g}, and the plan divides by them")
        started = time.time()
        end = started + seconds
        try:
            with ProcessPoolExecutor(at_once, mp_context=context) as pool:
                jobs = [
                    pool.submit(_measure, grid, slices, scratch, place, started, end)
                    for place in range(at_once)
                ]
                found = [job.result() for job in jobs]
        except BrokenProcessPool as error:
            raise CannotStart(
                f"--calibrate: one of {at_once} processes died (killed, or out of memory); lower "
                f"resources.max_concurrent, or {ELSE}"
            ) from error
    figures = _mean(found)
    loading, _ = figures.pop("load_seconds"), figures.pop("save_seconds")
    # loaded to train, and again to evaluate; the first process alone has saved
    figures["trial_seconds"] = 2 * loading + found[0]["save_seconds"]
    for mark, part in slices.items():
        figures["stages"][part.words]["setting"] = mark
    about = {"model": named.model, "limit": named.evaluate.limit, "setting": setting(named)}
    calibration = Calibration(version=VERSION, at_once=at_once, **about, **figures)
    files.write_json(path, calibration.model_dump())
    return calibration


def fit_here(resources: Resources, cores: int, gpus: int) -> int:
    """Trials at once on this machine, at least one."""
    each = resources.cpus_per_trial, resources.gpus_per_trial
    fits = devices.trials_at_once(cores, gpus, *each)
    return max(1, min(fits, resources.max_concurrent or fits))


def _say(text: str) -> None:
    print(f"calibrate: {text}", file=sys.stderr, flush=True)


def _prepare(grid: Grid, slices: dict[str, Slice], scratch: str) -> None:
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
    grid: Grid, slices: dict[str, Slice], scratch: str, place: int, started: float, end: float
) -> dict[str, Any]:
    """In a process of its own, which has not looked at the GPUs yet.

    Raises:
        CannotStart: memory did not suffice, or no step ended.
    """
    resources = grid.most_gpus
    gpus = min(resources.gpus_per_trial, 1.0)  # TRL trains in no process that sees several
    devices.restrict(gpus, place)
    process.prepare(resources.threads, gpus)
    start_seconds = time.time() - started
    from trainers.ops import memory

    try:
        return {"start_seconds": start_seconds} | _figures(grid, slices, scratch, place, end)
    except (MemoryError, RuntimeError) as error:
        if not memory.out_of_memory(error):
            raise
        raise CannotStart(
            f"--calibrate: out of memory, where a trial may fit all the same ({error}); raise "
            f"resources.gpus_per_trial, lower resources.max_concurrent, or {ELSE}"
        ) from error


def _figures(
    grid: Grid, slices: dict[str, Slice], scratch: str, place: int, end: float
) -> dict[str, Any]:
    from trainers.ops import memory

    def say(text: str) -> None:
        if place == 0:
            _say(text)

    folder = Path(scratch) / str(place)
    base = _base([part.spec.adapter for part in slices.values()])
    begun = time.monotonic()
    loaded = load.load(grid.model.name, grid.model.revision, adapter=base)
    load_seconds, begun = time.monotonic() - begun, time.monotonic()
    if place == 0 and base is None:  # under 4 bits a trial writes its adapter alone
        loaded.model.save_pretrained(folder / "model")
    save_seconds = time.monotonic() - begun
    del loaded
    memory.release()
    data = Path(scratch, "data")
    return {
        "device": load.device().type,
        "load_seconds": load_seconds,
        "save_seconds": save_seconds,
        "stages": {
            part.words: train_speed.measure(grid, part, folder / mark, data, say)
            for mark, part in slices.items()
        },
        "benchmarks": dict(_evaluations(grid, base, say, end)),
    }


def _base(trained: list[Adapter | None]) -> Adapter | None:
    """An adapter whose base is in 4 bits, where trials hold no other weights; else None."""
    return trained[0] if trained and all(map(adapters.in_4_bits, trained)) else None


def _evaluations(
    grid: Grid, base: Adapter | None, say: Callable[[str], None], end: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Seconds of each benchmark, until `end` by the wall clock."""
    from sweep.execution.calibration import eval_speed
    from trainers.evaluate.open_model import open_model

    process.prepare(scoring_threads(grid), grid.most_gpus.gpus_per_trial)
    whole = load.device().type == "cpu" or grid.evaluate.backend == "vllm"  # as trials are scored
    adapter = None if whole else base
    loaded = load.load(grid.model.name, grid.model.revision, adapter=adapter)
    lm = open_model(loaded, grid.evaluate)
    names = timed(grid)
    for number, name in enumerate(names):
        benchmark = benchmarks.find(name)
        share = max(end - time.time(), 0.0) / (len(names) - number)
        seconds = min(share, BENCHMARK_SECONDS)
        say(f"{name} ({number + 1} of {len(names)}), about {seconds:.0f} s")
        speed = eval_speed.measure(lm, benchmark, grid.evaluate, seconds)
        say(f"{name}: {speed['seconds_per_item']:.3f} s an item")
        yield name, speed
