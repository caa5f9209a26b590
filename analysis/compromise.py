"""One ratio for a weighted mix of benchmarks, and what it costs each of them.

For each ratio the best score along its line in the grid is read from every draw of a surface, and
its shortfall against that draw's best point is expressed in the surface's own range (best minus
worst of the posterior mean), so that metrics of different units can be weighed together.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.surface import Fit, FitStatus

STEP = 0.25
"""Octaves between the ratios tried."""


class Compromise(NamedTuple):
    """The ratio of least weighted expected shortfall over `weights` (they sum to 1).

    `front` has a row per ratio tried: log2_ratio, the expected shortfall of each benchmark as a
    share of its range (a column by name), `mixed` (their weighted mean) and `pareto` (no other
    ratio is at least as good for every benchmark and better for one). `price` is each benchmark's
    shortfall at the recommended ratio, in its metric's own units. low and high bound the ratio at
    95 % over joint draws. `undecided` names benchmarks without an identified optimum; with any of
    them the ratio is no recommendation, and the cells to run next are theirs.
    """

    weights: dict[str, float]
    log2_ratio: float
    low: float
    high: float
    price: dict[str, float]
    front: pd.DataFrame
    undecided: tuple[str, ...]


def compromise(
    fits: Sequence[Fit], weights: Mapping[str, float] | None = None
) -> Compromise | None:
    """Weights by benchmark, equal where not given; None where no surface has a fit or the grids
    have no ratio in common."""
    known = [fit for fit in fits if fit.mesh is not None]
    given = {
        fit.cells.benchmark: float((weights or {}).get(fit.cells.benchmark, 0.0)) for fit in known
    }
    if weights is None:
        given = dict.fromkeys(given, 1.0)
    total = sum(given.values())
    if not known or total <= 0:
        return None
    shares = {name: weight / total for name, weight in given.items()}
    lines = [_shortfalls(fit) for fit in known]
    common = sorted(set.intersection(*(set(line) for line in lines)))
    if not common:
        return None
    count = min(len(next(iter(line.values()))) for line in lines)
    losses = np.array([[line[step][:count] for step in common] for line in lines])
    ranges = np.array([_range(fit) for fit in known])
    relative = losses / ranges[:, None, None]
    mixed = np.einsum("f,frd->rd", [shares[fit.cells.benchmark] for fit in known], relative)
    ratios = np.array(common) * STEP
    best = int(np.argmin(mixed.mean(axis=1)))
    low, high = np.quantile(ratios[mixed.argmin(axis=0)], [0.025, 0.975])
    expected = relative.mean(axis=2)
    front = pd.DataFrame({"log2_ratio": ratios})
    for fit, row in zip(known, expected, strict=True):
        front[fit.cells.benchmark] = row
    front["mixed"] = mixed.mean(axis=1)
    front["pareto"] = _undominated(expected.T)
    price = losses.mean(axis=2)[:, best]
    return Compromise(
        weights=shares,
        log2_ratio=float(ratios[best]),
        low=float(low),
        high=float(high),
        price={fit.cells.benchmark: float(one) for fit, one in zip(known, price, strict=True)},
        front=front,
        undecided=tuple(f.cells.benchmark for f in fits if f.status is not FitStatus.IDENTIFIED),
    )


def _shortfalls(fit: Fit) -> dict[int, np.ndarray]:
    """Ratio in `STEP`s -> each draw's shortfall of the best point on that line, metric's units."""
    where = fit.mesh
    assert where is not None, "has a fit"
    step = np.round((where.x - where.y) / STEP).astype(int)
    top = where.height.max(axis=1)
    return {int(one): top - where.height[:, step == one].max(axis=1) for one in np.unique(step)}


def _range(fit: Fit) -> float:
    assert fit.mesh is not None, "has a fit"
    return max(float(np.ptp(fit.mesh.height.mean(axis=0))), 1e-12)


def _undominated(losses: np.ndarray) -> np.ndarray:
    """Rows of losses that no other row is at least as good as everywhere and better than once."""
    no_worse = (losses[None, :, :] <= losses[:, None, :]).all(axis=2)
    better = (losses[None, :, :] < losses[:, None, :]).any(axis=2)
    return ~np.any(no_worse & better, axis=1)
