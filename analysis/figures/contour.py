"""The contour of a surface over learning rate and batch size, as a chart.

It is filled from the measured cells, not from the fit; the fit adds its optimum with the 95 %
region and the best learning rate of each batch size.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from analysis.figures import scaling_rules
from analysis.figures.chart import (
    GREY,
    PURPLE,
    VERMILION,
    Axis,
    Chart,
    Colours,
    Dash,
    Fill,
    Line,
    Points,
    log2_axis,
)
from analysis.figures.density_region import holds, region
from analysis.figures.interpolate import interpolated
from analysis.figures.surface_view import SurfaceView
from analysis.fit.surface import FitStatus
from analysis.posterior.peak import Box, box_of
from analysis.text import number, rate

MESH = 61
"""Points of the fill along each axis."""

DASHES: tuple[Dash, ...] = ("dash", "dot", "dashdot")
RATIOS, REGION, RULES, PUBLISHED = "ratios", "region", "rules", "published"
"""What a page switches on and off."""


def contour(view: SurfaceView) -> Chart:
    """Everything the contour shows; drawn in this order."""
    x, y = view.cells.x.to_numpy(), view.cells.y.to_numpy()
    x_axis, y_axis = axes(view)
    layers: list[Fill | Line | Points] = []
    mesh_x, mesh_y = (np.linspace(axis.min(), axis.max(), MESH) for axis in (x, y))
    mesh = interpolated(view.cells, mesh_x, mesh_y)
    if mesh is not None:
        layers.append(Fill(mesh_x, mesh_y, mesh))
    layers += _ratio_lines(ratio_lines(x, y), x_axis, y_axis)
    layers += _rules(view)
    likely = optimum_region(view)
    for order, polygon in enumerate(likely):
        name = "95 % region of that setting" if order == 0 else ""
        layers.append(
            Line(*polygon.T, name=name, colour=VERMILION, filled=True, width=1.4, layer=REGION)
        )
    layers += _best_rates(view)
    layers += _cells(view)
    layers += _optimum(view)
    layers += _published(view, x_axis, y_axis)
    colours = Colours(view.score_label, view.vmin, view.vmax, view.higher_is_better)
    return Chart(view.heading, x_axis, y_axis, layers, colours)


def axes(view: SurfaceView) -> tuple[Axis, Axis]:
    """Ticks at the learning rates and batch sizes of the cells."""
    cells = view.cells
    rates = log2_axis(cells.x.to_numpy(), [rate(r) for r in cells.learning_rate], "learning rate")
    sizes = log2_axis(
        cells.y.to_numpy(), [f"{size:g}" for size in cells.batch_size],
        "batch size (examples per step)",
    )  # fmt: skip
    return rates, sizes


def ratio_lines(x: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    """Whole powers of two between the corners' ratios, at most seven."""
    low, high = x.min() - y.max(), x.max() - y.min()
    step = max(1, int(np.ceil((high - low) / 7)))
    first = int(np.ceil(low / step)) * step
    return tuple(float(value) for value in np.arange(first, high + 1e-9, step))


def optimum_region(view: SurfaceView) -> list[np.ndarray]:
    """The 95 % region of an identified optimum, as polygons; none where none is identified."""
    fit = view.fit
    if fit is None or fit.status is not FitStatus.IDENTIFIED or fit.draws is None:
        return []
    return region(fit.draws, box_of(view.cells.x.to_numpy(), view.cells.y.to_numpy()))


def outlier_note(view: SurfaceView) -> str:
    """Why the best measured cell lies outside the region that it should be in; "" where it does
    not."""
    likely = optimum_region(view)
    box = box_of(view.cells.x.to_numpy(), view.cells.y.to_numpy())
    if not likely or view.best is None:
        return ""
    best = view.cells.iloc[view.best]
    if holds(likely, (float(best.x), float(best.y)), box):
        return ""
    cell = f"{rate(best.learning_rate)} x {best.batch_size}"
    start = f"The best measured cell ({cell}) lies outside the 95 % region of the best setting"
    if best.possible:
        return f"{start}, which lies between cells; it is as good as the best within the noise."
    scores = f"{number(best.value, 3)} was measured there, {number(best.fit, 3)} is expected"
    return f"{start}: {scores} from all cells together, so that its score is most likely luck."


def _ratio_lines(log2_ratios: tuple[float, ...], x: Axis, y: Axis) -> Iterator[Line]:
    """Lines of one ratio, x - y = r, named where they leave the chart, at the top or the right."""
    for ratio in log2_ratios:
        ends = np.array([max(x.low, y.low + ratio), min(x.high, y.high + ratio)])
        if ends[0] < ends[1]:
            text = rate(2**ratio)
            yield Line(ends, ends - ratio, width=0.8, halo=True, text=text, layer=RATIOS)


