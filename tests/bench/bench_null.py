"""Does the contrast of task types say nothing where there is nothing, and how soon something?

    python -m tests.bench.bench_null [--surfaces 100] [--power 40]

Two benchmarks on simulated grids (`simulated.py`). First with the same mean over the batch sizes of
the true best log2 rate: the probability that reasoning's is the higher should be uniform
(Kolmogorov-Smirnov), and lie outside 0.025 to 0.975 for at most 5 % of the pairs. That is asked of
pairs of any two shapes, and of two quadratics that are the same on 6 x 6 cells. Then, with
quadratics, optima 1, 2 and 3 octaves of rate apart: the share of pairs with a probability above
0.975. Then a truth of the rate alone: how often the ratio is called sufficient, and how often a
ridge of equal ratios. Scores of pure chance, 2 % of 20 items: how often cells are said to differ.
Last, by how often cells were run (`bench_calibration.RUNS`): how often flat surfaces are said to
differ, and weak quadratics.
"""

import argparse
import os
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from scipy.stats import kstest

from analysis.advice.answers import answers
from analysis.advice.contrast import difference
from analysis.advice.published_rules import Verdict
from analysis.fit.flatness import ALPHA, flatness
from analysis.fit.surface import FitStatus, fit
from analysis.posterior.cells import surfaces
from analysis.tables.external.adopt import adopt
from tests.bench.bench_calibration import RUNS
from tests.bench.simulated import (
    BATCH,
    POINT,
    RATE,
    SHAPES,
    Function,
    Runs,
    Truth,
    measured,
    truth,
)
from trainers.processes.devices import cores

CELLS = 6

FARTHEST = 0.2
"""Of the rates' span: by how much a surface is moved to have the best rates of another."""

CLOSE = 0.02
"""Octaves within which the means of the best rates must agree."""

RARE, RARE_ITEMS = 0.02, 20


class Job(NamedTuple):
    octaves: float
    seeds: int
    items: int
    number: int


class Repeated(NamedTuple):
    runs: str
    number: int


class RateOnly(NamedTuple):
    ratio_called: bool
    ridge_called: bool


def chance_called(job: Job) -> bool:
    """Scores that are chance alone."""
    rng = np.random.default_rng([97, *job[1:]])
    x, y, seed = (
        axis.ravel()
        for axis in np.meshgrid(
            RATE + np.arange(CELLS), BATCH + np.arange(CELLS), np.arange(job.seeds), indexing="ij"
        )
    )
    hits = (rng.random((len(x), RARE_ITEMS)) < RARE).astype(float)
    frame = pd.DataFrame(
        {
            "learning_rate": 2.0**x,
            "batch_size": np.round(2.0**y).astype(int),
            "seed": seed,
            "benchmark": "gsm8k",
            "metric": "exact_match",
            "value": hits.mean(axis=1),
            "stderr": hits.std(axis=1, ddof=1) / np.sqrt(RARE_ITEMS),
            "n": RARE_ITEMS,
        }
    )
    return flatness(surfaces(adopt(frame, "chance").frame)[0])[0] <= ALPHA


def flat_called(job: Repeated) -> tuple[bool, bool]:
    """Whether a flat surface, and one that loses 2.2 points at 2.5 octaves, is said to differ."""
    rng = np.random.default_rng([96, zlib.crc32(job.runs.encode()), job.number])
    flat, weak = (
        measured(bowl(2.5, 2.5, points, 1.0), CELLS, CELLS, RUNS[job.runs], rng)
        for points in (0.0, 2.2)
    )
    return flatness(flat)[0] <= ALPHA, flatness(weak)[0] <= ALPHA


def bowl(x: float, y: float, points: float, along: float) -> Function:
    half = (CELLS - 1) / 2
    return lambda u, v: (
        0.4
        - POINT * points * (((u - RATE - x) / half) ** 2 + along * ((v - BATCH - y) / half) ** 2)
    )


def probability(
    pair: tuple[Function, Function], rates: int, job: Job, rng: np.random.Generator
) -> float:
    """That the first surface's best rates are the higher."""
    curves = []
    for score, name in zip(pair, ("arc", "hellaswag"), strict=True):
        its = fit(measured(score, rates, CELLS, Runs(job.seeds), rng, name, job.items)).curves
        assert its is not None, "enough cells"
        curves.append(its)
    sizes = [int(size) for size in curves[0].batch_sizes]
    draws = difference(curves[:1], curves[1:], sizes)
    return float((draws > 0).mean() + (draws == 0).mean() / 2)


