"""The best LR/BS within the measured batch sizes, and what it costs to keep one rule for all.

h(r) = max over measured B of score(r B, B)
"""

from typing import NamedTuple

import numpy as np

from analysis.fit.curves import FALL, Curves
from analysis.fit.optimum import LEVELS
from analysis.fit.rates import EDGE, INTERIOR, RateStatus

WIDEST = 0.6
"""Of the measured ratios' span: a wider interval places no ratio."""

BEYOND = 0.25
"""Share of epsilon, per octave beyond the measured rates, by which a score there may lie below what
the draws say of it: chosen on simulated surfaces, where bounds without it are too low."""

RULES = {"ratio": 1.0, "root": 0.5, "fixed": 0.0}
"""Exponent of the batch size in learning rate = c B^exponent: one ratio, the square root, one
rate."""


class KeptRule(NamedTuple):
    """One rule learning rate = constant x B^exponent for all batch sizes, with the constant of
    least expected regret at the worst batch size.

    expected and high: mean and upper end of the 95 % interval (at least the mean) of the regret at
    the worst batch size, in the metric's units, the latter with an allowance where the rule leaves
    the measured rates (`BEYOND`), and neither more than the score has; `worst_batch_size` is where
    the expected one is largest.
    """

    name: str
    exponent: float
    constant: float
    worst_batch_size: int
    expected: float
    high: float


class BestRatio(NamedTuple):
    """The top of h(r): ratio with its 95 % interval, status as of a learning rate, the share of
    draws in which it is inside, and what each of `RULES` costs, by name; `epsilon` is a difference
    of no importance, in the metric's units."""

    ratio: float
    low: float
    high: float
    status: RateStatus
    side: str
    p_interior: float
    keep: dict[str, KeptRule]
    epsilon: float


def best_ratio(curves: Curves, shaped: bool) -> BestRatio:
    """The best ratio over the measured batch sizes and rates; one beyond all measured ratios lies
    at that end."""
    draws = np.arange(len(curves.best))
    size = _best_size(curves)
    below, above = (side[draws, size] for side in curves.falls)
    ratios = curves.tops[draws, size] - curves.y[size]
    ended = curves.cells.table.loc[curves.cells.table.status != "failed"]
    measured = ended.x - ended.y
    below, above = below & (ratios >= measured.min()), above & (ratios <= measured.max())
    inside = below & above
    p_interior, p_lower, p_higher = (
        float(share.mean()) for share in (inside, ~below & above, below & ~above)
    )
    span = np.ptp(curves.x[curves.measured.any(axis=0)]) + np.ptp(curves.y)
    status, side, kept = RateStatus.LEVEL, "", ratios
    if shaped and p_interior >= INTERIOR:
        if np.ptp(np.quantile(ratios[inside], LEVELS)) <= WIDEST * span:
            status, kept = RateStatus.INTERIOR, ratios[inside]
    elif shaped and max(p_lower, p_higher) >= EDGE:
        status, side = RateStatus.EDGE, "lower" if p_lower > p_higher else "higher"
        kept = ratios.clip(measured.min(), measured.max())
    low, middle, high = np.quantile(kept, [LEVELS[0], 0.5, LEVELS[1]])
    return BestRatio(
        ratio=float(2**middle),
        low=float(2**low),
        high=float(2**high),
        status=status,
        side=side,
        p_interior=p_interior,
        keep={name: keep(curves, name, power) for name, power in RULES.items()},
        epsilon=curves.epsilon,
    )


def _best_size(curves: Curves) -> np.ndarray:
    """Position of each draw's best batch size; of those as good (within `FALL` of the range), one
    whose best rate is interior: along a ridge of equal ratios any of them shows the ratio."""
    lowest = np.where(curves.measured, curves.height, np.inf).min(axis=(1, 2))
    good = curves.best - FALL * (curves.best - lowest)
    bounded = np.where(curves.falls.both, curves.profile, -np.inf)
    as_good = bounded.max(axis=1) >= good
    return np.where(as_good, bounded.argmax(axis=1), curves.profile.argmax(axis=1))


def keep(curves: Curves, name: str, exponent: float) -> KeptRule:
    """What the rule c B^exponent costs at the worst batch size, c chosen on the draws."""
    constants = candidates(curves, exponent)
    regret = rule_regret(curves, constants, exponent)
    allowed = regret + _allowance(curves, constants, exponent)
    chosen = int(allowed.max(axis=1).mean(axis=0).argmin())
    most = np.maximum(curves.profile - curves.cells.bounds[0], 0)
    lost, high = (np.minimum(of[:, :, chosen], most).max(axis=1) for of in (regret, allowed))
    expected = float(lost.mean())
    return KeptRule(
        name=name,
        exponent=exponent,
        constant=float(2 ** constants[chosen]),
        worst_batch_size=int(curves.batch_sizes[regret[:, :, chosen].mean(axis=0).argmax()]),
        expected=expected,
        high=max(float(np.quantile(high, LEVELS[1])), expected),
    )


def _allowance(curves: Curves, constants: np.ndarray, exponent: float) -> np.ndarray:
    """What c B^exponent may lose beyond what the draws say, K x constants (`BEYOND`)."""
    x = constants[None, :] + exponent * curves.y[:, None]
    low, high = (curves.x[end][:, None] for end in curves.ends)
    octaves = np.maximum(low - x, 0) + np.maximum(x - high, 0)
    return BEYOND * curves.epsilon * octaves


def candidates(curves: Curves, exponent: float) -> np.ndarray:
    """log2 constants whose rule crosses the measured rates at some batch size."""
    x = curves.x[curves.measured.any(axis=0)]
    low, high = (exponent * end for end in (curves.y.min(), curves.y.max()))
    step = curves.x[1] - curves.x[0] if len(curves.x) > 1 else 1.0
    return np.arange(x.min() - high, x.max() - low + step / 2, step)


def rule_regret(curves: Curves, constants: np.ndarray, exponent: float) -> np.ndarray:
    """Shortfall of c B^exponent at each batch size against the best measured rate there: draws x
    K x constants, at least 0."""
    x = constants[None, :] + exponent * curves.y[:, None]
    return np.maximum(curves.profile[:, :, None] - curves.at(x), 0)
