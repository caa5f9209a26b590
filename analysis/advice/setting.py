"""A setting to use: the measured cell of least expected regret over one or several benchmarks.

    regret(cell) = best of the grid - score(cell), in every draw of the surface

Of several benchmarks the regrets are weighed after division by each benchmark's range, the best
minus the worst of its mean surface. One training serves all of them, so they share the cell; where
a benchmark's own cell is better by more than epsilon the setting names it, with the price.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from analysis.benchmarks import task
from analysis.fit.curves import Curves
from analysis.fit.optimum import LEVELS
from analysis.fit.surface import Fit

BOUND = LEVELS[1]


class Price(NamedTuple):
    """What the setting costs one benchmark, in its metric's units, against the best of its grid.

    expected, high: mean and 95 % bound over draws; own_learning_rate, own_batch_size,
    own_expected: the cell that would be chosen for it alone and that cell's expected regret;
    `dearer`: the difference exceeds epsilon.
    """

    benchmark: str
    label: str
    metric: str
    weight: float
    expected: float
    high: float
    own_learning_rate: float
    own_batch_size: int
    own_expected: float
    epsilon: float
    dearer: bool


class Setting(NamedTuple):
    """Learning rate and batch size to use.

    expected_regret and regret_high (upper end of the 95 % interval): in the metric's units for one
    benchmark, as a share of the benchmarks' ranges for several (`unit`: "metric" or "range").
    `score` and `stderr`: posterior mean and standard deviation of the cell's score, one benchmark
    only; the score as measured, which is too good for a chosen cell, is `observed`. `disagree`:
    labels of the benchmarks whose own cell is better by more than epsilon.
    """

    label: str
    learning_rate: float
    batch_size: int
    lr_bs_ratio: float
    expected_regret: float
    regret_high: float
    unit: str
    observed: float | None
    score: float | None
    stderr: float | None
    prices: tuple[Price, ...]
    disagree: tuple[str, ...]


class _Regret(NamedTuple):
    """Of one benchmark: draws x cells, the range of its mean surface, and the cells' scores."""

    lost: np.ndarray
    span: float
    scores: np.ndarray


def setting(label: str, fits: Sequence[Fit], weights: Mapping[str, float]) -> Setting | None:
    """The shared cell of least weighted expected regret; None where no cell is ok on every surface
    or no surface has draws."""
    members = [(fit, fit.curves) for fit in fits if fit.curves is not None]
    cells = _shared([fit for fit, _ in members])
    if not members or not cells:
        return None
    x, y = np.log2(np.array(cells, dtype=float)).T
    regrets = [_regret(curves, x, y) for _, curves in members]
    shares = np.array([weights.get(fit.cells.benchmark, 0.0) for fit, _ in members])
    shares = shares / shares.sum() if shares.sum() > 0 else np.full(len(members), 1 / len(members))
    count = min(len(one.lost) for one in regrets)
    mixed = sum(
        share * one.lost[:count] / one.span for share, one in zip(shares, regrets, strict=True)
    )
    assert isinstance(mixed, np.ndarray)
    row = int(mixed.mean(axis=0).argmin())
    prices = tuple(
        _price(fit, curves, regret, float(share), row, cells)
        for (fit, curves), regret, share in zip(members, regrets, shares, strict=True)
    )
    learning_rate, batch_size = cells[row]
    single = len(members) == 1
    lost = regrets[0].lost[:, row] if single else mixed[:, row]
    table = members[0][0].cells.table
    here = (table.learning_rate == learning_rate) & (table.batch_size == batch_size)
    sign = members[0][0].cells.sign
    return Setting(
        label=label,
        learning_rate=learning_rate,
        batch_size=batch_size,
        lr_bs_ratio=learning_rate / batch_size,
        expected_regret=float(lost.mean()),
        regret_high=float(np.quantile(lost, BOUND)),
        unit="metric" if single else "range",
        observed=float(table.value[here].iloc[0]) if single else None,
        score=float(sign * regrets[0].scores[:, row].mean()) if single else None,
        stderr=float(regrets[0].scores[:, row].std()) if single else None,
        prices=prices,
        disagree=() if single else tuple(price.label for price in prices if price.dearer),
    )


def _price(
    fit: Fit,
    curves: Curves,
    regret: _Regret,
    share: float,
    row: int,
    cells: list[tuple[float, int]],
) -> Price:
    expected = regret.lost.mean(axis=0)
    own = int(expected.argmin())
    known = task(fit.cells.benchmark)
    return Price(
        benchmark=fit.cells.benchmark,
        label=known.label,
        metric=fit.cells.metric,
        weight=share,
        expected=float(expected[row]),
        high=float(np.quantile(regret.lost[:, row], BOUND)),
        own_learning_rate=cells[own][0],
        own_batch_size=cells[own][1],
        own_expected=float(expected[own]),
        epsilon=curves.epsilon,
        dearer=bool(expected[row] - expected[own] > curves.epsilon),
    )


def _shared(fits: Sequence[Fit]) -> list[tuple[float, int]]:
    """Learning rate and batch size of the cells that are ok on every surface."""
    tables = [fit.cells.table.loc[fit.cells.ok] for fit in fits]
    sets = [set(zip(table.learning_rate, table.batch_size, strict=True)) for table in tables]
    shared = set.intersection(*sets) if sets else set()
    return sorted((float(rate), int(size)) for rate, size in shared)


def _regret(curves: Curves, x: np.ndarray, y: np.ndarray) -> _Regret:
    scores = curves.posterior.scores(x, y)
    best = np.maximum(curves.best, scores.max(axis=1))
    mean = curves.height.mean(axis=0)[curves.measured]
    span = max(float(np.ptp(mean)), curves.epsilon, 1e-12)
    return _Regret(best[:, None] - scores, span, scores)
