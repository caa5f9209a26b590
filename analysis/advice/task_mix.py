"""One setting for a weighted mix of benchmarks, and what it costs each of them.

    lost(point) = sum over benchmarks of weight x (best of the grid - score at the point) / range

in every draw of every surface; `range` is best minus worst of the posterior mean over the grid, so
that metrics of different units can be weighed together. One training serves all benchmarks, so at
each ratio they share the point of its line that loses least, not each a best one of its own. The
draws of two benchmarks are taken side by side, as independent.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.benchmarks import task
from analysis.fit.optimum import LEVELS, MESH, infeasible
from analysis.fit.surface import Fit, FitStatus
from analysis.text import listed, number, rate

STEP = 0.25
"""Octaves between the ratios tried."""

UNSORTED = ("other", "loss")
"""Task types without a share by default, where there are benchmarks of another type."""


class Price(NamedTuple):
    """Expected shortfall of one benchmark at the recommended point against its own best of the
    grid, and its 95 % bound, both at least 0 and in the metric's units."""

    benchmark: str
    label: str
    metric: str
    weight: float
    expected: float
    high: float


class Compromise(NamedTuple):
    """The ratio of least expected loss over `weights` (by benchmark; they sum to 1).

    `undecided` names benchmarks that have a weight and no identified optimum: with any of them
    nothing is recommended (`decided`), and the ratio speaks for the others alone; None where there
    are no others. low and high bound the ratio at 95 % over joint draws. `cell` is the measured
    (learning rate, batch size) that loses least. `front` has a row per ratio tried: log2_ratio,
    the learning_rate and batch_size of its best point, the expected shortfall of each benchmark
    there as a share of its range (a column by name), `mixed` (their weighted mean) and `pareto`
    (no other ratio is at least as good for every benchmark and better for one).
    """

    weights: dict[str, float]
    undecided: tuple[str, ...]
    ratio: float | None
    low: float | None
    high: float | None
    log2_ratio: float | None
    cell: tuple[float, int] | None
    prices: tuple[Price, ...]
    front: pd.DataFrame | None
    sentence: str

    @property
    def decided(self) -> bool:
        """Whether the ratio is a recommendation."""
        return self.ratio is not None and not self.undecided


def equal_weights(benchmarks: Iterable[str]) -> dict[str, float]:
    """Each task type has the same share, each benchmark of a type the same part of it. A loss and
    benchmarks of no type have none, unless there is nothing else."""
    types: dict[str, list[str]] = {}
    for name in dict.fromkeys(benchmarks):
        types.setdefault(task(name).task_type, []).append(name)
    named = {kind: names for kind, names in types.items() if kind not in UNSORTED}
    counted = named or ({"other": types["other"]} if "other" in types else types)
    return {name: 1 / len(counted) / len(names) for names in counted.values() for name in names}


def compromise(
    fits: Sequence[Fit], weights: Mapping[str, float] | None = None
) -> Compromise | None:
    """Of one grid's fits; `weights` by benchmark, 0 where not given, `equal_weights` where None.

    None where fewer than two benchmarks have a weight: one alone is no mix.
    """
    given = equal_weights(fit.cells.benchmark for fit in fits) if weights is None else weights
    mixed = [fit for fit in fits if given.get(fit.cells.benchmark, 0) > 0]
    if len(mixed) < 2:
        return None
    shares = _shares([given[fit.cells.benchmark] for fit in mixed])
    asked = {fit.cells.benchmark: share for fit, share in zip(mixed, shares, strict=True)}
    open_ = [fit for fit in mixed if fit.status is not FitStatus.IDENTIFIED]
    known = [fit for fit in mixed if fit.status is FitStatus.IDENTIFIED]
    names = tuple(fit.cells.benchmark for fit in open_)
    found = _weighed(known, _shares([asked[fit.cells.benchmark] for fit in known]))
    if found is None:
        text = f"{_mix(asked)}: undecided, because {_reasons(open_)}."
        return Compromise(asked, names, None, None, None, None, None, (), None, text)
    middle, low, high, cell, prices, front = found
    costs = [f"{number(one.expected)} on {one.label} ({one.metric})" for one in prices]
    what = (
        f"an LR/BS ratio near {rate(2**middle)} (95 % interval {rate(2**low)} to {rate(2**high)}), "
        f"of the cells that were run best at learning rate {rate(cell[0])} with batch size "
        f"{cell[1]}"
    )
    price = f"against the best of each alone the ratio is expected to cost {listed(costs)}"
    if open_:
        rest = _parts({one.benchmark: one.weight for one in prices})
        text = f"{_mix(asked)}: undecided, because {_reasons(open_)}."
        text += (
            f" Without {'it' if len(open_) == 1 else 'them'} ({rest}) it would be {what}; {price}."
        )
    else:
        text = f"{_mix(asked)}: use {what}; {price}."
    return Compromise(
        weights=asked,
        undecided=names,
        ratio=float(2**middle),
        low=float(2**low),
        high=float(2**high),
        log2_ratio=middle,
        cell=cell,
        prices=prices,
        front=front,
        sentence=text,
    )


def _shares(weights: Sequence[float]) -> list[float]:
    return [weight / sum(weights) for weight in weights]


def _mix(weights: Mapping[str, float]) -> str:
    return f"A mix of {_parts(weights)}"


def _parts(weights: Mapping[str, float]) -> str:
    return listed([f"{share:.0%} {task(name).label}" for name, share in weights.items()])


