"""Does the claim about task types say nothing where there is nothing, and how soon something?

    PYTHONPATH=. python tests/bench/bench_null.py [--surfaces 500] [--power 40]

Two benchmarks with quadratic surfaces on 6 x 6 cells (`simulated.py`). First with one optimum: the
probability that reasoning's best ratio is the higher should be uniform (Kolmogorov-Smirnov), over
all pairs and over those of which the report makes the claim, both being identified. Then with
optima 1, 2 and 3 octaves of rate apart: the share of pairs with a probability above 0.975, whatever
the status, and with both identified. Last, a truth of the rate alone: how often the ratio is called
sufficient (`Rivals.ratio_decides`), and how often the ridge that follows makes it identified.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.stats import kstest
from simulated import BATCH, RATE, Function, measured

from analysis.surface import FitStatus, fit
from trainers.prepare import cores

CELLS = 6


class Job(NamedTuple):
    octaves: float
    seeds: int
    items: int
    number: int


class Pair(NamedTuple):
    probability: float
    identified: bool
    ratio_called: bool
    ridge_called: bool


def bowl(x: float, y: float, points: float, along: float) -> Function:
    half = (CELLS - 1) / 2
    return lambda u, v: (
        40 - points * (((u - RATE - x) / half) ** 2 + along * ((v - BATCH - y) / half) ** 2)
    )


def measure(job: Job) -> Pair:
    rng = np.random.default_rng([int(10 * job.octaves), *job[1:]])
    middle, size = rng.uniform(2, 3), rng.uniform(1.5, 3.5)
    points = rng.uniform(1.5, 3)
    fits = [
        fit(
            measured(
                bowl(middle + shift, size, points, 1.0),
                CELLS,
                CELLS,
                job.seeds,
                rng,
                name,
                job.items,
            )
        )
        for name, shift in (("arc", job.octaves / 2), ("hellaswag", -job.octaves / 2))
    ]
    first, second = (one.ratio_draws for one in fits)
    assert first is not None and second is not None, "enough cells"
    difference = first - second
    rate_only = fit(measured(bowl(middle, size, 2 * points, 0.0), CELLS, CELLS, job.seeds, rng))
    return Pair(
        float((difference > 0).mean() + (difference == 0).mean() / 2),
        all(one.status is FitStatus.IDENTIFIED for one in fits),
        bool(rate_only.rivals and rate_only.rivals.ratio_decides),
        rate_only.status is FitStatus.IDENTIFIED and "ridge" in rate_only.reason,
    )


def measured_all(pool: ProcessPoolExecutor, jobs: list[Job]) -> list[Pair]:
    """With a line for every tenth."""
    started, pairs = time.monotonic(), []
    for pair in pool.map(measure, jobs, chunksize=4):
        pairs.append(pair)
        if len(pairs) % max(len(jobs) // 10, 1) == 0:
            seconds = time.monotonic() - started
            print(f"{len(pairs)} of {len(jobs)} pairs, {seconds:.0f} s", file=sys.stderr)
    return pairs


def uniformity(name: str, probability: np.ndarray) -> None:
    if not len(probability):
        print(f"one optimum, {name}: none")
        return
    extreme = ((probability > 0.975) | (probability < 0.025)).mean()
    print(
        f"one optimum, {name}: {len(probability)} pairs, KS p = "
        f"{kstest(probability, 'uniform').pvalue:.3f}, outside 0.025 to 0.975: {extreme:.3f} (0.05 "
        f"if uniform)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--surfaces", type=int, default=500, help="pairs without a difference")
    parser.add_argument("--power", type=int, default=40, help="pairs of each difference")
    parser.add_argument("--first-seed", type=int, default=0)
    arguments = parser.parse_args()
    started, first = time.monotonic(), arguments.first_seed
    with ProcessPoolExecutor(cores()) as pool:
        jobs = [Job(0.0, 1 + 2 * (n % 2), 100, first + n) for n in range(arguments.surfaces)]
        null = measured_all(pool, jobs)
        probability = np.array([pair.probability for pair in null])
        both = np.array([pair.identified for pair in null])
        uniformity("all", probability)
        uniformity("both identified", probability[both])
        called = np.mean([pair.ratio_called for pair in null])
        ridge = np.mean([pair.ridge_called for pair in null])
        print(f"rate-only truth called a ratio effect: {called:.3f}; identified by it: {ridge:.3f}")
        print("octaves  seeds  items  above 0.975  and both identified")
        for octaves in (1.0, 2.0, 3.0):
            for seeds in (1, 3):
                for items in (100, 400):
                    numbers = range(first, first + arguments.power)
                    here = [Job(octaves, seeds, items, n) for n in numbers]
                    pairs = list(pool.map(measure, here, chunksize=4))
                    above = np.array([pair.probability > 0.975 for pair in pairs])
                    both = above & [pair.identified for pair in pairs]
                    row = f"{octaves:7.0f}{seeds:7}{items:7}{above.mean():13.2f}{both.mean():21.2f}"
                    print(row, flush=True)
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
