"""A plan of ten thousand cells, and what the driver costs per trial.

    python -m tests.bench.bench_scale                      plan 10,000 cells: seconds, memory
    python -m tests.bench.bench_scale --trials 10000       and run so many on Ray that do nothing
    python -m tests.bench.bench_scale --curves 154000      what the curves of such a trial send

A trial that does nothing is a real one whose records were there before: its worker opens the
folder, notes the attempt, finds nothing to train and nothing to score, and says so to Tune. Seconds
per trial and the driver's memory are told after each thousand, then the time of the report.
"""

import argparse
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from trainers import files

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import psutil
from rich.console import Console

from sweep import orchestrate
from sweep.execution.backends.runner import runner
from sweep.execution.job import Outcome
from sweep.execution.worker.remote_trial import CURVES_EVERY
from sweep.gridfile import load
from sweep.gridfile.keys.schema import Grid
from sweep.options import Options
from sweep.plan import trials as plan
from sweep.plan.evaluations import Wanted
from sweep.plan.trials import Trial
from sweep.resolve.resolve import resolve
from sweep.storage import manifest
from sweep.storage.remote.mirror import Mirror
from sweep.storage.run_folder import RunFolder
from sweep.storage.run_log import RunConsole
from sweep.storage.status.reader import Reader
from sweep.terminal.plan import show_plan
from trainers.evaluate import scores

ROOT = Path(__file__).parents[2]

CELLS = 10_000
PLAN_SECONDS = 5.0
"""Wanted, from the file to every trial with its key and its place in the order."""
TRIAL_SECONDS = 0.1
"""Wanted, of the driver and Ray per trial."""
REPORT_SECONDS = 60.0
"""Wanted, of the report on all of them."""

STEPS_PER_SECOND, LINE_BYTES = 14, 200
"""Of a trial of grids/lr_bs.yaml, and of a line of its metrics.jsonl."""

PORTION = 1000
ITEMS = 100

GRID = """\
name: scale
model: tiny
stages:
  sft:
    kind: sft
    data: {{name: "world:sft", examples: 4000}}
    steps: 10
    heldout: 8
    max_length: 128
    grid:
      learning_rate: {{log: [1.0e-6, 1.0e-2], count: {rates}}}
      batch_size: {{log2: [1, 512]}}
      seed: {seeds}
evaluate: {{benchmarks: [world_choice]}}
resources: {{cpus_per_trial: 1}}
"""


def megabytes() -> float:
    return psutil.Process().memory_info().rss / 2**20


def grid_file(folder: Path, cells: int) -> Path:
    """Ten batch sizes and ten seeds, and as many rates as it takes."""
    file = folder / "scale.yaml"
    rates = max(round(cells / 100), 2)
    file.write_text(GRID.format(rates=rates, seeds=list(range(10))))
    return file


def planned(folder: Path, cells: int) -> tuple[Grid, list[Trial]]:
    before, began = megabytes(), time.monotonic()
    grid = load.load(grid_file(folder, cells))
    loaded = time.monotonic()
    trials = plan.trials(grid)
    seconds = time.monotonic() - began
    print(
        f"plan: {len(trials):,} trials in {seconds:.2f} s (wanted {PLAN_SECONDS:g} s), of which",
        end="",
    )
    print(f" {loaded - began:.2f} s for the file; {megabytes() - before:.0f} MiB")
    began = time.monotonic()
    with open(os.devnull, "w") as nowhere:
        show_plan(Console(file=nowhere), grid, trials)
    print(f"dry run's table: {time.monotonic() - began:.2f} s")
    return grid, trials


def written(folder: Path, grid: Grid, trials: list[Trial]) -> RunFolder:
    run = RunFolder(folder / "scale")
    began = time.monotonic()
    run.write_plan(grid, trials)
    first = time.monotonic() - began
    began = time.monotonic()
    run.write_plan(grid, trials)
    again = time.monotonic() - began
    print(f"run folder written: {first:.1f} s at the first start, {again:.1f} s at the next")
    began = time.monotonic()
    Reader(run.path).read()
    print(f"status read from it: {time.monotonic() - began:.2f} s")
    return run