def _rules(view: SurfaceView) -> Iterator[Line]:
    """Scaling rules through the optimum, or the best cell where none is identified. The linear
    rule is left to the lines of one ratio, parallel to it."""
    fit, best = view.fit, view.best
    if fit is None or best is None:
        return
    x, y = view.cells.x.to_numpy(), view.cells.y.to_numpy()
    anchor = (float(x[best]), float(y[best]))
    if fit.status is FitStatus.IDENTIFIED and fit.optimum is not None:
        anchor = fit.optimum[:2]
    rules = scaling_rules.lines(anchor, box_of(x, y), view.noise, view.recipe.adam)
    drawn = [rule for rule in rules if rule.name != scaling_rules.LINEAR_NAME]
    for rule, dash in zip(drawn, DASHES, strict=False):
        yield Line(
            rule.x, rule.y, name=rule.name, colour=PURPLE, dash=dash, note=rule.note, layer=RULES
        )


def _best_rates(view: SurfaceView) -> Iterator[Points | Line]:
    """The best learning rate of each batch size with its interval; hollow where it is not inside
    the grid."""
    table = view.best_rates
    if table is None or table.empty:
        return
    name = "best learning rate at this batch size (95 %)"
    yield Line(table.x.to_numpy(), table.y.to_numpy(), width=1.2, halo=True, layer=REGION)
    for inside in (True, False):
        rows = table.loc[(table.status == "interior") == inside]
        if rows.empty:
            continue
        yield Points(
            rows.x.to_numpy(),
            rows.y.to_numpy(),
            name=name if inside else "the same, at the edge or open",
            marker="circle" if inside else "diamond-tall",
            size=4.5,
            colour="#ffffff" if inside else "#bbbbbb",
            edge="#000000",
            x_low=rows.low.to_numpy(),
            x_high=rows.high.to_numpy(),
            notes=[best_rate_note(row) for row in rows.to_dict("records")],
            layer=REGION,
        )


def best_rate_note(row: dict[str, Any], sized: bool = True) -> str:
    """What a row of `SurfaceView.best_rates` says where it is pointed at."""
    size = f"batch size {row['batch_size']:g}: " if sized else ""
    return (
        f"{size}best learning rate {rate(2 ** row['x'])}\n"
        f"95 % interval {rate(2 ** row['low'])} to {rate(2 ** row['high'])} ({row['status']})"
    )


def _cells(view: SurfaceView) -> Iterator[Points]:
    cells = view.cells

    def points(rows: np.ndarray, name: str, **style) -> Points:
        x, y = cells.x.to_numpy()[rows], cells.y.to_numpy()[rows]
        return Points(x, y, name=name, cells=rows, **style)

    ok, diverged, failed = (view.rows(status) for status in ("ok", "diverged", "failed"))
    values = cells.value.to_numpy(dtype=float)
    if len(ok):
        yield points(ok, "measured cell", values=values[ok], size=6, edge="#ffffff")
    if len(diverged):
        yield points(diverged, "diverged", marker="x", size=8, colour=VERMILION)
    if len(failed):
        yield points(failed, "failed, no score", marker="square", size=7, colour=GREY, hollow=True)
    if view.best is not None:
        best = np.array([view.best])
        name = f"best cell as measured ({number(values[view.best], 3)})"
        yield points(best, name, marker="star", size=14, colour="#ffffff", edge="#000000")


def _optimum(view: SurfaceView) -> Iterator[Line | Points]:
    """The best setting of all with its ratio's interval, a bar across the lines of one ratio."""
    fit = view.fit
    if fit is None or fit.status is not FitStatus.IDENTIFIED or fit.optimum is None:
        return
    if fit.low is None or fit.high is None:
        return
    x, y = fit.optimum[:2]
    # along (1, -1) / 2 the ratio moves by one octave for one unit
    ends = np.array([fit.low, fit.high]) - (x - y)
    yield Line(x + ends / 2, y - ends / 2, colour="#000000", width=2.6, layer=REGION)
    note = (
        f"best setting from all cells: learning rate {rate(2**x)}, batch size {2**y:.3g}\n"
        f"LR/BS {rate(2 ** (x - y))}, 95 % interval {rate(2**fit.low)} to {rate(2**fit.high)}"
    )
    yield Points(
        np.array([x]), np.array([y]), name="best setting from all cells",
        marker="diamond", size=8, colour=VERMILION, edge="#ffffff", notes=[note], layer=REGION,
    )  # fmt: skip


def _published(view: SurfaceView, x: Axis, y: Axis) -> Iterator[Points]:
    """Published settings as triangles; hollow ones lie outside and stand at the nearest border.
    All are of AdamW on all weights."""
    if view.recipe.adapter or not view.recipe.adam:
        return
    points = scaling_rules.points(view.stage, Box(x.low, x.high, y.low, y.high))
    for inside in (True, False):
        group = [point for point in points if point.inside == inside]
        if group:
            yield Points(
                np.array([point.x for point in group]),
                np.array([point.y for point in group]),
                name="published setting" if inside else "published, outside the grid",
                marker="triangle-down",
                size=8,
                colour=PURPLE,
                edge="#000000",
                hollow=not inside,
                notes=[f"{point.name}\n{point.note}" for point in group],
                texts=[point.name for point in group] if inside else [],
                layer=PUBLISHED,
            )
