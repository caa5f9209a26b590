"""What one surface says: its optimum, or a direction, or that it is too level or small to tell.

The optimum comes from joint draws of the whole surface (`analysis.posterior.condition`), a mixture
of peaks of any shape and place, also outside the grid, with a Gaussian process for what no peak
follows.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.fit.curves import Curves
from analysis.fit.flatness import ALPHA, UNREPEATED, flatness
from analysis.fit.model_comparison import Rivals, compare
from analysis.fit.optimum import (
    LEVELS,
    ChosenCell,
    Mesh,
    best_points,
    choose_cell,
    epsilon_set,
    mesh,
)
from analysis.fit.quadratic import CUTS, MIN_CELLS, Quadratic, choose_cut, fit_quadratic
from analysis.posterior.cells import Cells
from analysis.posterior.condition import Posterior, condition
from analysis.text import counted

INSIDE = 0.6
"""Share of draws whose top must lie inside the grid (see `_sides`)."""

WIDEST = 0.4
"""Of the grid's span of ratios: a wider interval places nothing."""

ORDERED_CELLS = 5
"""Fewest cells that can be told from noise by their order, at least 3 along one axis: the best
ordered 4 are so by chance in one of six."""

BORDERS = ("lower learning rates", "higher learning rates", "smaller batches", "larger batches")


class FitStatus(StrEnum):
    """What the fit can say: an optimum, a direction, that it is too level, or too small to tell."""

    IDENTIFIED = "identified"
    EDGE = "edge"
    FLAT = "flat"
    TOO_FEW = "too_few"


class Optimum(NamedTuple):
    """Mean of the draws' best points; all in log2; `log2_ratio` is x - y."""

    log2_learning_rate: float
    log2_batch_size: float
    log2_ratio: float


