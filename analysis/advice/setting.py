"""A setting to use: the point of least expected regret over one or several benchmarks.

    regret(point) = best of the grid - score(point), in every draw of the surface

Points are LR*(B) of each measured batch size where it is interior, so that the setting is a row of
the table of learning rates, and the measured cells of the other batch sizes.

Of several benchmarks the regrets are weighed after division by each benchmark's range, the best
minus the worst of its mean surface. That of a benchmark whose cells do not differ beyond noise is
noise too, so it has no weight unless no other differs either. One training serves all of them, so
they share the point; where a benchmark's own is better by more than epsilon the setting names it,
with the price.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from analysis.benchmarks import task
from analysis.fit.curves import Curves
from analysis.fit.optimum import LEVELS
from analysis.fit.rates import RateAt, RateStatus
from analysis.fit.surface import Fit
from analysis.text import rounded

BOUND = LEVELS[1]

UNSORTED = ("other", "loss")
"""Task types without a share by default, where there are benchmarks of another type."""


class Price(NamedTuple):
    """What the setting costs one benchmark, in its metric's units, against the best of its grid.

    expected, high: mean and 95 % bound over draws; own: learning rate and batch size that would be
    chosen for it alone, None where it is alone; own_expected: their expected regret;
    `dearer`: the difference exceeds epsilon.
    """

    benchmark: str
    label: str
    metric: str
    weight: float
    expected: float
    high: float
    own: tuple[float, int] | None
    own_expected: float
    epsilon: float
    dearer: bool


class Setting(NamedTuple):
    """Learning rate and batch size to use.

    expected_regret and regret_high (upper end of the 95 % interval, at least the mean): in the
    metric's units for one benchmark, as a share of the benchmarks' ranges for several (`unit`:
    "metric" or "range"). `score` and `stderr`: posterior mean and standard deviation of the score
    there, one benchmark only; the score as measured, which is too good for a chosen cell, is
    `observed`, None between cells. `measured`: a cell was run there. `disagree`: labels of the
    benchmarks whose own setting is better by more than epsilon.
    """

    label: str
    learning_rate: float
    batch_size: int
    lr_bs_ratio: float
    measured: bool
    expected_regret: float
    regret_high: float
    unit: str
    observed: float | None
    score: float | None
    stderr: float | None
    prices: tuple[Price, ...]
    disagree: tuple[str, ...]


class _Regret(NamedTuple):
    """Of one benchmark: draws x points, the range of its mean surface, and the points' scores."""

    lost: np.ndarray
    span: float
    scores: np.ndarray


def equal_weights(benchmarks: Iterable[str]) -> dict[str, float]:
    """Each task type has the same share, each benchmark of a type the same part of it. A loss and
    benchmarks of no type have none, unless there is nothing else."""
    types: dict[str, list[str]] = {}
    for name in dict.fromkeys(benchmarks):
        types.setdefault(task(name).task_type, []).append(name)
    named = {kind: names for kind, names in types.items() if kind not in UNSORTED}
    counted = named or ({"other": types["other"]} if "other" in types else types)
    return {name: 1 / len(counted) / len(names) for names in counted.values() for name in names}