def _reasons(fits: Sequence[Fit]) -> str:
    return listed([f"{task(fit.cells.benchmark).label}: {fit.reason}" for fit in fits], "; ")


def _weighed(
    fits: Sequence[Fit], shares: Sequence[float]
) -> tuple[float, float, float, tuple[float, int], tuple[Price, ...], pd.DataFrame] | None:
    """log2 ratio with its bounds, cell, prices and front; None for fewer than two surfaces or
    where they share no cell."""
    if len(fits) < 2:
        return None
    x, y = _lines(fits)
    cells = _shared_cells(fits)
    if not len(x) or not cells:
        return None
    short = [_shortfall(fit, x, y) for fit in fits]
    count = min(len(one) for one in short)
    short = [one[:count] for one in short]
    ranges = [_range(fit) for fit in fits]
    lost = sum(share * one / span for share, one, span in zip(shares, short, ranges, strict=True))
    assert isinstance(lost, np.ndarray)
    mean = lost.mean(axis=0)
    top = int(mean.argmin())
    draws = (x - y)[lost.argmin(axis=1)]
    middle = float(x[top] - y[top])
    low, high = np.quantile(draws, LEVELS)
    prices = tuple(
        Price(
            benchmark=fit.cells.benchmark,
            label=task(fit.cells.benchmark).label,
            metric=fit.cells.metric,
            weight=share,
            expected=float(one[:, top].mean()),
            high=float(np.quantile(one[:, top], 0.95)),
        )
        for fit, share, one in zip(fits, shares, short, strict=True)
    )
    front = _front(x, y, mean)
    each = [one.mean(axis=0)[front.point] / span for one, span in zip(short, ranges, strict=True)]
    for fit, values in zip(fits, each, strict=True):
        front[fit.cells.benchmark] = values
    front = front.drop(columns="point").assign(pareto=_undominated(np.array(each).T))
    cell = _cell(cells, fits, shares, ranges)
    return middle, min(float(low), middle), max(float(high), middle), cell, prices, front


def _lines(fits: Sequence[Fit]) -> tuple[np.ndarray, np.ndarray]:
    """Points (log2) of lines of equal ratio, `STEP` octaves apart, where every grid trains."""
    boxes = [fit.posterior.box for fit in fits if fit.posterior is not None]
    x_low, x_high = max(b.x_low for b in boxes), min(b.x_high for b in boxes)
    y_low, y_high = max(b.y_low for b in boxes), min(b.y_high for b in boxes)
    first, last = np.ceil((x_low - y_high) / STEP), np.floor((x_high - y_low) / STEP)
    ratio, y = np.meshgrid(
        STEP * np.arange(first, last + 1), np.linspace(y_low, y_high, MESH[1]), indexing="ij"
    )
    x, y = (ratio + y).ravel(), y.ravel()
    free = (x >= x_low) & (x <= x_high)
    free &= ~np.any([infeasible(fit.cells, x, y) for fit in fits], axis=0)
    return x[free], y[free]


def _front(x: np.ndarray, y: np.ndarray, mean: np.ndarray) -> pd.DataFrame:
    """The point of least expected loss of each ratio, by rising ratio."""
    step = np.round((x - y) / STEP).astype(int)
    lines = [np.flatnonzero(step == one) for one in np.unique(step)]
    best = [line[mean[line].argmin()] for line in lines]
    return pd.DataFrame(
        {
            "log2_ratio": np.unique(step) * STEP,
            "learning_rate": 2.0 ** x[best],
            "batch_size": 2.0 ** y[best],
            "mixed": mean[best],
            "point": best,
        }
    )


def _shared_cells(fits: Sequence[Fit]) -> list[tuple[float, int]]:
    """Learning rate and batch size of the cells that are ok on every surface."""
    tables = [fit.cells.table.loc[fit.cells.ok] for fit in fits]
    sets = [set(zip(table.learning_rate, table.batch_size, strict=True)) for table in tables]
    return sorted(set.intersection(*sets))


def _cell(
    cells: Sequence[tuple[float, int]],
    fits: Sequence[Fit],
    shares: Sequence[float],
    ranges: Sequence[float],
) -> tuple[float, int]:
    """The one of least expected loss."""
    x, y = np.log2(np.array(cells, dtype=float)).T
    lost = sum(
        share * _shortfall(fit, x, y).mean(axis=0) / span
        for fit, share, span in zip(fits, shares, ranges, strict=True)
    )
    learning_rate, size = cells[int(np.argmin(lost))]
    return float(learning_rate), int(size)


def _shortfall(fit: Fit, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What each draw loses at each point against its best in the grid: draws x points, from 0."""
    assert fit.posterior is not None and fit.mesh is not None, "identified"
    scores = fit.posterior.scores(x, y)
    best = np.maximum(fit.mesh.height.max(axis=1), scores.max(axis=1))
    return best[:, None] - scores


def _range(fit: Fit) -> float:
    assert fit.mesh is not None, "identified"
    return max(float(np.ptp(fit.mesh.height.mean(axis=0))), 1e-12)


def _undominated(losses: np.ndarray) -> np.ndarray:
    """Rows of losses that no other row is at least as good as everywhere and better than once."""
    no_worse = (losses[None, :, :] <= losses[:, None, :]).all(axis=2)
    better = (losses[None, :, :] < losses[:, None, :]).any(axis=2)
    return ~np.any(no_worse & better, axis=1)