def any_two_shapes(job: Job) -> float:
    """Each of any shape, with the mean best rate in common: one is moved along the rate."""
    rng = np.random.default_rng([99, *job[1:]])
    rates = (CELLS, 10)[job.number // 2 % 2]
    while True:
        first, second = (_shaped(rates, rng) for _ in range(2))
        wanted, apart = _mean_top(first.score, rates), 0.0
        for _ in range(8):
            here = _mean_top(_moved(second.score, apart), rates)
            apart += wanted - here
        if abs(apart) <= FARTHEST * (rates - 1) and abs(wanted - here) < CLOSE:
            return probability((first.score, _moved(second.score, apart)), rates, job, rng)


def _moved(score: Function, apart: float) -> Function:
    return lambda x, y: score(x - apart, y)


def _mean_top(score: Function, rates: int) -> float:
    """Mean over the batch sizes of the best log2 rate within the grid."""
    x = RATE + np.linspace(0, rates - 1, 401)
    heights = score(*np.meshgrid(x, BATCH + np.arange(CELLS)))
    return float(x[np.nanargmax(heights, axis=1)].mean())


def _shaped(rates: int, rng: np.random.Generator) -> Truth:
    return truth(str(rng.choice(SHAPES)), rates - 1, CELLS - 1, rng)


def quadratics(job: Job) -> float:
    rng = np.random.default_rng([int(10 * job.octaves), *job[1:]])
    middle, size = rng.uniform(2, 3), rng.uniform(1.5, 3.5)
    points = rng.uniform(1.5, 3)
    first, second = (
        bowl(middle + shift, size, points, 1.0) for shift in (job.octaves / 2, -job.octaves / 2)
    )
    return probability((first, second), CELLS, job, rng)


def rate_only(job: Job) -> RateOnly:
    rng = np.random.default_rng([98, *job[1:]])
    score = bowl(rng.uniform(2, 3), rng.uniform(1.5, 3.5), 2 * rng.uniform(1.5, 3), 0.0)
    result = fit(measured(score, CELLS, CELLS, Runs(job.seeds), rng))
    return RateOnly(
        answers([result]).benchmarks["arc"].ratio_is_sufficient is Verdict.TRUE,
        result.status is FitStatus.IDENTIFIED and "ridge" in result.reason,
    )


def uniformity(name: str, probability: np.ndarray) -> None:
    if not len(probability):
        print(f"one optimum, {name}: none")
        return
    extreme = ((probability > 0.975) | (probability < 0.025)).mean()
    print(
        f"one optimum, {name}: {len(probability)} pairs, KS p = "
        f"{kstest(probability, 'uniform').pvalue:.3f}, outside 0.025 to 0.975: {extreme:.3f} (0.05 "
        "if uniform)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--surfaces", type=int, default=100, help="pairs without a difference")
    parser.add_argument("--power", type=int, default=40, help="pairs of each difference")
    parser.add_argument("--first-seed", type=int, default=0)
    arguments = parser.parse_args()
    started, first = time.monotonic(), arguments.first_seed
    with ProcessPoolExecutor(cores()) as pool:
        jobs = [Job(0.0, 1 + 2 * (n % 2), 100, first + n) for n in range(arguments.surfaces)]
        for name, pairs_of in (("any two shapes", any_two_shapes), ("quadratics", quadratics)):
            uniformity(name, np.array(list(pool.map(pairs_of, jobs, chunksize=4))))
        for seeds in (1, 3):
            here = [Job(0.0, seeds, RARE_ITEMS, first + n) for n in range(10 * arguments.power)]
            share = np.mean(list(pool.map(chance_called, here, chunksize=20)))
            print(f"chance alone, {seeds} seed(s): cells said to differ {share:.3f}", flush=True)
        called = np.mean(list(pool.map(rate_only, jobs, chunksize=4)), axis=0)
        print(
            f"rate-only truth called sufficient ratio: {called[0]:.3f}; ridge of ratios: "
            f"{called[1]:.3f}"
        )
        for name in RUNS:
            here = [Repeated(name, first + n) for n in range(2 * arguments.power)]
            flat, weak = np.mean(list(pool.map(flat_called, here, chunksize=4)), axis=0)
            text = (
                f"seeds {name}: flat surfaces said to differ {flat:.3f}, weak quadratics {weak:.3f}"
            )
            print(text, flush=True)
        print("octaves  seeds  items  above 0.975")
        for octaves in (1.0, 2.0, 3.0):
            for seeds in (1, 3):
                for items in (100, 400):
                    numbers = range(first, first + arguments.power)
                    here = [Job(octaves, seeds, items, n) for n in numbers]
                    above = np.array(list(pool.map(quadratics, here, chunksize=4))) > 0.975
                    row = f"{octaves:7.0f}{seeds:7}{items:7}{above.mean():13.2f}"
                    print(row, flush=True)
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
