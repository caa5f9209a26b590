"""Are the statuses and intervals right where the truth is known?

    PYTHONPATH=. python tests/bench/bench_calibration.py [--surfaces 200] [--first-seed 0]

Simulated grids (`simulated.py`): five shapes with an interior optimum, and six families that have
none. Half of the grids have 6 x 6 cells, half 10 x 6. `top` is the share of 95 % intervals of the
ratio that hold the ratio of the best point, `set` of those that meet the set of points as good
(within 2 % of the range), which is what a plateau or a ridge has instead; `best cell` is whether
the set of cells that may be within epsilon of the best holds a cell as good as the best in truth.
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
from simulated import REFUSED, SHAPES, measured, truth

from analysis.fit.peak import Box
from analysis.fit.surface import FitStatus, fit
from trainers.devices import cores

SIZES = 6
RATES = (6, 10)


class Job(NamedTuple):
    shape: str
    seeds: int
    rates: int
    number: int


def measure(job: Job) -> dict[str, object]:
    rng = np.random.default_rng([zlib.crc32(job.shape.encode()), *job[1:]])
    true = truth(job.shape, job.rates - 1, SIZES - 1, rng)
    cells = measured(true.score, job.rates, SIZES, job.seeds, rng)
    started = time.process_time()
    found = fit(cells)
    seconds = time.process_time() - started
    assert found.low is not None and found.high is not None and found.epsilon_set is not None
    assert found.posterior is not None and found.draws is not None
    x, y = cells.table.x.to_numpy(), cells.table.y.to_numpy()
    score = true.score(x, y)
    possible = found.epsilon_set.possible.to_numpy()
    chosen = found.best_cell
    assert chosen is not None and found.optimum is not None
    at = (cells.table.learning_rate == chosen.learning_rate) & (
        cells.table.batch_size == chosen.batch_size
    )
    return {
        **job._asdict(),
        "status": str(found.status),
        "inside": found.inside,
        "peak_inside": within(found.posterior.box, found.posterior.surfaces.tops),
        "best_inside": within(found.posterior.box, found.draws),
        "flat_p": found.flat_p,
        "identified": found.status is FitStatus.IDENTIFIED,
        "top": found.low <= true.ratio <= found.high,
        "set": found.low <= true.high and found.high >= true.low,
        "width": found.high - found.low,
        "error": abs(found.optimum.log2_ratio - true.ratio),
        "best cell": bool(possible[score.argmax()]),
        "regret": float(score.max() - score[at.to_numpy()][0]),
        "expected": chosen.regret,
        "curse": chosen.observed - float(score[at.to_numpy()][0]),
        "corrected": chosen.corrected - float(score[at.to_numpy()][0]),
        "seconds": seconds,
    }


def within(box: Box, points: np.ndarray) -> float:
    """Share of points strictly inside the box."""
    x, y = points.T
    inside = (x > box.x_low) & (x < box.x_high) & (y > box.y_low) & (y < box.y_high)
    return float(inside.mean())


def table_of(surfaces: int, first: int, refused: int) -> pd.DataFrame:
    """One row per fit; half of the grids have each of `RATES`."""
    jobs = [
        Job(shape, seeds, RATES[number % 2], first + number)
        for shapes, count in ((SHAPES, surfaces), (REFUSED, refused))
        for shape in shapes
        for seeds in (1, 3)
        for number in range(count)
    ]
    started, rows = time.monotonic(), []
    with ProcessPoolExecutor(cores()) as pool:
        for row in pool.map(measure, jobs, chunksize=10):
            rows.append(row)
            if len(rows) % max(len(jobs) // 20, 1) == 0:
                seconds = time.monotonic() - started
                print(f"{len(rows)} of {len(jobs)} fits, {seconds:.0f} s", file=sys.stderr)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--surfaces", type=int, default=200, help="of each shape, by seeds")
    parser.add_argument("--refused", type=int, help="of each family without an optimum, by seeds")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--save", help="a CSV of every fit")
    arguments = parser.parse_args()
    started = time.monotonic()
    refused = arguments.refused or max(arguments.surfaces // 2, 1)
    rows = table_of(arguments.surfaces, arguments.first_seed, refused)
    if arguments.save:
        rows.to_csv(arguments.save, index=False)
    for seeds, here in rows.groupby("seeds"):
        print(f"\n{seeds} seed{'s' if seeds > 1 else ''} per cell")
        print(
            f"{'':14} power    top    set  width  (identified:  top    set  width)  best cell"
            "  regret  expected  curse  corrected"
        )
        shapes = here[here["shape"].isin(SHAPES)]
        groups = [*shapes.groupby("shape", sort=False), ("all five", shapes)]
        for name, its in groups:
            known = its[its.identified]
            print(
                f"{name:14}{its.identified.mean():6.2f}{its.top.mean():7.3f}{its.set.mean():7.3f}"
                f"{its.width.median():7.2f}{known.top.mean():20.3f}{known.set.mean():7.3f}"
                f"{known.width.median():7.2f}{its['best cell'].mean():12.3f}"
                f"{its.regret.mean():8.2f}"
                f"{its.expected.mean():10.2f}{its.curse.mean():7.2f}{its.corrected.mean():11.2f}"
            )
        for name, its in here[here["shape"].isin(REFUSED)].groupby("shape", sort=False):
            counts = its.status.value_counts(normalize=True)
            shares = ", ".join(f"{status} {share:.3f}" for status, share in counts.items())
            print(f"{name:14} called identified {its.identified.mean():.3f}   ({shares})")
    print(
        f"\n{rows.seconds.median() * 1e3:.0f} ms of CPU a fit; {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
