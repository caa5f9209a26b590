"""The fill of a contour: scores between measured cells, blank where nothing was measured nearby."""

import numpy as np
import pandas as pd
from scipy.interpolate import LinearNDInterpolator, RegularGridInterpolator
from scipy.spatial import KDTree, QhullError


def interpolated(table: pd.DataFrame, mesh_x: np.ndarray, mesh_y: np.ndarray) -> np.ndarray | None:
    """Linear interpolation between ok cells, y by x, blank where the nearest cell is not ok."""
    ok = table.loc[table.status == "ok"]
    if ok.x.nunique() < 2 or ok.y.nunique() < 2:
        return None
    grid = ok.pivot(index="y", columns="x", values="value")
    points = np.stack(np.meshgrid(mesh_x, mesh_y), axis=-1)
    x, y = grid.columns.to_numpy(dtype=float), grid.index.to_numpy(dtype=float)
    if len(ok) == len(table) and grid.notna().all(axis=None):  # no triangles needed: much faster
        return RegularGridInterpolator((y, x), grid.to_numpy())(points[..., ::-1])
    try:
        triangles = LinearNDInterpolator(ok[["x", "y"]].to_numpy(), ok.value.to_numpy())
    except QhullError:  # cells on one diagonal span no area
        return None
    if grid.notna().mean(axis=None) > 0.5:
        holes = np.argwhere(grid.isna().to_numpy())
        values = grid.to_numpy(copy=True)
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


def colour_range(values: np.ndarray, higher_is_better: bool) -> tuple[float, float]:
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