@dataclass(frozen=True)
class Fit:
    """One surface's fit.

    `draws` are log2 (learning rate, batch size) of each draw's best point in the grid, draws x 2,
    model error included; low and high bound log2 ratio at 95 %. An optimum that is identified is
    one inside the grid: its draws are those given that it lies there, without which the border
    would widen the interval of every optimum. `inside` is the share of draws whose top lies inside
    (mean over the peak's place and the best point of the grid).
    `flat_p` is the chance of cells this unlike each other on a constant surface, None where they
    are too few to tell and no seeds were repeated; `beyond_items`: see `Flatness`. What needs more
    work than the status (`rivals`, `epsilon_set`, `best_cell`) is computed when asked for and is
    None where there are too few cells.
    """

    cells: Cells
    status: FitStatus
    reason: str
    flat_p: float | None = None
    flat_test: str = ""
    beyond_items: bool = False
    posterior: Posterior | None = None
    optimum: Optimum | None = None
    low: float | None = None
    high: float | None = None
    draws: np.ndarray | None = None
    inside: float | None = None

    def predict(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and standard deviation of the score, in the metric's own units, at log2
        learning rate x and log2 batch size y (arrays of one shape).

        Raises:
            ValueError: the surface has too few cells for a fit.
        """
        if self.posterior is None:
            raise ValueError(f"{self.cells.benchmark}: no fit, {self.reason}")
        x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
        scores = self.posterior.scores(x.ravel(), y.ravel())
        mean = self.cells.sign * scores.mean(axis=0)
        return mean.reshape(x.shape), scores.std(axis=0).reshape(x.shape)

    @property
    def shaped(self) -> bool:
        """Whether the cells are known to differ beyond noise: without that nothing is placed."""
        return self.flat_p is not None and self.flat_p <= ALPHA

    @cached_property
    def curves(self) -> Curves | None:
        """Draws along the learning rate at each batch size, also of grids too small for a
        two-dimensional optimum; None with fewer than two cells."""
        if self.cells.ok.sum() < 2:
            return None
        posterior = self.posterior or condition(self.cells)
        return Curves(self.cells, posterior)

    @cached_property
    def mesh(self) -> Mesh | None:
        """The draws' scores over the grid's box, where it trains."""
        return None if self.posterior is None else mesh(self.cells, self.posterior)

    @cached_property
    def epsilon_set(self) -> pd.DataFrame | None:
        """Cells within epsilon of the best: see `optimum.epsilon_set`."""
        if self.posterior is None or self.mesh is None:
            return None
        return epsilon_set(self.cells, self.posterior, self.mesh)

    @cached_property
    def best_cell(self) -> ChosenCell | None:
        """The cell of least expected regret, its winner's curse corrected."""
        if self.posterior is None or self.mesh is None:
            return None
        return choose_cell(self.cells, self.posterior, self.mesh)

    @cached_property
    def luck(self) -> float | None:
        """By how much the best cell measured better than all cells together let expect: the best of
        many noisy ones looks better than it is. None with fewer than two cells."""
        if self.curves is None or self.cells.best is None:
            return None
        cell = self.cells.table.iloc[self.cells.best]
        here = self.curves.posterior.scores(np.array([cell.x]), np.array([cell.y]))
        return float(self.cells.sign * cell.value - here.mean())

    @cached_property
    def quadratic(self) -> Quadratic | None:
        """The local quadratic over the best cells, the plainest rival of the fit."""
        if self.posterior is None:
            return None
        return fit_quadratic(self.cells, CUTS[choose_cut(self.cells)])

    @cached_property
    def rivals(self) -> Rivals | None:
        """Fits over one coordinate against the full surface, on the quadratic's cells."""
        if self.quadratic is None:
            return None
        ok = self.cells.table.loc[self.cells.ok].loc[self.quadratic.used]
        score = self.cells.sign * ok.value.to_numpy()
        noise = self.cells.own_noise[:, self.quadratic.used].var(axis=0).mean()
        return compare(
            ok.x.to_numpy(),
            ok.y.to_numpy(),
            score,
            self.quadratic.weights,
            float(noise) if self.cells.seeds_known else None,
        )


def fit(cells: Cells, sampler: int = 0) -> Fit:
    """One surface's fit and its status; never raises on thin data. `sampler`: see `condition`."""
    ok = cells.table.loc[cells.ok]
    rates, sizes = ok.learning_rate.nunique(), ok.batch_size.nunique()
    if rates < 3 or sizes < 3 or len(ok) < MIN_CELLS:
        enough = len(ok) >= ORDERED_CELLS and max(rates, sizes) >= 3
        enough |= len(ok) >= 2 and cells.seeds_known
        flat = flatness(cells) if enough else None
        return Fit(
            cells,
            FitStatus.TOO_FEW,
            flat_p=flat.p if flat else None,
            flat_test=flat.test if flat else "",
            beyond_items=bool(flat and flat.beyond_items),
            reason=f"{counted(len(ok), 'scored cell')} over {counted(rates, 'learning rate')} and "
            f"{counted(sizes, 'batch size')}; the fit needs {MIN_CELLS} over at least 3 of each",
        )
    flat = flatness(cells)
    posterior = condition(cells, sampler)
    where = mesh(cells, posterior)
    draws = best_points(cells, where)
    sides = _sides(posterior, where)
    inside = float(1 - sides.any(axis=1).mean())
    if flat.p > ALPHA:
        status = FitStatus.FLAT
        what = UNREPEATED if flat.beyond_items else "cells do not differ beyond noise"
        reason = f"{what} ({flat.test}: p = {flat.p:.2g})"
    else:
        status, reason = _status(sides, float(where.walled.mean()))
    if status is FitStatus.IDENTIFIED:
        draws = _only(draws, np.flatnonzero(~sides.any(axis=(0, 1))))
    x, y = draws.mean(axis=0)
    low, high = np.quantile(draws[:, 0] - draws[:, 1], LEVELS)
    if status is FitStatus.IDENTIFIED and high - low > WIDEST * posterior.box.ratio_span:
        status = FitStatus.FLAT
        spread = f"95 % of the optima spread over {high - low:.1f} octaves of ratio"
        reason = f"the top is too level: {spread}"
    result = Fit(
        cells=cells,
        status=status,
        reason=reason,
        flat_p=flat.p,
        flat_test=flat.test,
        beyond_items=flat.beyond_items,
        posterior=posterior,
        optimum=Optimum(float(x), float(y), float(x - y)),
        low=float(low),
        high=float(high),
        draws=draws,
        inside=inside,
    )
    result.__dict__["mesh"] = where
    if status in (FitStatus.IDENTIFIED, FitStatus.EDGE) and _ridge(result):
        ridge = "a ridge of equal ratios: the ratio alone describes the cells near the top"
        ridged = replace(result, status=FitStatus.IDENTIFIED, reason=ridge)
        ridged.__dict__["mesh"] = where
        return ridged
    return result


def _ridge(result: Fit) -> bool:
    """Only the ratio counts, and its best value lies inside the ratios of the cells near the top:
    where along the ridge the top lies, or beyond which border, does not matter to the ratio."""
    rivals, low, high = result.rivals, result.low, result.high
    if rivals is None or low is None or high is None or result.posterior is None:
        return False
    inside = rivals.ratio_low < low and high < rivals.ratio_high
    narrow = high - low <= WIDEST / 2 * result.posterior.box.ratio_span
    return rivals.ratio_decides and inside and narrow


def _sides(posterior: Posterior, where: Mesh) -> np.ndarray:
    """Whether each draw's peak lies beyond each of `BORDERS`, and whether the draw's best point in
    the grid lies on it: 2 x 4 x draws. The first knows what lies outside, but not where the process
    moves the top; the second the reverse. Where a draw still rises up to rates that diverge, what
    lies beyond them does not matter: its best point stands for both."""
    box = posterior.box
    x, y = posterior.surfaces.tops.T
    top = where.height.argmax(axis=1)
    beyond = np.stack([x < box.x_low, x > box.x_high, y < box.y_low, y > box.y_high])
    x, y, walled = where.x[top], where.y[top], where.walled
    above = (x >= box.x_high) & ~walled
    on = np.stack([x <= box.x_low, above, y <= box.y_low, y >= box.y_high])
    return np.stack([np.where(walled, on, beyond), on])


def _only(draws: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """As many draws, from these rows alone, repeated as evenly as can be."""
    return draws[rows[np.arange(len(draws)) * len(rows) // len(draws)]]


def _status(sides: np.ndarray, walled: float) -> tuple[FitStatus, str]:
    """Status and reason, which names the borders beyond which the peak may lie."""
    inside = 1 - sides.any(axis=1).mean()
    if inside < INSIDE:
        shares = sides.mean(axis=(0, 2))
        told = shares >= min(0.3, shares.max())
        borders = [side for side, here in zip(BORDERS, told, strict=True) if here]
        lie = "lie" if inside < 1 - INSIDE else "may lie"
        reason = f"the best scores {lie} on the border towards {' and '.join(borders)}"
        return FitStatus.EDGE, reason
    if walled > 0.5:
        return FitStatus.IDENTIFIED, "the optimum lies next to rates that diverge"
    return FitStatus.IDENTIFIED, "the optimum lies inside the grid"
