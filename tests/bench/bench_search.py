"""How soon a search hits a nearly best cell, by replay of published grids.

    python -m tests.bench.bench_search [steplaw_dense.csv] [--seeds 2]

Each surface of the file (one per model size and data size) is searched with the project's own
study, a proposal being answered by the nearest cell that was measured. The optimum of a published
grid lies near its centre, which a search may find without learning anything, so the grids are also
cropped to each corner and mirrored. A loss of more than 1 nat above the best counts as diverged.
"""

import argparse
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from sweep.gridfile.keys.choosers import Search
from sweep.plan.order import coarse_first
from sweep.schedule.pools.search import Cell, Study

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SWEEP_DATA", ROOT.parent / "shared" / "data"))

NEAR = 0.0025
"""A cell within this share of the best loss is as good (Step Law's own tolerance)."""

DIVERGED = 1.0
"""Nats above the best."""

SHARE = 0.1
"""Of the cells, rounded up; hits are counted then, and after ten cells."""

TEN = 10

Surface = dict[Cell, float]
"""Loss of each measured cell, in places on the axes learning rate and batch size."""

Order = Callable[[Surface, int, int], Iterator[Cell]]
"""Cells in the order to run, from surface, seed and number of cells."""


def surfaces(path: Path) -> list[Surface]:
    table = pd.read_csv(path)
    table["lr"] = np.round(2 * np.log2(table["lr"]))  # the file rounds half octaves unevenly
    found = []
    for _, group in table.groupby(["N", "D"]):
        places = [group[axis].rank(method="dense").astype(int) - 1 for axis in ("lr", "bs")]
        cells = zip(*places, strict=True)
        found.append(dict(zip(cells, group["smooth loss"], strict=True)))
    return found


def mirrored(surface: Surface) -> Surface:
    tops = np.max(list(surface), axis=0)
    return {tuple(int(t - p) for t, p in zip(tops, c, strict=True)): v for c, v in surface.items()}


def cropped(surface: Surface) -> Iterator[Surface]:
    """Two thirds of each axis, at each corner in turn."""
    sizes = np.max(list(surface), axis=0) + 1
    kept = np.ceil(sizes * 2 / 3).astype(int)
    for low in itertools.product(
        *((0, size - keep) for size, keep in zip(sizes, kept, strict=True))
    ):
        inside = {
            tuple(int(p - first) for p, first in zip(cell, low, strict=True)): value
            for cell, value in surface.items()
            if all(f <= p < f + k for p, f, k in zip(cell, low, kept, strict=True))
        }
        yield inside


def searched(sampler: str) -> Order:
    def order(surface: Surface, seed: int, count: int) -> Iterator[Cell]:
        sizes = np.max(list(surface), axis=0) + 1
        axes = {name: tuple(range(size)) for name, size in zip(("lr", "bs"), sizes, strict=True)}
        settings = Search.model_validate(
            {"method": "optuna", "sampler": sampler, "trials": count, "seed": seed}
        )
        study = Study(axes, settings, maximize=False)
        free = set(surface)
        limit = min(surface.values()) + DIVERGED
        for _ in range(count):
            cell = study.propose(free)
            free.remove(cell)
            study.start(cell)
            loss = surface[cell]
            study.tell(cell, *((None, "diverged") if loss > limit else (loss, "ok")))
            yield cell

    return order


def planned(surface: Surface, seed: int, count: int) -> Iterator[Cell]:
    cells = list(surface)
    yield from (cells[index] for index in coarse_first(cells)[:count])


class Hits(NamedTuple):
    at_share: float
    at_ten: float


def hits(order: Order, found: list[Surface], seeds: int) -> Hits:
    """Share of runs that have met a cell near the best."""
    firsts, counts = [], []
    for seed, surface in enumerate(found * seeds):
        count = max(int(np.ceil(SHARE * len(surface))), TEN)
        good = min(surface.values()) * (1 + NEAR)
        losses = np.array([surface[cell] for cell in order(surface, seed, count)])
        firsts.append(np.argmax(losses <= good) if (losses <= good).any() else np.inf)
        counts.append(np.ceil(SHARE * len(surface)))
    return Hits(float(np.mean(np.less(firsts, counts))), float(np.mean(np.less(firsts, TEN))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=DATA / "grids" / "steplaw_dense.csv")
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    if not arguments.data.exists():
        parser.error(f"{arguments.data} is not there; give the file, or its folder in SWEEP_DATA")
    whole = surfaces(arguments.data)
    off_centre = [crop for surface in whole for crop in cropped(surface)]
    cases = {
        "whole": whole,
        "mirrored": [mirrored(surface) for surface in whole],
        "off centre": off_centre,
        "off centre, mirrored": [mirrored(surface) for surface in off_centre],
    }
    orders: dict[str, Order] = {
        "grid order": planned,
        **{sampler: searched(sampler) for sampler in ("random", "tpe", "gp")},
    }
    print(f"runs that hit a cell within {NEAR:.2%} of the best, after {SHARE:.0%} of the cells")
    print(f"/ after {TEN} cells; {len(whole)} surfaces, {arguments.seeds} seeds")
    print(f"{'':22}" + "".join(f"{name:>16}" for name in orders) + "    cells")
    started = time.monotonic()
    for name, found in cases.items():
        row = [hits(order, found, arguments.seeds) for order in orders.values()]
        size = f"{min(map(len, found))} to {max(map(len, found))}"
        shares = "".join(f"{hit.at_share:>9.2f} /{hit.at_ten:5.2f}" for hit in row)
        print(f"{name:22}{shares}    {size}", flush=True)
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
