"""Does the run that decides answer with fewer trials, and is it right whenever it is looked at?

    python -m tests.bench.bench_decide [--surfaces 10] [--first-seed 0] [--prior 3 | --fidelity 1]

Simulated surfaces (`simulated.py`, noise as in `bench_calibration`): half of the grids have 6 x 6
cells, half 10 x 6. `decide` may add two octaves of rates and one of batch sizes beyond the borders
and picks three cells at a time; beside it the same fit after 30 and 45 random cells of the grid,
cells in the order of a plain grid (coarse first), cells that Optuna's Gaussian process asks for,
and the whole grid with one and with three seeds.

2-D: called identified within four octaves of ratio, and the share of those whose interval holds a
ratio within 2 % of the range of the best in the measured box. LR*: batch sizes whose true best rate
is interior that are called so, and of those the share whose interval holds a rate as good; `both`
is their product over the interior batch sizes. false: batch sizes called interior whose best rate
is the lowest or highest measured. looks: the same coverage over every look of `decide`, not the
last alone.

With `--prior N` what is compared is `decide` without a prior, with the true best rates as one, and
with those N octaves higher and lower. `--fidelity N`: screening runs (`screened.py`) whose best
rates are the full runs', are N octaves off, or have nothing to do with them; `tokens` counts them.
"""

import argparse
import os
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from analysis.advice.answers import answers
from analysis.design.decide import Settings, decide
from analysis.design.space import Cell, Space, Tried
from analysis.design.start import Expected
from analysis.fit.rates import RateStatus
from analysis.fit.surface import Fit, FitStatus, fit
from sweep.gridfile.keys.choosers import Search
from sweep.plan.order import coarse_first
from sweep.schedule.pools.search import Study
from tests.bench import screened
from tests.bench.bench_calibration import RATES, SIZES, true_of
from tests.bench.screened import AT_ONCE
from tests.bench.simulated import BATCH, LEVEL, RATE, REFUSED, SHAPES, Laboratory, truth
from trainers.processes.devices import cores

BUDGETS = (30, 45)
OCTAVES = 4.0
BEYOND = {"lower": 2, "higher": 2, "smaller": 1, "larger": 1}


class Job(NamedTuple):
    shape: str
    rates: int
    number: int
    octaves: float
    prior: float | None
    fidelity: float | None


