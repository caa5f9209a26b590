"""What others use or predict, as points and lines over (log2 learning rate, log2 batch size).

A rule says how the learning rate follows the batch size, not where it starts: each line is drawn
through the surface's own optimum (or its best cell, where no optimum is identified).
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.posterior.peak import Box
from analysis.tables import published
from analysis.text import number, rate

STEPS = 61
LINEAR_NAME = "linear rule (this ratio)"
SQUARE_ROOT = "Malladi et al. 2022, arXiv 2205.10287: Adam, LR grows as the root of BS"
LINEAR = "Goyal et al. 2017, arXiv 1706.02677: SGD, LR grows as BS; a constant ratio"
SURGE = "Li et al. 2024, arXiv 2405.14578: Adam, LR = 2 LR_max / (sqrt(B/BS) + sqrt(BS/B))"
CRITICAL = "McCandlish et al. 2018, arXiv 1812.06162: B = tr(Sigma) / |G|^2"


class Point(NamedTuple):
    """A published setting. x and y are log2 and lie in the box; one that lies outside is moved to
    the nearest border, and `inside` is false."""

    name: str
    learning_rate: float
    batch_size: int
    x: float
    y: float
    inside: bool
    note: str


class Line(NamedTuple):
    """A rule as a curve in log2 units; `note` has its formula and source."""

    name: str
    x: np.ndarray
    y: np.ndarray
    note: str


class NoiseScale(NamedTuple):
    """Gradient noise scale in examples: median over trials, and their quartiles."""

    value: float
    low: float
    high: float
    trials: int


def noise_scale(rows: pd.DataFrame) -> NoiseScale | None:
    """Over the trials in `rows` (as `results.read` gives them); None where none measured it."""
    trials = rows.loc[rows.status == "ok"].drop_duplicates("key").noise_scale.dropna()
    trials = trials[trials > 0]
    if trials.empty:
        return None
    low, middle, high = np.quantile(trials, [0.25, 0.5, 0.75])
    return NoiseScale(float(middle), float(low), float(high), len(trials))


def points(stage: str, box: Box) -> list[Point]:
    """The published recipes of a stage of this name."""
    points = []
    for setting in published.of_stage(stage):
        x, y = float(np.log2(setting.learning_rate)), float(np.log2(setting.batch_size))
        near = (
            min(max(x, box.x_low), box.x_high),
            min(max(y, box.y_low), box.y_high),
        )
        note = "; ".join(part for part in (setting.model, setting.table, setting.note) if part)
        inside = near == (x, y)
        if not inside:
            where = f"{rate(setting.learning_rate)} with batch size {setting.batch_size}"
            note = f"outside this grid, at {where}; {note}"
        points.append(
            Point(setting.name, setting.learning_rate, setting.batch_size, *near, inside, note)
        )
    return points


def lines(
    anchor: tuple[float, float], box: Box, noise: NoiseScale | None, adam: bool = True
) -> list[Line]:
    """The square-root and linear rules through `anchor` (log2), and with a measured noise scale
    the Surge curve through it and the critical batch size; parts outside the box are cut off.
    The square root and the Surge curve are of Adam, and of no other optimizer."""
    x, y = anchor
    size = np.linspace(box.y_low, box.y_high, STEPS)
    rules = [Line("square-root rule", x + (size - y) / 2, size, SQUARE_ROOT)] if adam else []
    rules.append(Line(LINEAR_NAME, x + (size - y), size, LINEAR))
    if noise is not None:
        critical = np.log2(noise.value)
        measured = (
            f"measured: {number(noise.value)} examples, quartiles {number(noise.low)} to "
            f"{number(noise.high)} over {noise.trials} trials"
        )
        curve = surge(size, critical) - surge(np.array([y]), critical)[0]
        if adam:
            rules.append(Line("Surge curve", x + curve, size, f"{SURGE}; B {measured}"))
        if box.y_low <= critical <= box.y_high:
            ends = np.array([box.x_low, box.x_high])
            flat = np.full(2, critical)
            rules.append(Line("critical batch size", ends, flat, f"{CRITICAL}; {measured}"))
    return [cut for line in rules if len((cut := _inside(line, box)).x) > 1]


def surge(log2_batch_size: np.ndarray, log2_noise_scale: float) -> np.ndarray:
    """log2 of LR / LR_max in Li et al. 2024: 1 at a batch of the noise scale, falling both ways."""
    half = (log2_batch_size - log2_noise_scale) / 2
    return 1 - np.log2(2.0**half + 2.0**-half)


def _inside(line: Line, box: Box) -> Line:
    inside = (line.x >= box.x_low - 1e-9) & (line.x <= box.x_high + 1e-9)
    return line._replace(x=line.x[inside], y=line.y[inside])
