"""LR*(B): the best learning rate at each measured batch size, and what is known of it."""

from enum import StrEnum
from typing import NamedTuple

import numpy as np

from analysis.fit.curves import Curves
from analysis.fit.optimum import LEVELS

INTERIOR = 0.7
"""Share of draws that must fall on both sides of their top for an optimum inside the rates."""

EDGE = 0.7
"""Share of draws that must still rise at one end for an optimum beyond it."""

WIDEST = 0.8
"""Of the measured rates' span: a wider interval places no optimum."""


class RateStatus(StrEnum):
    """Where the best learning rate lies: inside the measured ones, at or beyond an end, or in a
    range of equally good ones."""

    INTERIOR = "interior"
    EDGE = "edge"
    LEVEL = "level"


class RateAt(NamedTuple):
    """LR*(B) at one batch size; rates in their own units.

    learning_rate, low, high: median and 95 % interval over draws; of an interior optimum given that
    the score falls on both sides. `side` is "lower" or "higher" at an edge, else "". level_low and
    level_high: rates that are within epsilon of the best in at least half of the draws, or the
    median where there are none. The three probabilities are shares of draws: the score falls on
    both sides, still rises towards the lowest, towards the highest rate; the rest is level.
    """

    batch_size: int
    learning_rate: float
    low: float
    high: float
    status: RateStatus
    side: str
    level_low: float
    level_high: float
    p_interior: float
    p_lower: float
    p_higher: float


def learning_rates(curves: Curves, shaped: bool) -> tuple[RateAt, ...]:
    """One record per measured batch size, none where rates cannot be compared (`no_rates`).
    `shaped` is False where the cells do not differ beyond noise, which leaves every rate level."""
    if len(curves.x) < 2 or curves.no_rates:
        return ()
    return tuple(_at(curves, row, shaped) for row in range(len(curves.y)))


def _at(curves: Curves, row: int, shaped: bool) -> RateAt:
    falls = curves.falls
    below, above = falls.below[:, row], falls.above[:, row]
    p_interior = float((below & above).mean())
    p_lower = float((~below & above).mean())
    p_higher = float((below & ~above).mean())
    tops = curves.tops[:, row]
    span = np.ptp(curves.x[curves.measured[row]])
    status, side, kept = RateStatus.LEVEL, "", tops
    if shaped and p_interior >= INTERIOR:
        inside = tops[below & above]
        if np.ptp(np.quantile(inside, LEVELS)) <= WIDEST * span:
            status, kept = RateStatus.INTERIOR, inside
    elif shaped and max(p_lower, p_higher) >= EDGE:
        status, side = RateStatus.EDGE, "lower" if p_lower > p_higher else "higher"
    low, middle, high = np.quantile(kept, [LEVELS[0], 0.5, LEVELS[1]])
    good = (curves.inside[:, row] >= curves.profile[:, [row]] - curves.epsilon).mean(axis=0) >= 0.5
    level = curves.x[good] if good.any() else np.array([middle])
    return RateAt(
        batch_size=int(curves.batch_sizes[row]),
        learning_rate=float(2**middle),
        low=float(2**low),
        high=float(2**high),
        status=status,
        side=side,
        level_low=float(2 ** level.min()),
        level_high=float(2 ** level.max()),
        p_interior=p_interior,
        p_lower=p_lower,
        p_higher=p_higher,
    )
