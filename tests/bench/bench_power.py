"""Does a grid see what its dry run says it will?

    python -m tests.bench.bench_power [--pairs 20] [--first-seed 0]

Twenty grids (cells, seeds, items). For each, pairs of simulated benchmarks of the stated shape
(`analysis.design.power`), one of either type, their best rates the stated difference apart: the
smallest that is to be seen with 80 % power, and half of it. Beside the stated power stands the
share of pairs whose difference the report calls, and beside the stated width the median width of
the report's intervals of LR*(B).
"""

import argparse
import os
import sys
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from analysis.advice.answers import answers
from analysis.advice.contrast import SUPPORTED
from analysis.design import power
from analysis.design.power import Expected, Layout
from analysis.fit.rates import RateStatus
from analysis.fit.surface import fit
from analysis.posterior.cells import Cells, surfaces
from analysis.tables.external.adopt import adopt
from trainers.processes.devices import cores

RATES, SIZES = (5, 7, 10), (4, 6)
SEEDS, ITEMS = (1, 3), (300, 2000)
LEVEL, CHANCE = 0.45, 0.25
STEPS = (1.0, 1.5)
"""Octaves from one learning rate to the next."""


class Grid(NamedTuple):
    rates: int
    step: float
    sizes: int
    seeds: int
    items: int

    @property
    def layout(self) -> Layout:
        x, y = np.meshgrid(self.step * np.arange(self.rates), np.arange(self.sizes))
        return Layout(tuple(x.ravel()), tuple(y.ravel()), self.seeds)


def grids() -> list[Grid]:
    """Twenty, spread over all that there are."""
    every = [
        Grid(rates, step, sizes, seeds, items)
        for rates in RATES
        for step in STEPS
        for sizes in SIZES
        for seeds in SEEDS
        for items in ITEMS
    ]
    return [every[place] for place in np.linspace(0, len(every) - 1, 20).astype(int)]


def measured(grid: Grid, shift: float, benchmark: str, rng: np.random.Generator) -> Cells:
    """Cells of a benchmark whose best rates lie `shift` octaves above the middle."""
    x, y, seed = (
        axis.ravel()
        for axis in np.meshgrid(
            grid.step * np.arange(grid.rates), np.arange(grid.sizes), np.arange(grid.seeds),
            indexing="ij",
        )
    )  # fmt: skip
    middle = grid.step * (grid.rates - 1) / 2, (grid.sizes - 1) / 2
    u = x - middle[0] - shift - power.SLOPE * (y - middle[1])
    lost = power.LOST * (LEVEL - CHANCE)
    score = LEVEL - lost * (1 - np.exp(-np.log(2) * (u / power.HALF_AT) ** 2))
    spread = np.sqrt(LEVEL * (1 - LEVEL) / grid.items)
    own = np.sqrt(power.OWN_ITEMS) * spread * rng.standard_normal((grid.rates, grid.sizes))
    common = np.sqrt(1 - power.OWN_ITEMS) * spread * rng.standard_normal()
    value = score + common + np.repeat(own.ravel(), grid.seeds)
    value += power.SEED_NOISE * rng.standard_normal(len(x))
    frame = pd.DataFrame(
        {
            "learning_rate": 2.0 ** (x - 13),
            "batch_size": np.round(2.0 ** (y + 2)).astype(int),
            "seed": seed,
            "benchmark": benchmark,
            "metric": "acc",
            "value": value,
            "stderr": np.sqrt(power.OWN_ITEMS) * spread,
            "n": grid.items,
        }
    )
    return surfaces(adopt(frame, "simulated").frame)[0]


def chance_of_seeing(octaves: float, error: float) -> float:
    """Power of a two-sided test at `power.LEVEL` where the types differ by so many octaves."""
    return power.NORMAL.cdf(octaves / error - power.NORMAL.inv_cdf(1 - power.LEVEL / 2))


def pair(job: tuple[Grid, float, int]) -> tuple[bool, float]:
    """Whether the difference is called, and the median width of what is interior."""
    grid, apart, number = job
    rng = np.random.default_rng([zlib.crc32(repr(grid).encode()), int(100 * apart), number])
    fits = [
        fit(measured(grid, side * apart / 2, name, rng))
        for side, name in ((1, "arc"), (-1, "hellaswag"))
    ]
    given = answers(fits)
    widths = [
        np.log2(rate.high / rate.low)
        for one in given.benchmarks.values()
        for rate in one.rates
        if rate.status is RateStatus.INTERIOR
    ]
    return given.contrast.verdict == SUPPORTED, float(np.median(widths)) if widths else np.nan


def stated(grid: Grid) -> tuple[Expected, Expected]:
    first, second = (
        power.expected(grid.layout, name, LEVEL, CHANCE, grid.items)
        for name in ("arc", "hellaswag")
    )
    return first, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20, help="of each grid and difference")
    parser.add_argument("--first-seed", type=int, default=0)
    arguments = parser.parse_args()
    started = time.monotonic()
    numbers = range(arguments.first_seed, arguments.first_seed + arguments.pairs)
    rows = []
    with ProcessPoolExecutor(cores()) as pool:
        for grid in grids():
            first, second = stated(grid)
            smallest, error = (
                power.visible([first], [second]),
                power.contrast_error([first], [second]),
            )
            if smallest is None or error is None:
                rows.append(grid._asdict() | {"stated width": first.width})
                continue
            for share in (1.0, 0.5):
                apart = share * smallest
                ended = list(pool.map(pair, [(grid, apart, number) for number in numbers]))
                called, widths = zip(*ended, strict=True)
                rows.append(
                    grid._asdict()
                    | {
                        "stated width": first.width,
                        "width": np.nanmedian(widths),
                        "difference": apart,
                        "stated power": chance_of_seeing(apart, error),
                        "power": np.mean(called),
                    }
                )
            print(f"{len(rows)} of {2 * len(grids())} rows", file=sys.stderr)
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="{:.2f}".format, na_rep=""))
    off = (table["power"] - table["stated power"]).dropna()
    print(
        f"power less what was stated: {off.mean():+.2f} on average, {off.abs().mean():.2f} without "
        f"the sign, at most {off.abs().max():.2f}; {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
