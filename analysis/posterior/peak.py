"""The shape of one surface near its top: a single peak, or a ridge, over log2 rate and log2 size.

With x = log2 learning rate, y = log2 batch size and the top at (a, b):

    u = (x - a) - gamma (y - b),   v = y - b
    d = (u / w(u))^2 + (v / h)^2,  w(u) = w exp(skew) above the top, w exp(-skew) below it
    peak(x, y) = -log(1 + tail d^power) / tail

gamma is the direction of the ridge (0: the learning rate counts alone; 1: the ratio; 1/2: the
square-root rule, Malladi et al. 2022), w and h half-widths in octaves, skew the steeper side (a
cliff), power the flatness of the top (1: a quadratic, 2: a plateau), tail how soon the score levels
off far away. A quadratic is power = 1, tail -> 0, skew = 0.

A rival without a top along the learning rate rises and levels off (sign 1) or falls from a level
(sign -1), so that a curve that levels off does not pass for a peak near the end of the grid:

    level(x, y) = -exp(-sign u / w) - (v / h)^2
"""

from enum import StrEnum
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, qmc

NAMES = ("a", "b", "gamma", "log_width", "log_height", "skew", "log_tail", "log_power", "sign")
PLACE = 0.38
"""Normal prior of a and b: this share of the grid's span round its middle, so that a priori the top
of two grids in three lies inside. Grids are laid round the expected top: over Step Law's 17 dense
surfaces it lies 0.14 of the span from the middle (root mean square)."""

CENTRES = np.array([0.45, np.log(2.0), np.log(5.0), -0.4, -1.5, 0.15])
SPREADS = np.array([0.5, 0.7, 1.0, 0.6, 1.2, 0.3])
"""Normal priors of all but a, b and the sign. Published paths have gamma between 0 and 1: Step
Law's own grids 0.30, the square-root rule 1/2, the linear rule 1. The side of higher rates is
expected to be the steeper: it ends where training diverges."""

QUADRATIC = np.array([0.0, -6.0, 0.0])
"""skew, log_tail and log_power of a peak that is a quadratic."""

BLOCK = 2**16
"""Heights that are computed at a time: few enough to stay in a processor's cache."""

STEEPEST = 30.0
"""Bound of exponents, far above any that a grid shows."""


class Family(StrEnum):
    """Shapes that are weighed against each other."""

    QUADRATIC = "quadratic"
    PEAK = "peak"
    LEVEL = "level"


FREE = {Family.QUADRATIC: 5, Family.PEAK: 8, Family.LEVEL: 5}
"""How many of `NAMES`, from the first, a family fits."""


class Box(NamedTuple):
    """The rectangle of measured cells in log2 units, the only place an optimum may lie."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    @property
    def ratio_span(self) -> float:
        return (self.x_high - self.x_low) + (self.y_high - self.y_low)


def box_of(x: np.ndarray, y: np.ndarray) -> Box:
    """The rectangle round the points; an axis of one value gets half an octave on either side."""
    (x_low, x_high), (y_low, y_high) = (
        (float(axis.min()), float(axis.max()))
        if np.ptp(axis) > 0
        else (float(axis.min()) - 0.5, float(axis.max()) + 0.5)
        for axis in (x, y)
    )
    return Box(x_low, x_high, y_low, y_high)


def draw_prior(box: Box, count: int, family: Family, rng: np.random.Generator) -> np.ndarray:
    """Parameters (`NAMES`) of one family from the prior, count x 9: scrambled Sobol' points, which
    halve what an evidence differs by between seeds; count is a power of 2."""
    centres, spreads = _prior(box)
    free = FREE[family]
    normal = qmc.MultivariateNormalQMC(np.zeros(free), rng=rng).random(count)
    parameters = np.zeros((count, len(NAMES)))
    parameters[:, :free] = centres[:free] + spreads[:free] * normal
    if family is not Family.PEAK:
        parameters[:, free:-1] = QUADRATIC
    if family is Family.LEVEL:
        parameters[:, -1] = rng.choice([-1, 1], count)
    return parameters


def log_prior(box: Box, parameters: np.ndarray, family: Family) -> np.ndarray:
    """Log density of what the family fits, per row of parameters (rows x 9)."""
    centres, spreads = _prior(box)
    free = FREE[family]
    fitted = norm.logpdf(parameters[:, :free], centres[:free], spreads[:free]).sum(axis=1)
    return fitted - np.log(2) if family is Family.LEVEL else fitted


def tops(parameters: np.ndarray) -> np.ndarray:
    """Place of each peak, rows x 2 in log2 units; infinite along the rate where there is none."""
    x = parameters[:, 0].copy()
    x[parameters[:, -1] > 0], x[parameters[:, -1] < 0] = np.inf, -np.inf
    return np.column_stack([x, parameters[:, 1]])


def _prior(box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of all parameters."""
    low, high = np.array([box.x_low, box.y_low]), np.array([box.x_high, box.y_high])
    return np.append((low + high) / 2, CENTRES), np.append(PLACE * (high - low), SPREADS)


def peak(parameters: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Height of each shape at each point, rows of parameters x points; a peak is 0 at its top."""
    height = np.empty((len(parameters), len(x)))
    rows = max(1, BLOCK // max(1, len(x)))
    for start in range(0, len(parameters), rows):
        some, here = parameters[start : start + rows], height[start : start + rows]
        levels = some[:, -1] != 0
        here[~levels] = _peak(some[~levels], x, y)
        here[levels] = _level(some[levels], x, y)
    return height


def _peak(parameters: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    a, b, gamma, width, height, skew, tail, power, _ = parameters.T[:, :, None]
    v = y - b
    u = (x - a) - gamma * v
    u *= np.where(u > 0, np.exp(-width - skew), np.exp(-width + skew))
    v *= np.exp(-height)
    distance = u * u + v * v
    distance += 1e-12
    with np.errstate(over="ignore"):
        far = np.log(distance, out=distance)
        far *= np.exp(power)
        np.clip(far, -STEEPEST, STEEPEST, out=far)
        np.exp(far, out=far)
    tail = np.exp(tail)
    far *= tail
    return np.log1p(far, out=far) / -tail


def _level(parameters: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    a, b, gamma, width, height, _, _, _, sign = parameters.T[:, :, None]
    v = y - b
    exponent = -sign * ((x - a) - gamma * v) * np.exp(-width)
    rise = np.exp(np.clip(exponent, -STEEPEST, STEEPEST))
    return -rise - (v * np.exp(-height)) ** 2
