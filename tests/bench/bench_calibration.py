"""Are the answers of a grid right where the truth is known?

    python -m tests.bench.bench_calibration [--surfaces 50] [--first-seed 0] [--runs 1 3 ...]

Simulated grids (`simulated.py`): shapes with an interior optimum, one of them ending where training
diverges, and families that have none. Half of the grids have 6 x 6 cells, half 10 x 6, and `RUNS`
says how often each cell was run.

LR*(B): of the batch sizes whose true best rate is interior (the score falls by `FALL` of that batch
size's range on both sides), `called` is the share called interior; of those `top` is the share of
intervals that hold the best rate, `set` of those that hold a rate as good (within 2 % of the
range); `false` is the share called interior of those whose best rate is the lowest or the highest.
ratio: the same of the top of h(r). 2-D: called identified. batch: the share with a direction, and
of those the share that is true (a class of batch sizes as good as the best within 2 % is right).
Regret bounds: of the setting, and of keeping one ratio, at the worst batch size. Flips: statuses
that change with the sampler's seed, on every `FLIPS`-th surface.
"""

import argparse
import os
import sys
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from analysis.advice.answers import BenchmarkAnswer, answers
from analysis.fit.batch import Batch
from analysis.fit.curves import FALL
from analysis.fit.exponent import NEAR
from analysis.fit.rates import RateStatus
from analysis.fit.surface import Fit, FitStatus, fit
from tests.bench.simulated import LEVEL, REFUSED, SHAPES, Runs, measured, truth
from trainers.processes.devices import cores

SIZES, RATES, FLIPS = 6, (6, 10), 4
RUNS = {
    "1": Runs(1),
    "3": Runs(3),
    "1, one pair": Runs(1, 1, common=1.0),
    "1, eight pairs": Runs(1, 8, common=1.0),
    "3, alike": Runs(3, common=1.0, flips=1.0),
}
"""Seeds of each cell: one, three, one and the middle cell or eight of them twice, and three. Of the
last three a seed moves all cells alike as much as each alone; of the last it flips answers too."""

FINE = 801
"""Points along the rates at which the truth is read."""


class Job(NamedTuple):
    shape: str
    runs: str
    rates: int
    number: int


class Known(NamedTuple):
    """What is true of a surface at its measured batch sizes (K), along rates x."""

    x: np.ndarray
    y: np.ndarray
    score: np.ndarray
    top: np.ndarray
    interior: np.ndarray
    border: np.ndarray

    @property
    def profile(self) -> np.ndarray:
        return np.nanmax(self.score, axis=1)

    @property
    def span(self) -> float:
        return float(np.nanmax(self.score) - np.nanmin(self.score))


def measure(job: Job) -> list[dict[str, Any]]:
    """One row for the surface and one for each of its batch sizes."""
    runs = RUNS[job.runs]
    other = [] if job.runs.isdigit() else [zlib.crc32(job.runs.encode())]
    seed = [zlib.crc32(job.shape.encode()), runs.seeds, job.rates, job.number, *other]
    rng = np.random.default_rng(seed)
    surface = truth(job.shape, job.rates - 1, SIZES - 1, rng)
    cells = measured(surface.score, job.rates, SIZES, runs, rng)
    started = time.process_time()
    result = fit(cells)
    answer = _answer(result)
    seconds = time.process_time() - started
    true = true_of(surface.score, cells.table.x.to_numpy(), cells.table.y.to_numpy())
    shared = job._asdict()
    rows = [
        shared | {"kind": "surface", "seconds": seconds} | _surface(result, answer, true, surface)
    ]
    for row, rate in enumerate(answer.rates):
        good = true.x[true.score[row] >= true.profile[row] - LEVEL * true.span]
        low, high = np.log2([rate.low, rate.high])
        rows.append(
            shared
            | {
                "kind": "batch size",
                "interior": bool(true.interior[row]),
                "border": bool(true.border[row]),
                "called": rate.status is RateStatus.INTERIOR,
                "top": bool(low <= true.top[row] <= high),
                "set": bool(low <= good.max() and high >= good.min()),
                "width": high - low,
                "p_interior": rate.p_interior,
                "p_lower": rate.p_lower,
                "p_higher": rate.p_higher,
            }
        )
    if job.number % FLIPS == 0:
        other = _answer(fit(cells, sampler=1))
        rows += [
            shared | {"kind": "flip", "what": what, "flip": before != after}
            for (what, before), (_, after) in zip(_states(answer), _states(other), strict=True)
        ]
    return rows


