"""Does the claim about task types say nothing where there is nothing, and how soon something?

    PYTHONPATH=. python tests/bench/bench_null.py [--surfaces 500] [--power 40]

Two benchmarks on simulated grids (`simulated.py`). First with one optimum: the probability that
reasoning's best ratio is the higher should be uniform (Kolmogorov-Smirnov), over all pairs and over
those of which the report makes the claim, both being identified. That is asked of pairs of any two
of the five shapes, with the best ratio in common and nothing else, and of two quadratics that are
the same on 6 x 6 cells, which are the easiest case and so that of the widest margin. Then, with
quadratics, optima 1, 2 and 3 octaves of rate apart: the share of pairs with a probability above
0.975, whatever the status, and with both identified. Last, a truth of the rate alone: how often the
ratio is called sufficient (`Rivals.ratio_decides`), and how often the ridge that follows makes it
identified.
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.stats import kstest
from simulated import BATCH, RATE, SHAPES, Function, Truth, measured, truth

from analysis.fit.surface import FitStatus, fit
from trainers.data.prepare_process import cores

CELLS = 6

FARTHEST = 0.2
"""Of the rates' span: by how much a surface is moved to have the best ratio of another."""


class Job(NamedTuple):
    octaves: float
    seeds: int
    items: int
    number: int


class Claim(NamedTuple):
    """Of one pair: the probability that the first ratio is the higher, and whether the report would
    say it."""

    probability: float
    identified: bool


class RateOnly(NamedTuple):
    ratio_called: bool
    ridge_called: bool


def bowl(x: float, y: float, points: float, along: float) -> Function:
    half = (CELLS - 1) / 2
    return lambda u, v: (
        40 - points * (((u - RATE - x) / half) ** 2 + along * ((v - BATCH - y) / half) ** 2)
    )


def claim(pair: tuple[Function, Function], rates: int, job: Job, rng: np.random.Generator) -> Claim:
    fits = [
        fit(measured(score, rates, CELLS, job.seeds, rng, name, job.items))
        for score, name in zip(pair, ("arc", "hellaswag"), strict=True)
    ]
    first, second = (one.ratio_draws for one in fits)
    assert first is not None and second is not None, "enough cells"
    difference = first - second
    return Claim(
        float((difference > 0).mean() + (difference == 0).mean() / 2),
        all(one.status is FitStatus.IDENTIFIED for one in fits),
    )


def any_two_shapes(job: Job) -> Claim:
    """Each of any shape, with the best ratio in common: one is moved along the rate."""
    rng = np.random.default_rng([99, *job[1:]])
    rates = (CELLS, 10)[job.number // 2 % 2]
    first, second = (_shaped(rates, rng) for _ in range(2))
    while abs(first.ratio - second.ratio) > FARTHEST * (rates - 1):
        second = _shaped(rates, rng)
    apart = first.ratio - second.ratio
    return claim((first.score, lambda x, y: second.score(x - apart, y)), rates, job, rng)


def _shaped(rates: int, rng: np.random.Generator) -> Truth:
    return truth(str(rng.choice(SHAPES)), rates - 1, CELLS - 1, rng)


def quadratics(job: Job) -> Claim:
    rng = np.random.default_rng([int(10 * job.octaves), *job[1:]])
    middle, size = rng.uniform(2, 3), rng.uniform(1.5, 3.5)
    points = rng.uniform(1.5, 3)
    first, second = (
        bowl(middle + shift, size, points, 1.0) for shift in (job.octaves / 2, -job.octaves / 2)
    )
    return claim((first, second), CELLS, job, rng)


def rate_only(job: Job) -> RateOnly:
    rng = np.random.default_rng([98, *job[1:]])
    score = bowl(rng.uniform(2, 3), rng.uniform(1.5, 3.5), 2 * rng.uniform(1.5, 3), 0.0)
    found = fit(measured(score, CELLS, CELLS, job.seeds, rng))
    return RateOnly(
        bool(found.rivals and found.rivals.ratio_decides),
        found.status is FitStatus.IDENTIFIED and "ridge" in found.reason,
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
    parser.add_argument("--surfaces", type=int, default=500, help="pairs without a difference")
    parser.add_argument("--power", type=int, default=40, help="pairs of each difference")
    parser.add_argument("--first-seed", type=int, default=0)
    arguments = parser.parse_args()
    started, first = time.monotonic(), arguments.first_seed
    with ProcessPoolExecutor(cores()) as pool:
        jobs = [Job(0.0, 1 + 2 * (n % 2), 100, first + n) for n in range(arguments.surfaces)]
        for name, pairs_of in (("any two shapes", any_two_shapes), ("quadratics", quadratics)):
            claims = list(pool.map(pairs_of, jobs, chunksize=4))
            probability = np.array([one.probability for one in claims])
            uniformity(f"{name}, all", probability)
            uniformity(f"{name}, both identified", probability[[one.identified for one in claims]])
        called = np.mean(list(pool.map(rate_only, jobs, chunksize=4)), axis=0)
        print(
            f"rate-only truth called a ratio effect: {called[0]:.3f}; identified by it: "
            f"{called[1]:.3f}"
        )
        print("octaves  seeds  items  above 0.975  and both identified")
        for octaves in (1.0, 2.0, 3.0):
            for seeds in (1, 3):
                for items in (100, 400):
                    numbers = range(first, first + arguments.power)
                    here = [Job(octaves, seeds, items, n) for n in numbers]
                    pairs = list(pool.map(quadratics, here, chunksize=4))
                    above = np.array([pair.probability > 0.975 for pair in pairs])
                    both = above & [pair.identified for pair in pairs]
                    row = f"{octaves:7.0f}{seeds:7}{items:7}{above.mean():13.2f}{both.mean():21.2f}"
                    print(row, flush=True)
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
