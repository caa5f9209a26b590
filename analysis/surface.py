"""What one surface says: its optimum, or a direction, or that it is too level or small to tell.

A fit sees only the best cells, and where that cut is drawn is a choice: the draws behind every
interval repeat the fit at the neighbouring cuts, with the cells' joint noise and with the scatter
the quadratic leaves beyond that noise (model error, and seed noise where unmeasured).
"""

import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from analysis.cells import Cells
from analysis.flatness import flatness
from analysis.quadratic import (
    CUTS,
    MIN_CELLS,
    Box,
    Quadratic,
    choose_cut,
    design,
    fit_quadratic,
    tops,
)
from analysis.rivals import Rivals, compare

ALPHA = 0.05
WIDEST = 0.5  # of the grid's span of ratios: a wider interval places nothing
REACH = 0.5  # of the model error's correlation, in half-widths of the box
BORDERS = ("lower learning rates", "higher learning rates", "smaller batches", "larger batches")
CLIFF = "where cells diverge"


class FitStatus(StrEnum):
    """What the fit can say: an optimum, a direction, that it is too level, or too small to tell."""

    IDENTIFIED = "identified"
    EDGE = "edge"
    FLAT = "flat"
    TOO_FEW = "too_few"


class Optimum(NamedTuple):
    """Best point of a fit; all in log2; `log2_ratio` is x - y."""

    log2_learning_rate: float
    log2_batch_size: float
    log2_ratio: float


@dataclass(frozen=True)
class Fit:
    """One surface's fit. `draws` are log2 (learning rate, batch size) of the optimum, draws x 2.

    low and high bound log2 ratio at 95 %. `best_learning_rate` is per batch size, over the cells
    that train. `flat_p` is the chance of cells this unlike each other on a constant surface.
    """

    cells: Cells
    status: FitStatus
    reason: str
    edges: tuple[str, ...] = ()
    flat_p: float | None = None
    flat_test: str = ""
    quadratic: Quadratic | None = None
    optimum: Optimum | None = None
    low: float | None = None
    high: float | None = None
    draws: np.ndarray | None = None
    best_learning_rate: dict[int, float] | None = None
    rivals: Rivals | None = None

    @property
    def ratio_draws(self) -> np.ndarray | None:
        """Draws of log2 ratio at the optimum."""
        return None if self.draws is None else self.draws[:, 0] - self.draws[:, 1]


def fit(cells: Cells) -> Fit:
    """The local quadratic of one surface and its status; never raises on thin data."""
    ok = cells.table.loc[cells.ok]
    rates, sizes = ok.learning_rate.nunique(), ok.batch_size.nunique()
    if rates < 3 or sizes < 3 or len(ok) < MIN_CELLS:
        return Fit(
            cells,
            FitStatus.TOO_FEW,
            f"{len(ok)} scored cells over {rates} learning rates and {sizes} batch sizes; the fit "
            f"needs {MIN_CELLS} over at least 3 of each",
        )
    flat_p, flat_test = flatness(cells)
    cut = choose_cut(cells)
    quadratic = fit_quadratic(cells, CUTS[cut])
    top = tops(quadratic.coefficients[None, :], quadratic.box)[0]
    rng = np.random.default_rng(zlib.crc32(f"{cells.stage}/{cells.arm}/{cells.benchmark}".encode()))
    draws = _draws(cells, cut, rng)
    ratios = draws[:, 0] - draws[:, 1]
    low, high = np.quantile(ratios, [0.025, 0.975])
    rivals = compare(
        ok.x.to_numpy()[quadratic.used],
        ok.y.to_numpy()[quadratic.used],
        cells.sign * ok.value.to_numpy()[quadratic.used],
        quadratic.weights,
    )
    ridge = rivals.ratio_decides and rivals.ratio_low < low and high < rivals.ratio_high
    if flat_p > ALPHA:
        status, edges = FitStatus.FLAT, ()
        reason = f"cells do not differ beyond noise ({flat_test}: p = {flat_p:.2g})"
    else:
        status, reason, edges = _status(cells, quadratic.box, top, draws, ridge)
    return Fit(
        cells=cells,
        status=status,
        reason=reason,
        edges=edges,
        flat_p=flat_p,
        flat_test=flat_test,
        quadratic=quadratic,
        optimum=Optimum(float(top[0]), float(top[1]), float(top[0] - top[1])),
        low=float(min(low, top[0] - top[1])),
        high=float(max(high, top[0] - top[1])),
        draws=draws,
        best_learning_rate=_best_learning_rate(cells, quadratic),
        rivals=rivals,
    )


