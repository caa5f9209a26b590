"""What a grid can see before it runs: the width of LR*(B), and the smallest difference of types.

A surface is taken to be

    s(x, y) = a - R (1 - exp(-c (x - x0 - gamma (y - y0))^2 / R)) + b y + h y^2

with x, y in octaves, its top in the middle of the grid, gamma = 1/2, and R the points that it can
lose. c makes it lose half of R at `HALF_AT` octaves from the top. The Fisher information of the
cells about (a, x0, gamma, c, b, h), with independent noise, bounds the error of LR*(B) =
x0 + gamma (y - y0); the report's intervals are wider, since the shape is not known to it, by
`ALLOWANCE`. Checked against simulated grids by tests/bench/bench_power.py.
"""

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

NORMAL = NormalDist()

HALF_AT = 3.0
"""Octaves from the best learning rate at which half of what can be lost is lost: between Step Law's
dense grids and the quickstart, where it is 2 to 4."""

LOST = 1 / 3
"""Of what lies between a good cell and guessing, the share that the learning rates of a grid can
lose short of divergence: 4 points of ARC, 5 of HellaSwag at 135M."""

SLOPE = 0.5
ALLOWANCE = 1.6
"""Width of the report's intervals beside the bound, the median over simulated grids."""

CONTRAST_ALLOWANCE = 2.1
"""The same of the error of a contrast: by it the stated power is the realised one on average."""

SEED_NOISE = 0.008
"""Standard deviation between seeds of an accuracy: 0.6 to 1.0 points at 135M."""

OWN_ITEMS = 0.3
"""Share of the items' variance that cells do not have in common, since they answer the same."""

LEVEL, POWER = 0.05, 0.8
WIDEST = 0.6
"""Of the rates' span: a benchmark can answer whose interval is expected to be no wider. The report
allows .8 (`analysis.fit.rates.WIDEST`), and every other interval is wider than is expected."""

USUAL = {
    "arc": 0.373, "hellaswag": 0.409, "piqa": 0.663, "gsm8k": 0.014, "ifeval": 0.299, "bbh": 0.282,
    "mmlu_pro": 0.12, "world_choice": 0.70, "world_arithmetic": 0.35, "world_continuation": 0.65,
    "world_instruction": 0.55,
}  # fmt: skip
"""Accuracy of a good model of the size that these grids train: SmolLM2-135M-Instruct (its model
card), and of the miniature ones the quickstart's best cells."""


class Layout(NamedTuple):
    """Settings of a grid in log2 units, and the seeds of each, on average."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    seeds: float

    @property
    def span(self) -> float:
        return max(self.x) - min(self.x)


class Expected(NamedTuple):
    """Of one benchmark: `width` of the 95 % interval of LR*(B), median over B, in octaves;
    `error` of its mean over B; whether the grid can answer, and if not, why."""

    benchmark: str
    width: float
    error: float
    answers: bool
    why: str


def expected(layout: Layout, benchmark: str, level: float, chance: float, items: int) -> Expected:
    """`level` and `chance` are accuracies of a good cell and of guessing."""
    lost = LOST * max(level - chance, 0.0)
    variance = SEED_NOISE**2 / layout.seeds + OWN_ITEMS * level * (1 - level) / items
    if level < chance + 2 * np.sqrt(level * (1 - level) / items):
        return Expected(benchmark, layout.span, np.inf, False, f"{level:.1%} is chance")
    widths, error = bounds(layout, lost, float(np.sqrt(variance)))
    width = min(ALLOWANCE * 2 * NORMAL.inv_cdf(0.975) * widths, layout.span)
    can = width < WIDEST * layout.span
    why = "" if can else f"rates move it by {lost:.1%}, noise is {np.sqrt(variance):.1%}"
    return Expected(benchmark, float(width), CONTRAST_ALLOWANCE * error, bool(can), why)


def bounds(layout: Layout, lost: float, noise: float) -> tuple[float, float]:
    """Standard errors of LR*(B), median over B, and of its mean over B, for a known shape."""
    x, y = np.array(layout.x), np.array(layout.y)
    y = y - y.mean()
    u = x - x.mean() - SLOPE * y
    curvature = lost * np.log(2) / HALF_AT**2
    damped = np.exp(-curvature * u**2 / lost)
    slope = 2 * curvature * u * damped
    derivatives = np.column_stack([np.ones_like(u), slope, slope * y, -(u**2) * damped, y, y**2])
    kept = [k for k in range(6) if np.ptp(derivatives[:, k]) > 0 or k == 0]
    information = derivatives[:, kept].T @ derivatives[:, kept] / noise**2
    covariance = np.linalg.pinv(information)
    sizes = np.unique(y)
    read = np.zeros((len(sizes), 6))
    read[:, 1], read[:, 2] = 1, sizes
    read = read[:, kept]
    variances = np.einsum("ij,jk,ik->i", read, covariance, read)
    mean = read.mean(axis=0)
    return float(np.sqrt(np.median(variances))), float(np.sqrt(mean @ covariance @ mean))


def visible(reasoning: Sequence[Expected], pattern: Sequence[Expected]) -> float | None:
    """Smallest difference of the types, in octaves, told from none with a chance of `POWER`; None
    where no benchmark of a type can answer."""
    error = contrast_error(reasoning, pattern)
    return (
        None
        if error is None
        else float((NORMAL.inv_cdf(1 - LEVEL / 2) + NORMAL.inv_cdf(POWER)) * error)
    )


def contrast_error(reasoning: Sequence[Expected], pattern: Sequence[Expected]) -> float | None:
    groups = [
        [contrast.error for contrast in group if contrast.answers] for group in (reasoning, pattern)
    ]
    if not all(groups):
        return None
    return float(np.sqrt(sum(sum(e**2 for e in group) / len(group) ** 2 for group in groups)))
