"""Scores against the learning rate, or against the ratio LR/BS, a curve per batch size."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from analysis.figures.chart import GREY, MARKERS, VERMILION, Axis, Chart, Line, Points, log2_axis
from analysis.figures.contour import best_rate_note, ratio_lines
from analysis.figures.style import shades
from analysis.figures.surface_view import SurfaceView
from analysis.text import number, rate

STEPS = 31
"""Points of a fitted curve."""


def against_rate(view: SurfaceView) -> Chart:
    """Score with its standard error against the learning rate; the fit as a curve per batch size
    and, where it is known, the interval of the best learning rate as a bar under the curves. Where
    all cells have one learning rate, against the batch size."""
    cells = view.cells
    if cells.x.nunique() == 1 and cells.y.nunique() > 1:
        place, texts, name = cells.y, [f"{size:g}" for size in cells.batch_size], "batch size"
    else:
        place, texts, name = cells.x, [rate(r) for r in cells.learning_rate], "learning rate"
    x_axis = log2_axis(place.to_numpy(), texts, name)
    low, high = _limits(view)
    layers = [*_levels(view, x_axis), *_fitted_curves(view), *_points(view, place, low, high)]
    bars = 0 if view.best_rates is None or cells.x.nunique() < 2 else len(view.best_rates)
    step = min(0.05, 0.35 / max(bars, 1)) * (high - low)
    layers += _best_rate_bars(view, low, step)
    ticks = [tick for tick in MaxNLocator(7).tick_values(low, high) if low <= tick <= high]
    y_axis = Axis(
        view.score_label, low - step * bars, high, ticks, [number(tick, 4) for tick in ticks]
    )
    return Chart(view.heading, x_axis, y_axis, layers)


def against_ratio(view: SurfaceView) -> Chart:
    """Score with its standard error against LR/BS; the fit on the ratio alone and, in a panel
    below, what it leaves over."""
    cells = view.cells
    ratios = cells.x - cells.y
    low, high = _limits(view)
    margin = 0.05 * max(1.0, ratios.max() - ratios.min())
    lines = ratio_lines(ratios.to_numpy(), np.zeros(1))
    x_axis = Axis(
        "learning rate / batch size", float(ratios.min() - margin), float(ratios.max() + margin),
        lines, [rate(2**line) for line in lines],
    )  # fmt: skip
    layers = [*_levels(view, x_axis), *_points(view, ratios, low, high)]
    lower, fit = None, view.fit
    if fit is not None and fit.rivals is not None and fit.quadratic is not None:
        sign = fit.cells.sign
        used = np.flatnonzero(fit.cells.ok)[fit.quadratic.used]
        along = np.linspace(ratios.iloc[used].min(), ratios.iloc[used].max(), 61)
        curve = sign * fit.rivals.ratio.predict(along)
        name = f"fit on the ratio alone, R² = {fit.rivals.ratio.r2:.2f}"
        layers.append(Line(along, curve, name=name, colour=VERMILION, width=1.8))
        residual = cells.value.iloc[used] - sign * fit.rivals.ratio.predict(
            ratios.iloc[used].to_numpy()
        )
        reach = 1.05 * float((residual.abs() + cells.stderr.iloc[used].fillna(0)).max() or 1.0)
        lower = Axis("left over", -reach, reach)
        ends = np.array([x_axis.low, x_axis.high])
        layers.append(Line(ends, np.zeros(2), colour=VERMILION, width=1.4, panel=1))
        layers += _by_batch_size(view, used, ratios, residual.reindex(cells.index), panel=1)
    return Chart(view.heading, x_axis, Axis(view.score_label, low, high), layers, lower=lower)


def _on_scale(view: SurfaceView) -> np.ndarray:
    """Whether each cell has a score that is not far down a cliff."""
    span = view.vmax - view.vmin
    value = view.cells.value
    return value.between(view.vmin - 1e-9 * span, view.vmax + 1e-9 * span).to_numpy()


def _limits(view: SurfaceView) -> tuple[float, float]:
    """Ends of the score axis: every error bar on the scale is whole, and so are the reference
    levels that lie near."""
    shown = view.cells.loc[_on_scale(view)]
    error = shown.stderr.fillna(0)
    ends = [view.vmin, view.vmax, *(shown.value - error), *(shown.value + error)]
    ends += [level for level, _ in _near_levels(view)]
    margin = 0.06 * (max(ends) - min(ends))
    return min(ends) - margin, max(ends) + margin


def _near_levels(view: SurfaceView) -> list[tuple[float, str]]:
    """Chance and the score before training, where they do not flatten the cells."""
    span = view.vmax - view.vmin
    levels = ((view.chance, "chance"), (view.before, "before training"))
    return [
        (level, name)
        for level, name in levels
        if level is not None and view.vmin - span <= level <= view.vmax + span
    ]


def _levels(view: SurfaceView, axis: Axis) -> Iterator[Line]:
    for level, name in _near_levels(view):
        yield Line(
            np.array([axis.low, axis.high]), np.full(2, level), name=f"{name} ({number(level, 3)})",
            colour=GREY, width=1.2, dash="dot" if name == "chance" else "dash",
        )  # fmt: skip


def _points(view: SurfaceView, place: pd.Series, low: float, high: float) -> Iterator[Points]:
    """Cells by batch size; those off the scale as arrows, diverged ones as crosses, at the
    border."""
    cells, ok, near = view.cells, view.rows("ok"), _on_scale(view)
    yield from _by_batch_size(view, ok[near[ok]], place, cells.value)
    for rows, level, marker, name in (
        (ok[cells.value.to_numpy()[ok] > view.vmax], high, "arrow-up", "above the scale"),
        (ok[cells.value.to_numpy()[ok] < view.vmin], low, "arrow-down", "below the scale"),
        (view.rows("diverged"), low, "x", "diverged (no score)"),
    ):
        rows = rows[~near[rows]]
        if not len(rows):
            continue
        if marker != "x":
            worst = cells.value.iloc[rows].max() if level == high else cells.value.iloc[rows].min()
            name = f"{name}, to {number(worst, 3)}"
        inward = 0.02 * (high - low) * (1 if level == low else -1)
        yield Points(
            place.to_numpy()[rows], np.full(len(rows), level + inward), name=name, marker=marker,
            size=7, colour=VERMILION if marker == "x" else GREY, cells=rows,
        )  # fmt: skip


def _by_batch_size(
    view: SurfaceView, rows: np.ndarray, place: pd.Series, values: pd.Series, panel: int = 0
) -> Iterator[Points]:
    sizes = sorted(view.cells.batch_size.unique())
    for order, (size, colour) in enumerate(zip(sizes, shades(len(sizes)), strict=True)):
        here = rows[(view.cells.batch_size.iloc[rows] == size).to_numpy()]
        if len(here):
            yield Points(
                place.to_numpy()[here], values.to_numpy(dtype=float)[here],
                name="" if panel or not view.sized else f"batch size {size}",
                marker=MARKERS[order % len(MARKERS)], colour=colour, size=5.5,
                y_error=view.cells.stderr.to_numpy(dtype=float)[here], cells=here, panel=panel,
            )  # fmt: skip


def _fitted_curves(view: SurfaceView) -> Iterator[Line]:
    """The fit's mean along the learning rates of each batch size."""
    if view.fit is None or view.fit.curves is None or view.cells.x.nunique() < 2:
        return
    sign, posterior = view.fit.cells.sign, view.fit.curves.posterior
    sizes = sorted(view.cells.batch_size.unique())
    for size, colour in zip(sizes, shades(len(sizes)), strict=True):
        rows = view.cells.loc[(view.cells.batch_size == size) & (view.cells.status == "ok")]
        if len(rows) < 2:
            continue
        x = np.linspace(rows.x.min(), rows.x.max(), STEPS)
        mean = sign * posterior.scores(x, np.full_like(x, np.log2(float(size)))).mean(axis=0)
        inside = np.clip(mean, *_limits(view))
        yield Line(x, np.where(inside == mean, mean, np.nan), colour=colour, width=1.3)


def _best_rate_bars(view: SurfaceView, low: float, step: float) -> Iterator[Line | Points]:
    """The interval of each batch size's best learning rate, stacked below the curves."""
    table = view.best_rates
    if table is None or table.empty or view.cells.x.nunique() < 2:
        return
    sizes = sorted(view.cells.batch_size.unique())
    colours = dict(zip(sizes, shades(len(sizes)), strict=True))
    for order, row in enumerate(table.sort_values("batch_size").to_dict("records")):
        level = low - step * (order + 0.5)
        colour = colours.get(row["batch_size"], GREY)
        ends = np.array([row["low"], row["high"]])
        name = "95 % interval of the best learning rate" if order == 0 else ""
        yield Line(ends, np.full(2, level), name=name, colour=colour, width=3)
        yield Points(
            np.array([row["x"]]), np.array([level]), marker="diamond", size=5, colour=colour,
            hollow=row["status"] != "interior", notes=[best_rate_note(row, view.sized)],
        )  # fmt: skip
