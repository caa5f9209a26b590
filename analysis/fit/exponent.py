"""gamma of LR*(B) ~ B^gamma: how the best learning rate follows the batch size."""

from typing import NamedTuple

import numpy as np

from analysis.fit.curves import Curves
from analysis.fit.optimum import LEVELS
from analysis.fit.ratio import rule_regret

NEAR = 0.25
"""Within this of 1 gamma is called linear, within this of 1/2 a square root."""


DEFINED = 0.5
"""Share of draws that must have a slope: of fewer it is a statement about odd draws."""


class Gamma(NamedTuple):
    """Least-squares slope of log2 LR*(B) on log2 B over the batch sizes whose optimum is interior
    in that draw; None where fewer than `DEFINED` of the draws have two of them.

    value, low, high: median and 95 % interval; p_linear: P(|gamma - 1| <= 1/4); p_root:
    P(|gamma - 1/2| <= 1/4); `defined`: share of draws with a slope, over which these are taken;
    p_sufficient: share of them in which gamma is linear and keeping one ratio costs less than
    epsilon at the worst batch size; p_insufficient: share in which that costs more and gamma lies
    below what is linear, or in which it lies above, whichever is more: a wide gamma lies on both
    sides.
    """

    value: float
    low: float
    high: float
    p_linear: float
    p_root: float
    p_sufficient: float
    p_insufficient: float
    defined: float


def exponent(curves: Curves, ratio_constant: float) -> Gamma | None:
    """gamma over the draws; `ratio_constant` is the one ratio that would be kept."""
    slopes = slope_draws(curves)
    if slopes is None:
        return None
    defined = np.isfinite(slopes)
    known = slopes[defined]
    linear = np.abs(known - 1) <= NEAR
    lost = rule_regret(curves, np.log2([ratio_constant]), 1.0)[defined, :, 0].max(axis=1)
    dear = lost > curves.epsilon
    low, middle, high = np.quantile(known, [LEVELS[0], 0.5, LEVELS[1]])
    return Gamma(
        value=float(middle),
        low=float(low),
        high=float(high),
        p_linear=float(linear.mean()),
        p_root=float((np.abs(known - 0.5) <= NEAR).mean()),
        p_sufficient=float((linear & (lost <= curves.epsilon)).mean()),
        p_insufficient=float(
            max((dear & (known < 1 - NEAR)).mean(), (dear & (known > 1 + NEAR)).mean())
        ),
        defined=float(defined.mean()),
    )


def slope_draws(curves: Curves) -> np.ndarray | None:
    """Slope of each draw, NaN where fewer than two batch sizes have an interior optimum; None where
    that is so in too many (`DEFINED`), or rates cannot be compared."""
    if curves.no_rates:
        return None
    used = curves.falls.both.astype(float)
    count = used.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        y = curves.y - (used @ curves.y / count)[:, None]
        slopes = (used * y * curves.tops).sum(axis=1) / (used * y * y).sum(axis=1)
    has_two = count >= 2
    return np.where(has_two, slopes, np.nan) if has_two.mean() >= DEFINED else None