def _answer(result: Fit) -> BenchmarkAnswer:
    return answers([result]).benchmarks[result.cells.benchmark]


def _states(answer: BenchmarkAnswer) -> list[tuple[str, Any]]:
    assert answer.ratio is not None and answer.direction is not None
    rates = [("rate", rate.status) for rate in answer.rates]
    return [*rates, ("ratio", answer.ratio.status), ("batch", answer.direction.verdict)]


def true_of(score: Any, x: np.ndarray, y: np.ndarray) -> Known:
    """The truth along the measured rates at each batch size; NaN where training diverges."""
    fine, sizes = np.linspace(x.min(), x.max(), FINE), np.unique(y)
    height = score(*np.meshgrid(fine, sizes))
    height[np.isnan(height).all(axis=1)] = np.nanmin(height)  # no rate trains there
    best = np.nanmax(height, axis=1)
    top = np.nanargmax(height, axis=1)
    lowest = np.nanmin(height, axis=1)
    needed = FALL * (best - lowest)
    ends = height[:, 0], np.where(np.isnan(height[:, -1]), -np.inf, height[:, -1])
    varies = best > lowest
    interior = varies & (best - ends[0] > needed) & (best - ends[1] > needed)
    border = ~varies | (top == 0) | (top == FINE - 1)
    return Known(fine, sizes, height, fine[top], interior, border)


def _surface(result: Fit, answer: BenchmarkAnswer, true: Known, surface: Any) -> dict[str, Any]:
    ratio, gamma, direction, setting = (
        answer.ratio,
        answer.gamma,
        answer.direction,
        answer.setting,
    )
    assert ratio is not None and direction is not None and setting is not None
    assert answer.epsilon is not None
    best = int(true.profile.argmax())
    near = true.score >= true.profile.max() - LEVEL * true.span
    ratios = (true.x[None, :] - true.y[:, None])[near]
    low, high = np.log2([ratio.low, ratio.high])
    at = surface.score(
        np.array([np.log2(setting.learning_rate)]), np.array([np.log2(setting.batch_size)])
    )
    kept = surface.score(np.log2(ratio.keep["ratio"].constant) + true.y, true.y)
    lost = true.profile - np.where(np.isnan(kept), np.nanmin(true.score, axis=1), kept)
    slope = np.nan
    if true.interior.sum() > 1:
        slope = float(np.polyfit(true.y[true.interior], true.top[true.interior], 1)[0])
    return {
        "identified": result.status is FitStatus.IDENTIFIED,
        "flat": not result.shaped,
        "ratio_interior": bool(true.interior[best]),
        "ratio_border": bool(true.border[best]),
        "ratio_called": ratio.status is RateStatus.INTERIOR,
        "ratio_top": bool(low <= true.top[best] - true.y[best] <= high),
        "ratio_set": bool(low <= ratios.max() and high >= ratios.min()),
        "ratio_width": high - low,
        "direction": str(direction.verdict),
        "direction_right": _right(direction.verdict, true, answer.epsilon),
        "p_best": max(direction.p_smaller, direction.p_larger, direction.p_interior),
        "p_indifferent": direction.p_indifferent,
        "p_ratio": ratio.p_interior,
        "gamma": slope,
        "linear": bool(abs(slope - 1) <= NEAR) if np.isfinite(slope) else None,
        "p_linear": gamma.p_linear if gamma else np.nan,
        "gamma_covered": bool(gamma and gamma.low <= slope <= gamma.high),
        "regret": float(true.profile.max() - at[0]),
        "expected": setting.expected_regret,
        "regret_high": setting.regret_high,
        "bound_holds": bool(true.profile.max() - at[0] <= setting.regret_high + 1e-9),
        "kept": float(lost.max()),
        "keep_high": ratio.keep["ratio"].high,
        "keep_holds": bool(lost.max() <= ratio.keep["ratio"].high + 1e-9),
    }


def _right(verdict: Batch, true: Known, epsilon: float) -> bool:
    good = np.flatnonzero(true.profile >= true.profile.max() - LEVEL * true.span)
    last = len(true.y) - 1
    match verdict:
        case Batch.SMALLER:
            return 0 in good
        case Batch.LARGER:
            return last in good
        case Batch.INTERIOR:
            return any(0 < row < last for row in good)
        case Batch.INDIFFERENT:
            return bool(np.ptp(true.profile) <= epsilon)
        case _:
            return False


