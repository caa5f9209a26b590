"""How well the optimum of a published grid is found, against the formula its authors fitted.

    python -m tests.bench.bench_surfaces [steplaw_dense.csv] [--crops 6]

One surface per model size and data size. The published optimum is LR = 1.79 N^-0.713 D^0.307 and
BS = 0.58 D^0.571 tokens (Step Law, arXiv 2503.04715, equation 1), itself a fit over these runs, so
the regret of what is recommended is measured too: the loss of the recommended cell above the least
of the surface, in percent. Beside it stand the simple estimators, in the same run. The second table
has random parts of 30 cells of the same surfaces with noise added, their regret measured on the
whole surface. The soft optimum's tolerance is Step Law's own 0.25 %; the one constant chosen on
these surfaces, the error that one seed shares, is also chosen on the others for each.
"""

import argparse
import os
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from scipy.interpolate import Akima1DInterpolator

from analysis.fit.optimum import best_points, mesh
from analysis.fit.surface import Fit, FitStatus, fit
from analysis.posterior.cells import surfaces
from analysis.posterior.condition import LOSS_ERROR
from analysis.tables.external.adopt import adopt
from trainers.processes.devices import cores

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SWEEP_DATA", ROOT.parent / "shared" / "data"))
SEQUENCE = 2048  # tokens: the file's batch sizes count sequences
PART = 30
NOISE = (0.001, 0.004)
"""Of the loss: the noise added to each cell of a part."""

ERRORS = (0.0005, 0.001, 0.002, 0.003, 0.004, 0.005)
"""Sizes tried for the error that one seed's whole surface shares (`posterior.LOSS_ERROR`)."""

Point = tuple[float, float]


class Surface(NamedTuple):
    """Cells of one surface in log2 units, and the optimum of the published formula."""

    name: str
    x: np.ndarray
    y: np.ndarray
    loss: np.ndarray
    law: Point


class Outcome(NamedTuple):
    """One method on one surface: error of log2 LR, BS and ratio, regret in percent of the loss."""

    method: str
    case: str
    learning_rate: float
    batch_size: float
    ratio: float
    regret: float
    covered: float
    width: float
    status: str


def read(path: Path) -> list[Surface]:
    table = pd.read_csv(path)
    x = np.round(2 * np.log2(table["lr"])) / 2  # the file rounds half octaves unevenly
    table = table.assign(x=x, y=np.log2(table["bs"]))
    read_surfaces = []
    for (n, d), rows in table.groupby(["N", "D"]):
        law = 1.79 * n**-0.713 * d**0.307, 0.58 * d**0.571 / SEQUENCE
        read_surfaces.append(
            Surface(
                f"{n / 1e6:.0f}M-{d / 1e9:.0f}B",
                rows.x.to_numpy(),
                rows.y.to_numpy(),
                rows["smooth loss"].to_numpy(),
                (float(np.log2(law[0])), float(np.log2(law[1]))),
            )
        )
    return read_surfaces


def best_cell(one: Surface) -> Point:
    at = one.loss.argmin()
    return float(one.x[at]), float(one.y[at])


def near_set(one: Surface) -> Point:
    near = one.loss <= one.loss.min() * 1.0025
    return float(one.x[near].mean()), float(one.y[near].mean())


def soft_minimum(one: Surface) -> Point:
    weights = np.exp(-(one.loss / one.loss.min() - 1) / 0.0025)
    return float(weights @ one.x / weights.sum()), float(weights @ one.y / weights.sum())


def local_quadratic(one: Surface) -> Point:
    near = one.loss <= one.loss.min() * 1.02
    x, y = one.x - one.x.mean(), one.y - one.y.mean()
    terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)[near]
    if len(terms) < 7:
        return best_cell(one)
    b = np.linalg.lstsq(terms, one.loss[near], rcond=None)[0]
    hessian = np.array([[2 * b[3], b[5]], [b[5], 2 * b[4]]])
    top = np.linalg.solve(hessian, -b[1:3]) if np.linalg.det(hessian) > 0 else None
    if top is None:
        return best_cell(one)
    place = np.array([one.x.mean(), one.y.mean()]) + top
    return (
        float(np.clip(place[0], one.x.min(), one.x.max())),
        float(np.clip(place[1], one.y.min(), one.y.max())),
    )


