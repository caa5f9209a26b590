"""The plain data of the two figures of a surface; `analysis.ink` draws them.

The contour is filled from the measured cells, not from the fit; the fit adds only its optimum.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.interpolate import LinearNDInterpolator, RegularGridInterpolator
from scipy.spatial import KDTree, QhullError

from analysis.surface import Fit, FitStatus
from analysis.tasks import task
from analysis.words import title

MESH = 121


@dataclass(frozen=True)
class ContourInfo:
    """A filled contour. `cells` is the surface's table with a `fit` column (predicted score).

    mesh_x and mesh_y are log2 units, mesh is LENGTH(y) x LENGTH(x) with NaN where nothing was
    measured nearby, None when cells lie on a line. vmin..vmax leaves out a cliff's depth.
    """

    heading: str
    score_label: str
    higher_is_better: bool
    cells: pd.DataFrame
    mesh_x: np.ndarray
    mesh_y: np.ndarray
    mesh: np.ndarray | None
    vmin: float
    vmax: float
    best: int | None
    optimum: tuple[float, float] | None
    log2_ratio_interval: tuple[float, float] | None
    log2_ratios: tuple[float, ...]


@dataclass(frozen=True)
class RatioInfo:
    """Score against ratio. `points` is the surface's table with `log2_ratio`; the curve is the
    ratio-only fit over the cells it was fitted to, None where there is no fit. vmin..vmax leaves
    out a cliff's depth."""

    heading: str
    score_label: str
    points: pd.DataFrame
    vmin: float
    vmax: float
    curve: pd.DataFrame | None
    r2: float | None
    chance: float | None
    before: float | None


def contour_info(fit: Fit) -> ContourInfo:
    """Everything the contour shows."""
    cells = fit.cells
    table = cells.table.copy()
    x, y = table.x.to_numpy(), table.y.to_numpy()
    table["fit"] = fit.quadratic.predict(x, y) if fit.quadratic else np.nan
    mesh_x, mesh_y = (np.linspace(axis.min(), axis.max(), MESH) for axis in (x, y))
    known = fit.status is FitStatus.IDENTIFIED and fit.optimum and fit.low is not None
    vmin, vmax = _colour_range(table.value[cells.ok].to_numpy(), cells.higher_is_better)
    return ContourInfo(
        heading=_heading(fit),
        score_label=score_label(fit),
        higher_is_better=cells.higher_is_better,
        cells=table,
        mesh_x=mesh_x,
        mesh_y=mesh_y,
        mesh=_interpolated(table, mesh_x, mesh_y),
        vmin=vmin,
        vmax=vmax,
        best=cells.best,
        optimum=fit.optimum[:2] if known and fit.optimum else None,
        log2_ratio_interval=(fit.low, fit.high) if known and fit.low and fit.high else None,
        log2_ratios=ratio_lines(x, y),
    )


def ratio_info(fit: Fit, before: float | None = None) -> RatioInfo:
    """Everything the ratio figure shows; `before` is the score of the model before training."""
    cells = fit.cells
    table = cells.table.assign(log2_ratio=cells.table.x - cells.table.y)
    curve = None
    if fit.rivals and fit.quadratic:
        used = table.log2_ratio[cells.ok][fit.quadratic.used]
        along = np.linspace(used.min(), used.max(), 101)
        score = cells.sign * fit.rivals.ratio.predict(along)
        curve = pd.DataFrame({"log2_ratio": along, "score": score})
    vmin, vmax = _colour_range(table.value[cells.ok].to_numpy(), cells.higher_is_better)
    return RatioInfo(
        heading=_heading(fit),
        score_label=score_label(fit),
        points=table,
        vmin=vmin,
        vmax=vmax,
        curve=curve,
        r2=fit.rivals.ratio.r2 if fit.rivals else None,
        chance=task(cells.benchmark).chance,
        before=before,
    )


def score_label(fit: Fit) -> str:
    """The metric with its direction, as on a colour bar."""
    better = "higher" if fit.cells.higher_is_better else "lower"
    return f"{fit.cells.metric.replace('_', ' ')} ({better} is better)"


def _heading(fit: Fit) -> str:
    return f"{task(fit.cells.benchmark).label}, {title(fit.cells.stage, fit.cells.arm)}"


def _interpolated(table: pd.DataFrame, mesh_x: np.ndarray, mesh_y: np.ndarray) -> np.ndarray | None:
    """Linear interpolation between ok cells, y by x, blank where the nearest cell is not ok."""
    ok = table.loc[table.status == "ok"]
    if ok.x.nunique() < 2 or ok.y.nunique() < 2:
        return None
    grid = ok.pivot(index="y", columns="x", values="value")
    points = np.stack(np.meshgrid(mesh_x, mesh_y), axis=-1)
    try:
        triangles = LinearNDInterpolator(ok[["x", "y"]].to_numpy(), ok.value.to_numpy())
    except QhullError:  # cells on one diagonal span no area
        return None
    if grid.notna().mean(axis=None) > 0.5:
        holes = np.argwhere(grid.isna().to_numpy())
        values = grid.to_numpy(copy=True)
        x, y = grid.columns.to_numpy(dtype=float), grid.index.to_numpy(dtype=float)
        for row, column in holes:  # only to carry neighbours' squares: the hole itself is blanked
            value = float(triangles(x[column], y[row]))
            near = KDTree(ok[["x", "y"]].to_numpy()).query((x[column], y[row]))[1]
            values[row, column] = value if np.isfinite(value) else ok.value.to_numpy()[near]
        smooth = RegularGridInterpolator((y, x), values, bounds_error=False)
        mesh = smooth(points[..., ::-1])
    else:
        mesh = triangles(points)
    # a corner nobody measured stays blank too; the hull's own border is met to rounding only
    inside = points + 1e-6 * (ok[["x", "y"]].mean().to_numpy() - points)
    measured = np.isfinite(triangles(inside)) & _near_ok(table, points)
    return np.where(measured, mesh, np.nan)


def _near_ok(table: pd.DataFrame, points: np.ndarray) -> np.ndarray:
    """Whether the cell nearest to each point is ok, one grid step of either axis being as far."""
    step = np.array([_step(table.x), _step(table.y)])
    nearest = KDTree(table[["x", "y"]].to_numpy() / step).query(points / step)[1]
    return (table.status.to_numpy() == "ok")[nearest]


def _step(axis: pd.Series) -> float:
    steps = np.diff(np.unique(axis))
    return float(np.median(steps)) if len(steps) else 1.0


def _colour_range(values: np.ndarray, higher_is_better: bool) -> tuple[float, float]:
    """The scores' range, cut on the bad side where a few cells fall off a cliff."""
    if not len(values):
        return 0.0, 1.0
    score = values if higher_is_better else -values
    best, upper, worst = score.max(), np.quantile(score, 0.3), score.min()
    if best - worst > 4 * (best - upper) > 0:
        worst = best - 1.5 * (best - upper)
    low, high = (worst, best) if higher_is_better else (-best, -worst)
    if high - low < 1e-12:
        low, high = low - 0.01, high + 0.01
    return float(low), float(high)


def ratio_lines(x: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    """Whole powers of two between the corners' ratios, at most seven."""
    low, high = x.min() - y.max(), x.max() - y.min()
    step = max(1, int(np.ceil((high - low) / 7)))
    first = int(np.ceil(low / step)) * step
    return tuple(float(value) for value in np.arange(first, high + 1e-9, step))