def _draws(cells: Cells, cut: int, rng: np.random.Generator) -> np.ndarray:
    own = cells.own_noise
    parts = []
    cuts = CUTS[max(0, cut - 1) : cut + 3]
    for part, share in enumerate(cuts):
        quadratic = fit_quadratic(cells, share)
        noise = own[part :: len(cuts), quadratic.used]
        # few residuals know their own variance badly: Student's t, not a normal
        freedom = max(quadratic.freedom, 3)
        tails = np.sqrt(freedom / rng.chisquare(freedom, size=(len(noise), 1)))
        error = tails * rng.standard_normal(noise.shape) @ _model_error(cells, quadratic)
        moved = quadratic.coefficients + (noise + error) @ quadratic.operator.T
        parts.append(tops(moved, quadratic.box))
    return np.concatenate(parts)


def _model_error(cells: Cells, quadratic: Quadratic) -> np.ndarray:
    """Square root R of the model error's covariance over the used cells (draws are z @ R).

    A misfit is smooth: neighbouring cells err alike, and such errors move an optimum more than
    independent ones of the same size. Matern 3/2, `REACH` in half-widths of the box.
    """
    table = cells.table.loc[cells.ok].loc[quadratic.used]
    points = design(quadratic.box, table.x.to_numpy(), table.y.to_numpy())[:, 1:3]
    scaled = np.sqrt(3) / REACH * cdist(points, points)
    values, vectors = np.linalg.eigh((1 + scaled) * np.exp(-scaled))
    root = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    return quadratic.model_error * root


def _status(
    cells: Cells, box: Box, top: np.ndarray, draws: np.ndarray, ridge: bool
) -> tuple[FitStatus, str, tuple[str, ...]]:
    """Status, reason and borders; on a ridge along equal ratios no border matters to the ratio."""
    shares = _border_shares(cells, box, draws)
    here = _border_shares(cells, box, top[None, :])
    edges = tuple(side for side, share in shares.items() if share > 0.5)
    width = float(np.subtract(*np.quantile(draws[:, 0] - draws[:, 1], [0.975, 0.025])))
    loose = width > WIDEST * box.ratio_span
    if not edges and loose and sum(shares.values()) > 0.5:
        edges = tuple(side for side, share in shares.items() if share > 0.2 and here[side])
    if ridge and not loose:
        reason = "a ridge of equal ratios: the ratio alone describes the cells near the top"
        return FitStatus.IDENTIFIED, reason, ()
    if edges:
        return FitStatus.EDGE, f"the best scores lie on the border towards {_all(edges)}", edges
    if loose:
        reason = (
            f"the top is too level: 95 % of the optima spread over {width:.1f} octaves of ratio"
        )
        return FitStatus.FLAT, reason, ()
    return FitStatus.IDENTIFIED, "the optimum lies inside the grid", ()


def _border_shares(cells: Cells, box: Box, points: np.ndarray) -> dict[str, float]:
    """Share of optima on each border of the box, and of those nearest to a diverged cell."""
    x, y = points[:, 0], points[:, 1]
    near = 1e-9  # scaled back from the unit square, a border is met to rounding only
    on = (
        x <= box.x_low + near,
        x >= box.x_high - near,
        y <= box.y_low + near,
        y >= box.y_high - near,
    )
    shares = {side: float(where.mean()) for side, where in zip(BORDERS, on, strict=True)}
    nearest = KDTree(cells.table[["x", "y"]].to_numpy()).query(points)[1]
    shares[CLIFF] = float((cells.table.status.to_numpy()[nearest] == "diverged").mean())
    return shares


def _all(names: tuple[str, ...]) -> str:
    return " and ".join(names)


def _best_learning_rate(cells: Cells, quadratic: Quadratic) -> dict[int, float]:
    """Per batch size, the learning rate where the fit is highest among those that train there."""
    best = {}
    for size, rows in cells.table.loc[cells.ok].groupby("batch_size"):
        x = np.linspace(rows.x.min(), rows.x.max(), 401)
        score = quadratic.sign * quadratic.predict(x, np.full_like(x, rows.y.iloc[0]))
        best[int(size)] = float(2 ** x[score.argmax()])  # type: ignore[call-overload]
    return best
