"""LR*(B) of several benchmarks: one learning rate per batch size for all of a type, or of a mix.

    regret(x, B) = weighted mean over benchmarks of (best at B - score(x, B)) / range

in joint draws; range is that of the benchmark's mean scores, so that metrics of different units
count alike. The best learning rate of a draw is the one of least regret, which is not the mean of
the benchmarks' own best rates. Benchmarks whose cells do not differ beyond noise have no say.
"""

from collections.abc import Mapping, Sequence
from copy import copy

import numpy as np

from analysis.fit.curves import Curves
from analysis.fit.rates import RateAt, learning_rates
from analysis.fit.surface import Fit


def type_rates(
    fits: Sequence[Fit], weights: Mapping[str, float] | None = None
) -> tuple[RateAt, ...]:
    """Of benchmarks of one grid, alike or with `weights` by benchmark; empty where none of them can
    say anything, or where they were not scored on the same cells."""
    known = [fit for fit in fits if fit.shaped and fit.curves is not None]
    curves = [fit.curves for fit in known if fit.curves is not None]
    shares = [1.0 if weights is None else weights[fit.cells.benchmark] for fit in known]
    if not curves:
        return ()
    first = curves[0]
    if any(not _same_mesh(first, other) for other in curves):
        return ()
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


def _same_mesh(first: Curves, other: Curves) -> bool:
    return (
        first.x.shape == other.x.shape
        and np.allclose(first.x, other.x)
        and np.array_equal(first.batch_sizes, other.batch_sizes)
        and np.array_equal(first.measured, other.measured)
    )


def _range(curves: Curves) -> float:
    mean = curves.height.mean(axis=0)[curves.measured]
    return max(float(np.ptp(mean)), curves.epsilon, 1e-12)