class Counted(orchestrate.Orchestrator):
    """The driver as it is; notes when each trial ended, and its own memory then."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.ends: list[float] = []
        self.memory: list[float] = []

    def died(self, key: str) -> None:
        pass

    def retried(self, key: str) -> None:
        raise AssertionError(key)

    def ended(self, ended: Outcome) -> None:
        assert ended.status == "ok", ended
        super().ended(ended)
        self.ends.append(time.monotonic())
        self.memory.append(megabytes())
        if len(self.ends) % PORTION == 0:
            self.tell(len(self.ends) - PORTION, len(self.ends))

    def tell(self, first: int, last: int) -> None:
        each = (self.ends[last - 1] - self.ends[first]) / (last - first - 1)
        print(f"trials {first + 1:,} to {last:,}: {each:.4f} s each", end="; ")
        print(f"driver {self.memory[last - 1]:.0f} MiB", flush=True)


def run_nothing(folder: RunFolder, grid: Grid, trials: list[Trial]) -> None:
    """So many trials on Ray, each with its records already there, by the driver itself."""
    resolved = resolve(grid)
    with open(os.devnull, "w") as nowhere, folder.lock() as lock:
        driver = Counted(resolved, folder, Options(), RunConsole(file=nowhere), None, lock)
        manifest.write(folder, resolved, [], {})
        began = time.monotonic()
        for trial in trials:
            ended(folder, trial, resolved.evaluations[trial.stage])
        print(f"records written: {time.monotonic() - began:.0f} s")
        driver.events.begun(trials, 0, len(trials))
        frontier = driver.queue(trials)
        jobs = {trial.key: driver.job(trial) for trial in trials}
        began = time.monotonic()
        with runner(grid, Options(), resolved.needed, driver.allowance.reached, driver.say) as at:
            at_once = driver.start(at, frontier, jobs)
    warm = min(PORTION, len(trials) // 5)
    each = (driver.ends[-1] - driver.ends[warm]) / (len(trials) - warm - 1)
    print(f"{len(trials):,} trials that do nothing, {max(at_once.values())} at once:", end=" ")
    print(f"{time.monotonic() - began:.0f} s with Ray's start and end;", end=" ")
    print(f"after the first {warm:,} {each:.4f} s each (wanted {TRIAL_SECONDS:g} s),", end=" ")
    print(f"driver {driver.memory[warm]:.0f} to {driver.memory[-1]:.0f} MiB")


def ended(folder: RunFolder, trial: Trial, wants: tuple[Wanted, ...]) -> None:
    """The records of a trial that was trained and scored: a noisy peak over both axes."""
    rng = np.random.default_rng(int(trial.key, 16))
    away = 0.0
    if trial.spec is not None:
        x, y = math.log2(trial.spec.learning_rate), math.log2(trial.spec.batch_size)
        away = (x + 11 - 0.4 * (y - 5)) ** 2 / 18 + (y - 5) ** 2 / 40
    level = 0.25 + 0.4 * math.exp(-away) + rng.normal(0, 0.01)
    record = {"status": "ok", "reason": "", "steps": 10, "train_seconds": 0.0}
    files.write_json(folder.trial(trial).path / "train.json", record)
    for want in wants:
        right, loss = rng.binomial(1, level, ITEMS), rng.normal(3 - level, 0.3, ITEMS)
        values = right if want.higher_is_better else loss
        found = scores.summarise(
            {want.metric: float(values.mean())},
            {want.metric: values.astype(float)},
            [str(number) for number in range(ITEMS)],
            primary=want.metric,
            lower_is_better=() if want.higher_is_better else (want.metric,),
            settings={},
        )
        place = folder.trial(trial).scores(want.fingerprint)
        scores.write(place, want.benchmark, want.fingerprint, found, 0.0)


def reported(folder: RunFolder) -> None:
    """`python -m analysis.report` of the run, as a process of its own."""
    began = time.monotonic()
    command = [sys.executable, "-m", "analysis.report", str(folder.path)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    rows = len((folder.path / "results.csv").read_text().splitlines()) - 1
    print(f"report of {rows:,} rows: {time.monotonic() - began:.0f} s", end=" ")
    print(f"(wanted {REPORT_SECONDS:g} s)")


def sent(folder: Path, steps: int) -> None:
    """The curves of one trial through an object store, up and down to the driver, in as many looks
    as `CURVES_EVERY` makes of its time."""
    url = f"memory://{folder.name}/run"
    worker, driver = Mirror(folder / "worker", url), Mirror(folder / "driver", url, light=True)
    curves = worker.here / "trials" / "t" / "metrics.jsonl"
    curves.parent.mkdir(parents=True)
    traffic = {"pipe_file": 0, "cat_file": 0}
    for name in traffic:
        does = getattr(worker.system, name)

        def counted(*given: Any, does=does, name=name, **more: Any) -> Any:
            result = does(*given, **more)
            traffic[name] += len(given[1] if name == "pipe_file" else result)
            return result

        setattr(worker.system, name, counted)
    at_a_time, began = round(STEPS_PER_SECOND * CURVES_EVERY), time.process_time()
    for first in range(0, steps, at_a_time):
        with open(curves, "a") as file:
            for number in range(first, min(first + at_a_time, steps)):
                file.write(f'{{"step": {number:0{LINE_BYTES - 12}}}}\n')
        worker.push()
        driver.pull("trials/t")
    looks = math.ceil(steps / at_a_time)
    seconds = (time.process_time() - began) / looks
    objects = len(worker.there())
    worker.push(last=True)
    driver.pull("trials/t")
    assert (driver.here / "trials/t/metrics.jsonl").read_bytes() == curves.read_bytes()
    size, up, down = (number / 1e6 for number in (curves.stat().st_size, *traffic.values()))
    print(f"curves of {steps:,} steps, {size:.0f} MB, in {looks} looks: {up:.0f} MB up,", end=" ")
    print(f"{down:.0f} MB down, {objects} objects, then {len(worker.there())};", end=" ")
    print(f"{seconds:.3f} s of a core a look of both")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cells", type=int, default=CELLS)
    parser.add_argument("--trials", type=int, default=0, help="Run so many of them on Ray.")
    parser.add_argument("--curves", type=int, help="Send those of so many steps, and nothing else.")
    arguments = parser.parse_args()
    if arguments.curves:
        with tempfile.TemporaryDirectory() as name:
            sent(Path(name), arguments.curves)
        return
    with tempfile.TemporaryDirectory() as name:
        grid, trials = planned(Path(name), arguments.cells)
        if arguments.trials:
            trials = trials[: arguments.trials]
        folder = written(Path(name), grid, trials)
        if arguments.trials:
            run_nothing(folder, grid, trials)
            reported(folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
