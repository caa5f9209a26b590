"""LR*(B) of several benchmarks: one learning rate per batch size for all of a type, or of a mix.

    regret(x, B) = weighted mean over benchmarks of (best at B - score(x, B)) / range

in joint draws; range is that of the benchmark's mean scores, so that metrics of different units
count alike. The best learning rate of a draw is the one of least regret, which is not the mean of
the benchmarks' own best rates. Benchmarks whose cells do not differ beyond noise have no say.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace

import numpy as np

from analysis.fit.curves import Curves
from analysis.fit.rates import RateAt, learning_rates
from analysis.fit.surface import Fit
from analysis.posterior.cells import Cells


def type_rates(
    fits: Sequence[Fit], weights: Mapping[str, float] | None = None
) -> tuple[RateAt, ...]:
    """Of benchmarks of one grid, alike or with `weights` by benchmark, over the cells on which all
    of them have a score; empty where none of them can say anything, or fewer than two cells are
    left."""
    known = with_a_say(fits)
    curves = _curves(known)
    shares = [1.0 if weights is None else weights[fit.cells.benchmark] for fit in known]
    if not curves:
        return ()
    first = curves[0]
    count = min(len(curve.height) for curve in curves)
    ranges = [_range(curve) for curve in curves]
    mixed = Curves.__new__(Curves)
    mixed.__dict__ = {
        name: copy(value)
        for name, value in vars(first).items()
        if name in ("cells", "posterior", "batch_sizes", "y", "x", "measured")
    }
    parts = list(zip(curves, ranges, strict=True))
    mixed.epsilon = float(np.average([part.epsilon / span for part, span in parts], weights=shares))
    mixed.height = np.zeros_like(first.height[:count])
    for (part, span), share in zip(parts, np.array(shares) / sum(shares), strict=True):
        mixed.height += part.height[:count] * (share / span)  # one at a time: they are large
    return learning_rates(mixed, shaped=True)


def with_a_say(fits: Sequence[Fit]) -> list[Fit]:
    """Those whose cells differ beyond noise."""
    return [fit for fit in fits if fit.shaped and fit.curves is not None]


def common_cells(fits: Sequence[Fit]) -> set[tuple[float, int]] | None:
    """Learning rate and batch size of the cells that ended alike on every benchmark, scored or
    diverged; None where all cells did."""
    ended = [_ended(fit.cells) for fit in fits]
    if all(one == ended[0] for one in ended):
        return None
    alike = set.intersection(*(set(one.items()) for one in ended))
    return {cell for cell, status in alike if status != "failed"}


def _ended(cells: Cells) -> dict[tuple[float, int], str]:
    table = cells.table
    places = zip(table.learning_rate, table.batch_size, strict=True)
    return dict(zip(places, table.status, strict=True))


def _curves(fits: Sequence[Fit]) -> list[Curves]:
    """The curves of each on one mesh."""
    common = common_cells(fits)
    every = [fit.curves for fit in fits if fit.curves is not None]
    if common is None:
        return every
    kept = []
    for fit, curves in zip(fits, every, strict=True):
        rows = [cell in common for cell in _ended(fit.cells)]
        table = fit.cells.table.loc[rows].reset_index(drop=True)
        if (table.status == "ok").sum() < 2:
            return []
        cells = replace(fit.cells, table=table, noise=fit.cells.noise[:, rows])
        kept.append(Curves(cells, curves.posterior))
    return kept


def _range(curves: Curves) -> float:
    mean = curves.height.mean(axis=0)[curves.measured]
    return max(float(np.ptp(mean)), curves.epsilon, 1e-12)