def akima(one: Surface) -> Point:
    """Least over LR within each batch size, then over the batch sizes (Porian et al. 2024)."""
    tops = []
    for size in np.unique(one.y):
        here = one.y == size
        order = np.argsort(one.x[here])
        x, loss = one.x[here][order], one.loss[here][order]
        if len(x) < 3:
            continue
        fine = np.linspace(x[0], x[-1], 401)
        values = Akima1DInterpolator(x, np.log(loss))(fine)
        tops.append((size, fine[values.argmin()], values.min()))
    sizes, rates, values = np.array(tops).T
    if len(sizes) < 3:
        return best_cell(one)
    fine = np.linspace(sizes[0], sizes[-1], 401)
    best = fine[Akima1DInterpolator(sizes, values)(fine).argmin()]
    return float(Akima1DInterpolator(sizes, rates)(best)), float(best)


SIMPLE: dict[str, Callable[[Surface], Point]] = {
    "best cell": best_cell,
    "within 0.25 %": near_set,
    "soft minimum": soft_minimum,
    "quadratic, 2 %": local_quadratic,
    "Akima": akima,
}


def fitted(one: Surface, stderr: float | None) -> Fit:
    rows = pd.DataFrame(
        {
            "learning_rate": 2.0**one.x,
            "batch_size": np.round(2.0**one.y).astype(int),
            "value": one.loss,
            "benchmark": f"loss {one.name}",
        }
    )
    if stderr is not None:
        rows["stderr"] = stderr
    return fit(surfaces(adopt(rows, one.name).frame)[0])


def regret(one: Surface, point: Point) -> float:
    """Percent of loss above the least, at the measured cell nearest to the point."""
    at = ((one.x - point[0]) ** 2 + (one.y - point[1]) ** 2).argmin()
    return float(100 * (one.loss[at] / one.loss.min() - 1))


def outcomes(case: str, seen: Surface, whole: Surface, stderr: float | None) -> list[Outcome]:
    """Every method on `seen`, its regret measured on the noiseless `whole` surface."""

    def outcome(method: str, point: Point, cell: Point, rest: tuple[float, float, str]) -> Outcome:
        errors = point[0] - whole.law[0], point[1] - whole.law[1]
        return Outcome(
            method, case, *map(abs, errors), abs(errors[0] - errors[1]), regret(whole, cell), *rest
        )

    results = [outcome("the law itself", whole.law, whole.law, (np.nan, np.nan, ""))]
    for name, method in SIMPLE.items():
        point = method(seen)
        results.append(outcome(name, point, point, (np.nan, np.nan, "")))
    own = fitted(seen, stderr)
    assert own.optimum is not None and own.best_cell is not None, "enough cells"
    assert own.low is not None and own.high is not None, "enough cells"
    cell = float(np.log2(own.best_cell.learning_rate)), float(np.log2(own.best_cell.batch_size))
    truth = whole.law[0] - whole.law[1]
    covered = float(own.low <= truth <= own.high)
    results.append(
        outcome("this project", own.optimum[:2], cell, (covered, own.high - own.low, own.status))
    )
    return results


def part(one: Surface, number: int) -> tuple[Surface, float]:
    """`PART` random cells within 10 % of the best loss, with noise, and the noise's size."""
    rng = np.random.default_rng(zlib.crc32(one.name.encode()) + number)
    trains = np.flatnonzero(one.loss <= one.loss.min() * 1.1)
    kept = np.sort(rng.choice(trains, min(PART, len(trains)), replace=False))
    noise = float(rng.uniform(*NOISE) * one.loss.min())
    loss = one.loss[kept] + noise * rng.standard_normal(len(kept))
    return one._replace(x=one.x[kept], y=one.y[kept], loss=loss), noise