def setting(
    label: str,
    fits: Sequence[Fit],
    weights: Mapping[str, float],
    rates: Sequence[RateAt] = (),
    own: Mapping[str, "Setting"] | None = None,
) -> Setting | None:
    """The point of least weighted expected regret; None where no cell is ok on every surface or no
    surface has draws. `rates` are LR*(B) of these benchmarks together; `own` the settings of each
    alone, by benchmark, against which the shared one is priced."""
    members = [(fit, fit.curves) for fit in fits if fit.curves is not None]
    cells = _shared([fit for fit, _ in members])
    if not members or not cells:
        return None
    run = {size for _, size in cells}
    inner = {
        rate.batch_size: rate
        for rate in rates
        if rate.status is RateStatus.INTERIOR and rate.batch_size in run
    }
    points = [cell for cell in cells if cell[1] not in inner]
    points += [(_as_shown(rate, cells), size) for size, rate in inner.items()]
    points.sort()
    x, y = np.log2(np.array(points, dtype=float)).T
    regrets = [_regret(curves, x, y) for _, curves in members]
    shares = np.array([weights.get(fit.cells.benchmark, 0.0) for fit, _ in members])
    shares = shares if shares.sum() > 0 else np.ones(len(members))
    told = shares * [fit.shaped for fit, _ in members]
    shares = told if told.sum() > 0 else shares
    shares = shares / shares.sum()
    count = min(len(regret.lost) for regret in regrets)
    mixed = sum(
        share * np.minimum(one.lost[:count] / one.span, 1)
        for share, one in zip(shares, regrets, strict=True)
    )
    assert isinstance(mixed, np.ndarray)
    row = int(mixed.mean(axis=0).argmin())
    learning_rate, batch_size = points[row]
    prices = tuple(
        _price(fit, curves, regret, float(share), row, (own or {}).get(fit.cells.benchmark))
        for (fit, curves), regret, share in zip(members, regrets, shares, strict=True)
    )
    single = len(members) == 1
    lost = regrets[0].lost[:, row] if single else mixed[:, row]
    expected = float(lost.mean())
    table = members[0][0].cells.table
    here = (table.learning_rate == learning_rate) & (table.batch_size == batch_size)
    measured = (learning_rate, batch_size) in cells
    sign = members[0][0].cells.sign
    return Setting(
        label=label,
        learning_rate=learning_rate,
        batch_size=batch_size,
        lr_bs_ratio=learning_rate / batch_size,
        measured=measured,
        expected_regret=expected,
        regret_high=max(float(np.quantile(lost, BOUND)), expected),
        unit="metric" if single else "range",
        observed=float(table.value[here].iloc[0]) if single and measured else None,
        score=float(sign * regrets[0].scores[:, row].mean()) if single else None,
        stderr=float(regrets[0].scores[:, row].std()) if single else None,
        prices=prices,
        disagree=() if single else tuple(price.label for price in prices if price.dearer),
    )


def _price(
    fit: Fit, curves: Curves, regret: _Regret, share: float, row: int, own: Setting | None
) -> Price:
    """`own` is the benchmark's own setting, None where it is the one that is priced."""
    expected = float(regret.lost[:, row].mean())
    known = task(fit.cells.benchmark)
    return Price(
        benchmark=fit.cells.benchmark,
        label=known.label,
        metric=fit.cells.metric,
        weight=share,
        expected=expected,
        high=float(np.quantile(regret.lost[:, row], BOUND)),
        own=None if own is None else (own.learning_rate, own.batch_size),
        own_expected=expected if own is None else own.expected_regret,
        epsilon=curves.epsilon,
        dearer=fit.shaped and own is not None and expected - own.expected_regret > curves.epsilon,
    )


def _as_shown(rate: RateAt, cells: Sequence[tuple[float, int]]) -> float:
    """LR*(B) with the digits that the table of learning rates shows, but no rate beyond those that
    trained there: LR*(B) below a wall of divergence may lie beyond the last that did."""
    run = [learning_rate for learning_rate, size in cells if size == rate.batch_size]
    shown = float(rounded(rate.learning_rate, rate.low, rate.high)[0])
    return (
        shown if min(run) <= shown <= max(run) else min(max(rate.learning_rate, min(run)), max(run))
    )


def _shared(fits: Sequence[Fit]) -> list[tuple[float, int]]:
    """Learning rate and batch size of the cells that are ok on every surface."""
    tables = [fit.cells.table.loc[fit.cells.ok] for fit in fits]
    sets = [set(zip(table.learning_rate, table.batch_size, strict=True)) for table in tables]
    shared = set.intersection(*sets) if sets else set()
    return sorted((float(rate), int(size)) for rate, size in shared)


def _regret(curves: Curves, x: np.ndarray, y: np.ndarray) -> _Regret:
    scores = curves.posterior.scores(x, y)
    best = np.minimum(np.maximum(curves.best, scores.max(axis=1)), curves.cells.bounds[1])
    mean = curves.height.mean(axis=0)[curves.measured]
    span = max(float(np.ptp(mean)), curves.epsilon, 1e-12)
    lost = best[:, None] - np.maximum(scores, curves.cells.bounds[0])
    return _Regret(np.maximum(lost, 0), span, scores)
