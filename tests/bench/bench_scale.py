"""A plan of ten thousand cells, and what the driver costs per trial.

    python tests/bench/bench_scale.py                      plan 10,000 cells: seconds, memory
    python tests/bench/bench_scale.py --trials 1000        and run so many on Ray that do nothing

A trial that does nothing is a real one whose records were there before: its worker opens the
folder, notes the attempt, finds nothing to train and nothing to score, and says so to Tune.
"""

import argparse
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import psutil
from rich.console import Console

from sweep import config, plan, show, store
from sweep.plan import Trial
from sweep.status import Reader
from sweep.store import RunFolder

CELLS = 10_000
PLAN_SECONDS = 5.0
"""Wanted, from the file to every trial with its key and its place in the order."""
TRIAL_SECONDS = 0.1
"""Wanted, of the driver and Ray per trial."""

GRID = """\
name: scale
model: tiny
stages:
  sft:
    kind: sft
    data: {{name: "world:sft", examples: 400}}
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


def planned(folder: Path, cells: int) -> tuple[config.Grid, list[Trial]]:
    before, began = megabytes(), time.monotonic()
    grid = config.load(grid_file(folder, cells))
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
        show.plan(Console(file=nowhere), grid, trials)
    print(f"dry run's table: {time.monotonic() - began:.2f} s")
    return grid, trials


def written(folder: Path, grid: config.Grid, trials: list[Trial]) -> RunFolder:
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


def run_nothing(folder: RunFolder, grid: config.Grid, trials: list[Trial]) -> None:
    """So many trials on Ray, each with its records already there."""
    from sweep import cluster
    from sweep.frontier import Frontier
    from sweep.trial import Job, Outcome

    jobs = {}
    for one in trials:
        path = folder.trial(one).path
        record = {"status": "ok", "reason": "", "steps": 0, "train_seconds": 0.0}
        store.write_json(path / "train.json", record)
        jobs[one.key] = Job(
            trial=one,
            folder=str(path),
            parent_folder=None,
            data=str(folder.data),
            wanted=(),
            evaluate=grid.evaluate,
            threads=1,
        )

    class Watch:
        """Notes when each trial ended, and the driver's memory then."""

        ends: list[float]
        memory: list[float]

        def __init__(self) -> None:
            self.ends, self.memory = [], []

        def started(self, key: str) -> None:
            pass

        def retried(self, key: str) -> None:
            raise AssertionError(key)

        def ended(self, ended: Outcome) -> None:
            assert ended.status == "ok", ended
            self.ends.append(time.monotonic())
            self.memory.append(megabytes())

    watch = Watch()
    with cluster.connected(None, grid.resources):
        at_once = cluster.concurrency(grid.resources)
        frontier = Frontier(trials, usable=lambda key: True)
        cluster.run(frontier, jobs, grid.resources, at_once, watch)
    warm = len(watch.ends) // 5
    each = (watch.ends[-1] - watch.ends[warm]) / (len(watch.ends) - warm - 1)
    half = len(watch.memory) // 2
    growth = statistics.median(watch.memory[-50:]) - statistics.median(
        watch.memory[half : half + 50]
    )
    print(f"{len(trials):,} trials that do nothing, {at_once} at once: {each:.3f} s each", end=" ")
    print(f"(wanted {TRIAL_SECONDS:g} s); driver {watch.memory[-1]:.0f} MiB,", end=" ")
    print(f"{growth:+.1f} MiB in the later half")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cells", type=int, default=CELLS)
    parser.add_argument("--trials", type=int, default=0, help="Run so many of them on Ray.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        grid, trials = planned(Path(name), arguments.cells)
        folder = written(Path(name), grid, trials)
        if arguments.trials:
            chosen = [one for one in trials if one.spec is not None][: arguments.trials]
            run_nothing(folder, grid, [one.model_copy(update={"parent": None}) for one in chosen])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