def table_of(
    surfaces: int, first: int, refused: int, runs: Sequence[str], save: str | None
) -> pd.DataFrame:
    """Rows of every fit, saved as they come; half of the grids have each of `RATES`."""
    jobs = [
        Job(shape, name, RATES[number % 2], first + number)
        for number in range(max(surfaces, refused))
        for shape in (SHAPES if number < surfaces else ()) + (REFUSED if number < refused else ())
        for name in runs
    ]
    started, rows = time.monotonic(), []
    with ProcessPoolExecutor(cores()) as pool:
        for done, some in enumerate(pool.map(measure, jobs, chunksize=4), 1):
            rows += some
            if done % max(len(jobs) // 20, 1) and done < len(jobs):
                continue
            seconds = time.monotonic() - started
            print(f"{done} of {len(jobs)} fits, {seconds:.0f} s", file=sys.stderr)
            if save:
                pd.DataFrame(rows).to_csv(save, index=False)
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per family, and one for the shapes with an interior optimum together."""
    lines = {}
    groups: list[tuple[str, pd.DataFrame]] = [
        (str(name), part) for name, part in rows.groupby("shape", sort=False)
    ]
    groups.append(("all shapes", rows[rows["shape"].isin(SHAPES)]))
    for name, part in groups:
        sizes, its = part[part.kind == "batch size"], part[part.kind == "surface"]
        inner, border = sizes[sizes.interior.astype(bool)], sizes[sizes.border.astype(bool)]
        known = inner[inner.called.astype(bool)]
        ratio = its[its.ratio_interior.astype(bool)]
        placed = ratio[ratio.ratio_called.astype(bool)]
        outside = its[its.ratio_border.astype(bool)]
        decided = its[~its.direction.isin(["undecided"])]
        lines[name] = {
            "called": inner.called.mean(),
            "top": known.top.mean(),
            "set": known["set"].mean(),
            "width": known.width.median(),
            "false": border.called.mean(),
            "r called": ratio.ratio_called.mean(),
            "r top": placed.ratio_top.mean(),
            "r set": placed.ratio_set.mean(),
            "r width": placed.ratio_width.median(),
            "r false": outside.ratio_called.mean(),
            "batch": len(decided) / max(len(its), 1),
            "right": decided.direction_right.mean(),
            "bound": its.bound_holds.mean(),
            "keep": its.keep_holds.mean(),
            "2-D": its.identified.mean(),
            "flat": its["flat"].mean(),
        }
    return pd.DataFrame(lines).T.astype(float)


def linear(its: pd.DataFrame) -> str:
    """Brier score and calibration, in tenths, of P(|gamma - 1| <= 1/4)."""
    known = its[its.linear.notna() & its.p_linear.notna()]
    p, true = known.p_linear.to_numpy(float), known.linear.to_numpy(float)
    tenths = np.minimum((10 * p).astype(int), 9)
    parts = [
        f"{p[tenths == k].mean():.2f}: {true[tenths == k].mean():.2f} ({(tenths == k).sum()})"
        for k in np.unique(tenths)
    ]
    covered = known.gamma_covered.astype(float).mean()
    return (
        f"P(|gamma - 1| <= 1/4): Brier {np.mean((p - true) ** 2):.3f} on {len(known)} surfaces; "
        f"said: true (surfaces) {', '.join(parts)}; intervals of gamma hold it {covered:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--surfaces", type=int, default=50, help="of each shape, by runs")
    parser.add_argument("--refused", type=int, help="of each family without an optimum, by runs")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=["1", "3"])
    parser.add_argument("--save", help="a CSV of every row")
    arguments = parser.parse_args()
    started, refused = time.monotonic(), arguments.refused or arguments.surfaces
    asked = (arguments.surfaces, arguments.first_seed, refused, arguments.runs, arguments.save)
    rows = table_of(*asked)
    for name, part in rows.groupby("runs", sort=False):
        print(f"\nseeds per cell: {name}")
        print(summary(part).to_string(float_format="{:.3f}".format, na_rep=""))
        print(linear(part[part.kind == "surface"]))
    flips = rows[rows.kind == "flip"]
    shares = flips.groupby("what").flip.agg(["mean", "size"])
    told = ", ".join(f"{what} {mean:.3f} of {size}" for what, (mean, size) in shares.iterrows())
    print(f"\nstatuses that flip with the sampler's seed: {told}")
    print(
        f"{rows.seconds.median() * 1e3:.0f} ms of CPU a surface; {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
