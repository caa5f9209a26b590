"""The shape of one surface near its top: a single peak, or a ridge, over log2 rate and log2 size.

With x = log2 learning rate, y = log2 batch size and the top at (a, b):

    u = (x - a) - gamma (y - b),   v = y - b
    d = (u / w(u))^2 + (v / h)^2,  w(u) = w exp(skew) above the top, w exp(-skew) below it
    peak(x, y) = -log(1 + tail d^power) / tail

gamma is the direction of the ridge (0: the learning rate counts alone; 1: the ratio; 1/2: the
square-root rule, Malladi et al. 2022), w and h half-widths in octaves, skew the steeper side (a
cliff), power the flatness of the top (1: a quadratic, 2: a plateau), tail how soon the score levels
off far away. A quadratic is power = 1, tail -> 0, skew = 0.
"""

from typing import NamedTuple

import numpy as np

NAMES = ("a", "b", "gamma", "log_width", "log_height", "skew", "log_tail", "log_power")
PLACE = 0.5
"""Normal prior of a and b: this share of the grid's span round its middle, so that a priori the top
of two grids in five lies inside. Grids are laid round the expected top: over Step Law's 17 dense
surfaces it lies 0.14 of the span from the middle (root mean square)."""

CENTRES = np.array([0.45, np.log(2.0), np.log(5.0), 0.0, -1.5, 0.15])
SPREADS = np.array([0.5, 0.7, 1.0, 0.4, 1.2, 0.3])
"""Normal priors of all but a and b. Published paths have gamma between 0 and 1: Step Law's own
grids 0.30, the square-root rule 1/2, the linear rule 1."""

QUADRATIC = np.array([0.0, -6.0, 0.0])
"""skew, log_tail and log_power of a peak that is a quadratic."""


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


def draw_prior(box: Box, count: int, quadratic: bool, rng: np.random.Generator) -> np.ndarray:
    """Parameters (`NAMES`) from the prior, count x 8; of quadratics alone, or of any shape."""
    centres, spreads = _prior(box)
    found = centres + spreads * rng.standard_normal((count, len(centres)))
    if quadratic:
        found[:, -len(QUADRATIC) :] = QUADRATIC
    return found


def log_prior(box: Box, parameters: np.ndarray) -> np.ndarray:
    """Log density up to a constant, per row of parameters (rows x 8). That of quadratics too, whose
    last three are always the same."""
    centres, spreads = _prior(box)
    return -0.5 * (((parameters - centres) / spreads) ** 2).sum(axis=1)


def _prior(box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of all parameters."""
    low, high = np.array([box.x_low, box.y_low]), np.array([box.x_high, box.y_high])
    return np.append((low + high) / 2, CENTRES), np.append(PLACE * (high - low), SPREADS)


def peak(parameters: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Height of each peak at each point, rows of parameters x points; 0 at the top, else below."""
    a, b, gamma, width, height, skew, tail, power = parameters.T[:, :, None]
    v = y - b
    u = (x - a) - gamma * v
    across = u * np.exp(-width - np.where(u > 0, skew, -skew))
    distance = across * across + (v * np.exp(-height)) ** 2
    tail = np.exp(tail)
    with np.errstate(over="ignore"):
        far = np.exp(np.clip(np.exp(power) * np.log(distance + 1e-12), -30, 30))
    return -np.log1p(tail * far) / tail