def space_of(rates: int) -> Space:
    def octaves(start: float, count: int) -> tuple[float, ...]:
        return tuple(2.0 ** (start + k) for k in range(count))

    sizes = tuple(int(size) for size in octaves(BATCH, SIZES))
    return Space(
        octaves(RATE, rates),
        sizes,
        (0, 1, 2, 3, 4),
        lower=tuple(2.0 ** (RATE - k) for k in range(1, BEYOND["lower"] + 1)),
        higher=tuple(2.0 ** (RATE + rates - 1 + k) for k in range(1, BEYOND["higher"] + 1)),
        smaller=(sizes[0] // 2,),
        larger=(sizes[-1] * 2,),
    )


def decided(
    lab: Laboratory, space: Space, octaves: float, expected: Expected | None = None
) -> Iterator[tuple[list[Cell], bool]]:
    """The cells at every look; True at the last."""
    tried: list[Tried] = []
    fits: list[Fit] = []
    while True:
        chosen = decide(fits, tried, space, Settings(max(BUDGETS), octaves, expected), AT_ONCE)
        if not chosen.choices:
            yield [one.cell for one in tried], True
            return
        tried += [Tried(one.cell, lab.status(one.cell)) for one in chosen.choices]
        cells = lab.cells([one.cell for one in tried])
        fits = [fit(cells)] if cells is not None else []
        yield [one.cell for one in tried], False


def rivals(lab: Laboratory, space: Space, number: int) -> Iterator[tuple[str, list[Cell]]]:
    grid = [Cell(rate, size, 0) for rate in space.learning_rates for size in space.batch_sizes]
    orders = {
        "random": np.random.default_rng(number).permutation(len(grid)).tolist(),
        "coarse first": coarse_first([(c.learning_rate, float(c.batch_size)) for c in grid]),
        "Optuna's GP": _optuna(lab, space, number, min(max(BUDGETS), len(grid))),
    }
    for name, order in orders.items():
        for budget in BUDGETS:
            yield f"{name}, {budget}", [grid[place] for place in order[:budget]]
    yield "grid x 1", grid
    yield "grid x 3", [cell._replace(seed=seed) for cell in grid for seed in range(3)]


def _optuna(lab: Laboratory, space: Space, number: int, count: int) -> list[int]:
    axes = {"learning_rate": space.learning_rates, "batch_size": space.batch_sizes}
    given = Search.model_validate({"method": "optuna", "trials": count, "seed": number})
    study = Study(axes, given, maximize=True)
    shape = len(space.learning_rates), len(space.batch_sizes)
    free, order = set(np.ndindex(shape)), []
    for _ in range(count):
        cell = study.propose(free)
        free.remove(cell)
        study.start(cell)
        own = Cell(space.learning_rates[cell[0]], space.batch_sizes[cell[1]], 0)
        status = lab.status(own)
        study.tell(cell, lab.value(own) if status == "ok" else None, status)
        order.append(int(np.ravel_multi_index(cell, shape)))
    return order


def measure(job: Job) -> list[dict[str, Any]]:
    rng = np.random.default_rng([zlib.crc32(job.shape.encode()), job.number, job.rates, 7])
    surface = truth(job.shape, job.rates - 1, SIZES - 1, rng)
    space = space_of(job.rates)
    lab = Laboratory(surface.score, list(space.every), rng)
    rows, cells = [], []
    shared = {"shape": job.shape, "number": job.number}
    for cells, last in decided(lab, space, job.octaves):
        if len(cells) <= BUDGETS[0]:
            early = cells
        kind = "decide, 45" if last else "look"
        rows.append(shared | {"method": kind} | judged(lab, surface.score, cells))
    rows.append(shared | {"method": "decide, 30"} | judged(lab, surface.score, early))
    if job.fidelity is not None:
        other = truth("quadratic", job.rates - 1, SIZES - 1, rng).score
        shorts = screened.short_surfaces(surface.score, other, job.fidelity)
        settings = Settings(max(BUDGETS), job.octaves)
        for name, look in screened.ends(lab, space, settings, BUDGETS, shorts, surface.score, rng):
            own = {"method": name, "tokens": look.tokens, "refused": look.refused}
            rows.append(shared | own | judged(lab, surface.score, look.cells))
        return rows
    if job.prior is None:
        others = rivals(lab, space, job.number)
    else:
        others = with_priors(lab, space, job, surface.score)
    for name, order in others:
        rows.append(shared | {"method": name} | judged(lab, surface.score, order))
    return rows


def with_priors(
    lab: Laboratory, space: Space, job: Job, score: Any
) -> Iterator[tuple[str, list[Cell]]]:
    """The cells at the end of `decide`, which begins about the best rates or `job.prior` octaves
    off."""
    assert job.prior is not None, "priors are asked for"
    x, y = np.log2(np.array(space.learning_rates)), np.log2(np.array(space.batch_sizes))
    top = true_of(score, x, y).top
    for off in (0.0, job.prior, -job.prior):
        rates = {b: float(2.0 ** (t + off)) for b, t in zip(space.batch_sizes, top, strict=True)}
        *_, (cells, _) = decided(lab, space, job.octaves, Expected(rates, "the truth"))
        yield f"prior {off:+g} octaves", cells


def judged(lab: Laboratory, score: Any, cells: Sequence[Cell]) -> dict[str, Any]:
    """What the fit of these cells says, against the truth within what they measured."""
    seen = lab.cells(cells)
    row: dict[str, Any] = {"trials": len(cells)}
    if seen is None or seen.ok.sum() < 2:
        return row
    result = fit(seen)
    answer = answers([result]).benchmarks[seen.benchmark]
    ok = seen.table.loc[seen.ok]
    true = true_of(score, seen.table.x.to_numpy(), ok.y.to_numpy())
    row |= _two_dimensional(result, score, ok)
    called = np.array([its.status is RateStatus.INTERIOR for its in answer.rates])
    held = np.zeros(len(called), dtype=bool)
    for k, its in enumerate(answer.rates):
        good = true.x[true.score[k] >= true.profile[k] - LEVEL * true.span]
        low, high = np.log2([its.low, its.high])
        held[k] = low <= good.max() and high >= good.min()
    row |= {
        "interior": true.interior.sum(),
        "called": (called & true.interior).sum(),
        "held": (called & held & true.interior).sum(),
        "border": true.border.sum(),
        "false": (called & true.border).sum(),
        "flat": not result.shaped,
    }
    assert answer.ratio is not None
    size = int(true.profile.argmax())
    near = true.score >= true.profile.max() - LEVEL * true.span
    ratios = (true.x[None, :] - true.y[:, None])[near]
    low, high = np.log2([answer.ratio.low, answer.ratio.high])
    row["ratio_interior"] = bool(true.interior[size])
    row["ratio_called"] = answer.ratio.status is RateStatus.INTERIOR and high - low <= OCTAVES
    row["ratio_held"] = bool(low <= ratios.max() and high >= ratios.min())
    return row


def _two_dimensional(result: Fit, score: Any, ok: pd.DataFrame) -> dict[str, Any]:
    if result.low is None or result.high is None:
        return {"identified": False}
    x = np.linspace(ok.x.min(), ok.x.max(), 201)
    y = np.linspace(ok.y.min(), ok.y.max(), 101)
    height = score(*np.meshgrid(x, y))
    good = height >= np.nanmax(height) - LEVEL * (np.nanmax(height) - np.nanmin(height))
    ratios = (x[None, :] - y[:, None])[good]
    row, column = np.unravel_index(np.nanargmax(height), height.shape)
    inner = 0 < row < len(y) - 1 and 0 < column < len(x) - 1
    return {
        "identified": result.status is FitStatus.IDENTIFIED and result.high - result.low <= OCTAVES,
        "covered": bool(result.low <= ratios.max() and result.high >= ratios.min()),
        "inside": bool(inner),
    }


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    lines = {}
    for name, its in rows.groupby("method", sort=False):
        known = its[its.identified == True]  # noqa: E712  (missing where nothing was fitted)
        ratio = its[its.ratio_interior == True]  # noqa: E712
        placed = ratio[ratio.ratio_called == True]  # noqa: E712
        called = its.called.sum()
        lines[name] = {
            "trials": its.trials.mean(),
            "tokens": its.get("tokens", its.trials).fillna(its.trials).mean(),
            "refused": its.get("refused", pd.Series(dtype=float)).astype(float).mean(),
            "2-D": (its.identified == True).mean(),  # noqa: E712
            "2-D holds": known.covered.mean(),
            "LR* called": called / max(its.interior.sum(), 1),
            "holds": its.held.sum() / max(called, 1),
            "both": its.held.sum() / max(its.interior.sum(), 1),
            "false": its.false.sum() / max(its.border.sum(), 1),
            "ratio": ratio.ratio_called.mean(),
            "ratio holds": placed.ratio_held.mean(),
            "flat": its.flat.mean(),
            "surfaces": len(its),
        }
    return pd.DataFrame(lines).T.astype(float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--surfaces", type=int, default=10, help="of each family")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--octaves", type=float, default=3.0, help="width that decides")
    parser.add_argument("--prior", type=float, help="octaves that a wrong prior is off")
    parser.add_argument("--fidelity", type=float, help="octaves that short runs are off")
    parser.add_argument("--families", nargs="*", default=[*SHAPES, *REFUSED])
    parser.add_argument("--save", help="a CSV of every row")
    arguments = parser.parse_args()
    jobs = [
        Job(
            shape,
            RATES[number % 2],
            arguments.first_seed + number,
            arguments.octaves,
            arguments.prior,
            arguments.fidelity,
        )
        for number in range(arguments.surfaces)
        for shape in arguments.families
    ]
    started, rows = time.monotonic(), []
    with ProcessPoolExecutor(cores()) as pool:
        for done, some in enumerate(pool.map(measure, jobs), 1):
            rows += some
            if arguments.save:
                pd.DataFrame(rows).to_csv(arguments.save, index=False)
            if done % max(len(jobs) // 10, 1) == 0:
                seconds = time.monotonic() - started
                print(f"{done} of {len(jobs)} surfaces, {seconds:.0f} s", file=sys.stderr)
    table = pd.DataFrame(rows)
    for title, shapes in (("shapes with an optimum", SHAPES), ("refused", REFUSED)):
        part = table[table["shape"].isin(shapes)]
        if len(part):
            print(f"\n{title}")
            print(summary(part).to_string(float_format="{:.2f}".format, na_rep=""))
    print("\ndecide, by family")
    for method in ("decide, 30", "decide, 45"):
        own = table[table.method == method]
        lines = {name: summary(its).iloc[0] for name, its in own.groupby("shape", sort=False)}
        print(
            f"{method}\n{pd.DataFrame(lines).T.to_string(float_format='{:.2f}'.format, na_rep='')}"
        )
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
