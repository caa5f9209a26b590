"""How good is the setting that the deciding run ends with, on published grids of losses?

    python -m tests.bench.bench_decide_replay [steplaw_dense.csv] [--surfaces 17] [--first-seed 0]

Step Law's dense surfaces with 0.1 to 0.4 % of noise in each run, whole, off centre and mirrored
(`bench_search.py`); nothing may be added beyond their borders, which nobody measured. After 20
trials of `decide`, and of random cells with the same fit: the share of runs whose best ratio lies
within half an octave of the best cell's, whose chosen cell loses at most 0.1 %, and that have run a
cell within 0.25 % of the best after a tenth of the cells.
"""

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.advice.answers import answers
from analysis.design.decide import Settings, decide
from analysis.design.space import Cell, Space, Tried
from analysis.fit.surface import Fit, fit
from analysis.posterior.cells import surfaces
from analysis.tables.external.adopt import adopt
from tests.bench import bench_search
from tests.bench.bench_search import DATA, DIVERGED, NEAR, SHARE, cropped, mirrored
from trainers.processes.devices import cores

TRIALS = 20
AT_ONCE = 3
NOISE = (0.001, 0.004)
SEEDS = (0, 1, 2, 3, 4)


class Job(NamedTuple):
    case: str
    losses: dict[tuple[int, ...], float]
    number: int


def space_of(job: Job) -> Space:
    """Rates half an octave apart, batch sizes an octave, as published."""
    rates, sizes = (max(cell[axis] for cell in job.losses) + 1 for axis in (0, 1))
    x = tuple(2.0 ** (k / 2 - 14) for k in range(rates))
    return Space(x, tuple(2 ** (k + 4) for k in range(sizes)), SEEDS)


class Replay:
    """Losses of a surface with noise of their own for each run."""

    def __init__(self, job: Job):
        self.space = space_of(job)
        self._losses, self._number = job.losses, job.number
        self._noise = np.random.default_rng(job.number).uniform(*NOISE)
        self.best = min(job.losses.values())
        measured = [self._cell(place) for place in job.losses]
        self.allowed = {cell._replace(seed=seed) for cell in measured for seed in SEEDS}

    def _cell(self, place: tuple[int, ...]) -> Cell:
        return Cell(self.space.learning_rates[place[0]], self.space.batch_sizes[place[1]], 0)

    def truth(self, cell: Cell) -> float:
        place = (
            self.space.learning_rates.index(cell.learning_rate),
            self.space.batch_sizes.index(cell.batch_size),
        )
        return self._losses[place]

    @property
    def ratio(self) -> float:
        """log2 of the best cell's."""
        place = min(self._losses, key=self._losses.__getitem__)
        cell = self._cell(place)
        return float(np.log2(cell.learning_rate / cell.batch_size))

    def status(self, cell: Cell) -> str:
        return "diverged" if self.truth(cell) > self.best + DIVERGED else "ok"

    def fitted(self, ran: Sequence[Cell]) -> list[Fit]:
        rows = []
        for cell in ran:
            at = self.space.learning_rates.index(cell.learning_rate)
            rng = np.random.default_rng([self._number, at, cell.batch_size, cell.seed])
            loss = self.truth(cell) + self._noise * self.best * rng.standard_normal()
            rows.append((*cell, loss, self.status(cell), "pretraining_loss", "loss"))
        names = ["learning_rate", "batch_size", "seed", "value", "status", "benchmark", "metric"]
        frame = pd.DataFrame(rows, columns=names)
        frame.loc[frame.status != "ok", "value"] = np.nan
        if frame.value.notna().sum() < 2:
            return []
        return [fit(cells) for cells in surfaces(adopt(frame, "replay").frame)]


def decided(replay: Replay) -> list[Cell]:
    tried: list[Tried] = []
    fits: list[Fit] = []
    while True:
        settings = Settings(TRIALS, 0.1)
        chosen = decide(fits, tried, replay.space, settings, AT_ONCE, replay.allowed).choices
        if not chosen:
            return [one.cell for one in tried]
        tried += [Tried(one.cell, replay.status(one.cell)) for one in chosen]
        fits = replay.fitted([one.cell for one in tried])


def measure(job: Job) -> list[dict[str, Any]]:
    replay = Replay(job)
    grid = sorted(cell for cell in replay.allowed if cell.seed == 0)
    order = np.random.default_rng(job.number).permutation(len(grid))[:TRIALS]
    ways = {"decide": decided(replay), "random": [grid[place] for place in order]}
    return [
        {"case": job.case, "method": name} | judged(replay, ran, len(grid))
        for name, ran in ways.items()
    ]


def judged(replay: Replay, ran: Sequence[Cell], cells: int) -> dict[str, Any]:
    early = ran[: int(np.ceil(SHARE * cells))]
    hit = min(replay.truth(cell) for cell in early) <= replay.best * (1 + NEAR)
    fits = replay.fitted(ran)
    given = next(iter(answers(fits).benchmarks.values())) if fits else None
    if given is None or given.ratio is None or given.setting is None:
        return {"hit": hit, "ratio": False, "regret": False}
    size = int(given.setting.batch_size)
    rates = [c.learning_rate for c in replay.allowed if c.batch_size == size]
    rate = min(rates, key=lambda one: abs(np.log2(one / given.setting.learning_rate)))
    lost = replay.truth(Cell(rate, size, 0)) / replay.best - 1
    apart = abs(np.log2(given.ratio.ratio) - replay.ratio)
    return {"hit": hit, "ratio": bool(apart <= 0.5), "regret": bool(lost <= 0.001), "lost": lost}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=DATA / "grids" / "steplaw_dense.csv")
    parser.add_argument("--surfaces", type=int, default=17)
    parser.add_argument("--first-seed", type=int, default=0, help="of the noise")
    arguments = parser.parse_args()
    if not arguments.data.exists():
        parser.error(f"{arguments.data} is not there; give the file, or its folder in SWEEP_DATA")
    whole = bench_search.surfaces(arguments.data)[: arguments.surfaces]
    off = [part for surface in whole for part in cropped(surface)]
    cases = {"whole": whole, "off centre": off}
    cases |= {f"{name}, mirrored": [mirrored(one) for one in its] for name, its in cases.items()}
    jobs = [
        Job(name, losses, number)
        for name, its in cases.items()
        for number, losses in enumerate(its, arguments.first_seed)
    ]
    started = time.monotonic()
    with ProcessPoolExecutor(cores()) as pool:
        table = pd.DataFrame([row for rows in pool.map(measure, jobs) for row in rows])
    summary = table.groupby(["case", "method"], sort=False).agg(
        runs=("hit", "size"), hit=("hit", "mean"), ratio=("ratio", "mean"),
        regret=("regret", "mean"), lost=("lost", "mean"), answered=("lost", "count"),
    )  # fmt: skip
    print("lost: the mean over the runs that answered")
    print(summary.to_string(float_format="{:.4f}".format))
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
