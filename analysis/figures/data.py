"""The plain data of the two figures of a surface; `analysis.figures.style` and explorer.js draw
them.

The contour is filled from the measured cells, not from the fit; the fit adds its optimum, the 95 %
region of the optimum and the best learning rate of each batch size.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.benchmarks import task
from analysis.figures import scaling_rules
from analysis.figures.density_region import holds, region
from analysis.figures.interpolate import colour_range, interpolated
from analysis.figures.scaling_rules import Line, NoiseScale, Point
from analysis.fit.peak import Box, box_of
from analysis.fit.surface import Fit, FitStatus
from analysis.text import number, rate, title

MESH = 121
TICKS = 10
LINEAR_NAME = scaling_rules.LINEAR_NAME


class Axis(NamedTuple):
    """Ticks of an axis at the cells' own places (log2), their labels, its name and limits."""

    places: list[float]
    labels: list[str]
    name: str
    limits: tuple[float, float]


@dataclass(frozen=True)
class ContourInfo:
    """A filled contour. `cells` is the surface's table with the fit's mean and standard deviation
    (fit, fit_sd), and the probability of being within epsilon of the best (probability, possible).

    mesh_x and mesh_y are log2 units, mesh is LENGTH(y) x LENGTH(x) with NaN where nothing was
    measured nearby, None when cells lie on a line. vmin..vmax leaves out a cliff's depth. `region`
    holds 95 % of the optimum's draws, `path` is `optimum.Path.table`; without an identified optimum
    the one is empty, the other None. `apart` says why the best measured cell lies outside the
    region, "" where it does not. `points` and `lines` are references.
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
    region: list[np.ndarray]
    apart: str
    path: pd.DataFrame | None
    points: list[Point]
    lines: list[Line]
    x_axis: Axis
    y_axis: Axis


@dataclass(frozen=True)
class RatioInfo:
    """Score against ratio. `points` is the surface's table with `log2_ratio` and `residual`, the
    score minus the ratio-only fit for the cells it was fitted to; the curve is that fit, None where
    there is none. vmin..vmax leaves out a cliff's depth."""

    heading: str
    score_label: str
    points: pd.DataFrame
    vmin: float
    vmax: float
    curve: pd.DataFrame | None
    r2: float | None
    chance: float | None
    before: float | None


def contour_info(fit: Fit, noise: NoiseScale | None = None) -> ContourInfo:
    """Everything the contour shows; `noise` is the measured gradient noise scale."""
    cells = fit.cells
    table = cells.table.assign(fit=np.nan, fit_sd=np.nan, probability=np.nan, possible=False)
    x, y = table.x.to_numpy(), table.y.to_numpy()
    if fit.posterior is not None:
        table["fit"], table["fit_sd"] = fit.predict(x, y)
    if fit.epsilon_set is not None:
        for name in ("probability", "possible"):
            table.loc[cells.ok, name] = fit.epsilon_set[name].to_numpy()
    mesh_x, mesh_y = (np.linspace(axis.min(), axis.max(), MESH) for axis in (x, y))
    vmin, vmax = colour_range(table.value[cells.ok].to_numpy(), cells.higher_is_better)
    box = box_of(x, y)
    x_axis = axis_of(table.x, table.learning_rate, "learning rate")
    y_axis = axis_of(table.y, table.batch_size, "batch size (examples per step)")
    best = cells.best
    anchor = None if best is None else (float(x[best]), float(y[best]))
    optimum = interval = path = None
    if fit.status is FitStatus.IDENTIFIED and fit.optimum is not None and fit.low is not None:
        anchor = optimum = fit.optimum[:2]
        interval = (fit.low, fit.high or fit.low)
        path = fit.path.table if fit.path else None
    likely = region(fit.draws, box) if optimum and fit.draws is not None else []
    return ContourInfo(
        heading=_heading(fit),
        score_label=score_label(fit),
        higher_is_better=cells.higher_is_better,
        cells=table,
        mesh_x=mesh_x,
        mesh_y=mesh_y,
        mesh=interpolated(table, mesh_x, mesh_y),
        vmin=vmin,
        vmax=vmax,
        best=best,
        optimum=optimum,
        log2_ratio_interval=interval,
        log2_ratios=ratio_lines(x, y),
        region=likely,
        apart=_apart(table.iloc[best], likely, box) if likely and best is not None else "",
        path=path,
        points=scaling_rules.points(cells.stage, Box(*x_axis.limits, *y_axis.limits)),
        lines=scaling_rules.lines(anchor, box, noise) if anchor else [],
        x_axis=x_axis,
        y_axis=y_axis,
    )


def _apart(best: pd.Series, likely: list[np.ndarray], box: Box) -> str:
    """A star outside the region that it should be in needs a word."""
    if holds(likely, (float(best.x), float(best.y)), box):
        return ""
    cell = f"{rate(best.learning_rate)} x {best.batch_size}"
    start = f"The best measured cell ({cell}) lies outside the 95 % region of the optimum"
    if best.possible:
        return f"{start}, which lies between cells; it is as good as the best within the noise."
    scores = f"{number(best.value, 3)} was measured there, {number(best.fit, 3)} is expected"
    return f"{start}: {scores} from all cells together, so that its score is most likely luck."


def ratio_info(fit: Fit, before: float | None = None) -> RatioInfo:
    """Everything the ratio figure shows; `before` is the score of the model before training."""
    cells = fit.cells
    table = cells.table.assign(log2_ratio=cells.table.x - cells.table.y, residual=np.nan)
    curve = None
    if fit.rivals and fit.quadratic:
        used = table.index[cells.ok][fit.quadratic.used]
        ratios = table.log2_ratio[used].to_numpy()
        fitted = cells.sign * fit.rivals.ratio.predict(ratios)
        table.loc[used, "residual"] = table.value[used] - fitted
        along = np.linspace(ratios.min(), ratios.max(), 101)
        score = cells.sign * fit.rivals.ratio.predict(along)
        curve = pd.DataFrame({"log2_ratio": along, "score": score})
    vmin, vmax = colour_range(table.value[cells.ok].to_numpy(), cells.higher_is_better)
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


def axis_of(places: pd.Series, values: pd.Series, name: str) -> Axis:
    """Ticks at `places` (log2), labelled by `values`, at most about ten of them."""
    pairs = sorted({*zip(places, values, strict=True)})
    pairs = pairs[:: int(np.ceil(len(pairs) / TICKS))]
    pad = 0.06 * max(float(places.max() - places.min()), 1.0)
    return Axis(
        [float(place) for place, _ in pairs],
        [rate(value) if value < 1 else f"{value:g}" for _, value in pairs],
        name,
        (float(places.min() - pad), float(places.max() + pad)),
    )


def score_label(fit: Fit) -> str:
    """The metric with its direction, as on a colour bar."""
    better = "higher" if fit.cells.higher_is_better else "lower"
    return f"{fit.cells.metric.replace('_', ' ')} ({better} is better)"


def _heading(fit: Fit) -> str:
    return f"{task(fit.cells.benchmark).label}, {title(fit.cells.stage, fit.cells.arm)}"


def ratio_lines(x: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    """Whole powers of two between the corners' ratios, at most seven."""
    low, high = x.min() - y.max(), x.max() - y.min()
    step = max(1, int(np.ceil((high - low) / 7)))
    first = int(np.ceil(low / step)) * step
    return tuple(float(value) for value in np.arange(first, high + 1e-9, step))
