"""How likely a published rule is on one benchmark, and how likely what speaks against it."""

from typing import NamedTuple

import numpy as np

from analysis.fit.curves import Curves
from analysis.fit.exponent import DEFINED, slope_draws

OCTAVES_APART = 0.25
"""Rise and fall of the best rate, in octaves, that is more than none."""


class Odds(NamedTuple):
    """Probability that a rule holds, and that of what speaks against it."""

    holds: float
    against: float


def larger_and_lower(curves: Curves) -> Odds | None:
    """The largest batch with the lower half of the rates beats the smallest with the upper."""
    if len(curves.y) < 2:
        return None
    rates = curves.x[curves.measured.any(axis=0)]
    upper = curves.x >= (rates.min() + rates.max()) / 2
    large = np.where(~upper, curves.inside[:, -1], -np.inf).max(axis=1)
    small = np.where(upper, curves.inside[:, 0], -np.inf).max(axis=1)
    if np.isinf(large).all() or np.isinf(small).all():  # not measured
        return None
    return odds_of(large > small)


def near(curves: Curves, value: float, within: float) -> Odds | None:
    """Against it speaks an exponent on one side: one that may be on either is not known."""
    slopes = slope_draws(curves)
    if slopes is None:
        return None
    off = slopes[np.isfinite(slopes)] - value
    against = max((off < -within).mean(), (off > within).mean())
    return Odds(float((np.abs(off) <= within).mean()), float(against))


def rises_then_falls(curves: Curves) -> Odds | None:
    """Of the draws in which the first or last batch size and the highest between them are not best
    at the same end of the rates, beyond which they would be compared; None of too few."""
    if len(curves.y) < 3:
        return None
    tops = curves.tops
    draws, inner = np.arange(len(tops)), 1 + tops[:, 1:-1].argmax(axis=1)
    highest = tops[draws, inner]
    known = np.ones(len(tops), dtype=bool)
    for falls in curves.falls:
        at_end = ~falls
        known &= ~(at_end[draws, inner] & (at_end[:, 0] | at_end[:, -1]))
    if known.mean() < DEFINED:
        return None
    rises, falls = (highest - tops[:, end] > OCTAVES_APART for end in (0, -1))
    return odds_of((rises & falls)[known])


def odds_of(holds: np.ndarray) -> Odds:
    share = float(holds.mean())
    return Odds(share, 1 - share)
