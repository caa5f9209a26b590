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
    """The largest batch beats the smallest, each at its own best rate, and its rate is the lower;
    against it speaks either alone. Where the grid's rates lie decides nothing: of the draws in
    which both rates lie inside them, None of too few.
    """
    known = curves.falls.both[:, [0, -1]].all(axis=1)
    if len(curves.y) < 2 or known.mean() < DEFINED:
        return None
    larger = (curves.profile[:, -1] > curves.profile[:, 0])[known]
    lower = (curves.tops[:, -1] < curves.tops[:, 0])[known]
    return Odds(float((larger & lower).mean()), float(max((~larger).mean(), (~lower).mean())))


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