def work(job: tuple[Surface, int]) -> list[Outcome]:
    one, crops = job
    results = outcomes("all cells", one, one, None)
    for number in range(crops):
        seen, noise = part(one, number)
        results += outcomes(f"{PART} cells, noise", seen, one, noise)
    return results


def intervals(one: Surface) -> np.ndarray:
    """95 % interval of the ratio under each of `ERRORS`, errors x 2."""
    own = fitted(one, None)
    posterior, cells = own.posterior, own.cells
    assert posterior is not None and posterior.shared is not None, "a loss of one run per cell"
    intervals = []
    for error in ERRORS:
        loads = posterior.shared.loads * error / LOSS_ERROR
        shared = posterior.shared._replace(loads=loads)
        where = mesh(cells, replace(posterior, shared=shared))
        draws = best_points(cells, where)
        intervals.append(np.quantile(draws[:, 0] - draws[:, 1], [0.025, 0.975]))
    return np.array(intervals)


def left_out(whole: list[Surface], bounds: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Coverage and median width where each surface's error size is the smallest of `ERRORS` that
    covers 95 % of the other surfaces (the largest where none does), and the sizes chosen."""
    truth = np.array([one.law[0] - one.law[1] for one in whole])[:, None]
    covered = (bounds[..., 0] <= truth) & (truth <= bounds[..., 1])
    others = (covered.sum(axis=0) - covered) / max(len(whole) - 1, 1)
    enough = others >= 0.95
    chosen = np.where(enough.any(axis=1), enough.argmax(axis=1), len(ERRORS) - 1)
    rows = np.arange(len(whole))
    width = np.diff(bounds, axis=2)[rows, chosen, 0]
    return float(covered[rows, chosen].mean()), float(np.median(width)), np.array(ERRORS)[chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=DATA / "grids" / "steplaw_dense.csv")
    parser.add_argument("--surfaces", type=int, default=17)
    parser.add_argument("--crops", type=int, default=6)
    parser.add_argument("--each", action="store_true", help="one line per surface")
    arguments = parser.parse_args()
    if not arguments.data.exists():
        parser.error(f"{arguments.data} is not there; give the file, or its folder in SWEEP_DATA")
    started = time.monotonic()
    whole = read(arguments.data)[: arguments.surfaces]
    jobs = [(one, arguments.crops) for one in whole]
    with ProcessPoolExecutor(cores()) as pool:
        parts = []
        for results in pool.map(work, jobs):
            parts.append(results)
            seconds = time.monotonic() - started
            print(f"{len(parts)} of {len(jobs)} surfaces, {seconds:.0f} s", file=sys.stderr)
        bounds = np.array(list(pool.map(intervals, whole)))
    table = pd.DataFrame([outcome for results in parts for outcome in results])
    if arguments.each:
        own = table[(table.method == "this project") & (table.case == "all cells")]
        own = own.assign(surface=[one.name for one in whole])
        print(own.drop(columns=["method", "case"]).round(2).to_string(index=False))
    for case, rows in table.groupby("case", sort=False):
        print(f"\n{case}: {len(whole)} surfaces, {len(rows) // rows.method.nunique()} fits each")
        print(f"{'':18}  log2 LR  log2 BS    ratio   regret %")
        for method, its in rows.groupby("method", sort=False):
            errors = its[["learning_rate", "batch_size", "ratio"]].mean()
            print(
                f"{method:18}"
                + "".join(f"{value:9.2f}" for value in errors)
                + f"{its.regret.mean():11.3f}"
            )
        own = rows[rows.method == "this project"]
        known = own[own.status == FitStatus.IDENTIFIED]
        print(
            f"95 % interval of the ratio: covers the law {own.covered.mean():.2f}, median width "
            f"{own.width.median():.2f} octaves; identified {len(known)} of {len(own)}"
        )
    covered, width, chosen = left_out(whole, bounds)
    print(
        f"\nall cells, the shared error chosen on the other surfaces ({chosen.min():.2%} to "
        f"{chosen.max():.2%} of the loss):\n95 % interval of the ratio covers the law "
        f"{covered:.2f}, median width {width:.2f} octaves"
    )
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
