"""A surface as a filled contour: cells, ratio lines, optimum with its region, references."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import FixedLocator, NullLocator

from analysis.figures.data import LINEAR_NAME, ContourInfo
from analysis.figures.style import GREY, PURPLE, VERMILION, legend, new_figure, styled
from analysis.text import number, rate

LEVELS = 12
DASHES = ("--", ":", "-.")


@styled
def draw_contour(info: ContourInfo) -> Figure:
    """Everything in `info`; the linear rule is left to the ratio lines, parallel to it."""
    figure, (axes,) = new_figure(info.heading)
    bounds = np.linspace(info.vmin, info.vmax, LEVELS + 1)
    colours = "viridis" if info.higher_is_better else "viridis_r"
    norm = BoundaryNorm(bounds, 256)
    shown = info.cells.value.dropna()
    extend = {
        (False, False): "neither",
        (True, False): "min",
        (False, True): "max",
        (True, True): "both",
    }[bool((shown < info.vmin).any()), bool((shown > info.vmax).any())]
    if info.mesh is not None:
        axes.contourf(
            info.mesh_x, info.mesh_y, info.mesh, bounds, cmap=colours, norm=norm, extend=extend
        )
    _cell_axes(axes, info)
    _draw_ratio_lines(axes, info.log2_ratios)
    _draw_references(axes, info)
    for order, polygon in enumerate(info.region):
        axes.add_patch(
            Polygon(
                polygon,
                closed=True,
                facecolor="none",
                edgecolor="white",
                hatch="////",
                alpha=0.55,
                lw=0,
                zorder=4,
            )
        )
        label = "95 % region of the optimum" if order == 0 else None
        axes.plot(*polygon.T, color=VERMILION, lw=1.4, zorder=4, label=label)
    if info.optimum and info.log2_ratio_interval:
        _draw_optimum(axes, info.optimum, info.log2_ratio_interval)
    _draw_cells(axes, info, colours, norm)
    if len(shown):
        bar = figure.colorbar(
            ScalarMappable(norm, colours), ax=axes, extend=extend, fraction=0.05, pad=0.11
        )
        bar.set_label(info.score_label)
        bar.set_ticks(list(bounds[::3]))
        bar.ax.set_yticklabels([number(value, 3) for value in bounds[::3]])
        bar.outline.set_visible(False)  # type: ignore[operator]
    legend(axes)
    return figure


def _draw_cells(axes: Axes, info: ContourInfo, colours: str, norm: Normalize) -> None:
    cells = info.cells

    def mark(rows: pd.DataFrame, label: str, **style: Any) -> None:
        if len(rows):
            axes.scatter(rows.x, rows.y, label=label, **{"zorder": 5, **style})

    ok, diverged, failed = (cells.loc[cells.status == s] for s in ("ok", "diverged", "failed"))
    filled = "" if info.mesh is None else " (the fill is between cells)"
    tint: dict[str, Any] = {"c": ok.value, "cmap": colours, "norm": norm}
    mark(ok, f"measured cell{filled}", s=34, edgecolors="white", linewidths=1.1, **tint)
    mark(diverged, "diverged", marker="X", s=60, c=VERMILION)
    hollow = {"facecolors": "none", "edgecolors": GREY, "linewidths": 1.6}
    mark(failed, "failed, no score", marker="s", s=46, **hollow)
    if info.best is not None:
        best = cells.iloc[[info.best]]
        star = {"c": "white", "edgecolors": "black", "linewidths": 0.9, "zorder": 6}
        name = f"best cell ({number(best.value.iloc[0], 3)})"
        mark(best, name, marker="*", s=210, **star)


def _draw_optimum(axes: Axes, optimum: tuple[float, float], interval: tuple[float, float]) -> None:
    """The fit's optimum, and its ratio's interval as a bar across the ratio lines."""
    x, y = optimum
    ends = np.array(interval) - (x - y)
    # along (1, -1) / 2 the ratio moves by one octave for one unit
    axes.plot(x + ends / 2, y - ends / 2, color="black", lw=3.4, solid_capstyle="butt", zorder=6)
    axes.plot(
        x + ends / 2,
        y - ends / 2,
        color="white",
        lw=1.6,
        solid_capstyle="butt",
        zorder=6,
    )
    axes.scatter(
        x,
        y,
        marker="D",
        s=52,
        c=VERMILION,
        edgecolors="white",
        linewidths=1,
        zorder=7,
        label="optimum of the fit, 95 % interval of its ratio",
    )


def _draw_ratio_lines(axes: Axes, log2_ratios: tuple[float, ...]) -> None:
    """Lines y = x - r, named where they leave the box, at the top or at the right."""
    (x_low, x_high), (y_low, y_high) = axes.get_xlim(), axes.get_ylim()
    for ratio in log2_ratios:
        ends = np.array([max(x_low, y_low + ratio), min(x_high, y_high + ratio)])
        if ends[0] >= ends[1]:
            continue
        for colour, width, alpha in (("black", 1.7, 0.35), ("white", 0.8, 0.9)):
            axes.plot(ends, ends - ratio, color=colour, lw=width, alpha=alpha, zorder=3)
        at_top = ends[1] < x_high - 1e-9
        axes.annotate(
            rate(2**ratio),
            (ends[1], ends[1] - ratio),
            xytext=(0, 3) if at_top else (4, 0),
            textcoords="offset points",
            ha="center" if at_top else "left",
            va="bottom" if at_top else "center",
            fontsize=7.5,
            annotation_clip=False,
        )
    axes.annotate(
        "LR/BS",
        (1, 1),
        xycoords="axes fraction",
        xytext=(6, 3),
        textcoords="offset points",
        fontsize=7.5,
    )
    axes.set_xlim(x_low, x_high)
    axes.set_ylim(y_low, y_high)


def _draw_references(axes: Axes, info: ContourInfo) -> None:
    """Rules as dashed curves; published settings as triangles, hollow ones lie outside."""
    drawn = [line for line in info.lines if line.name != LINEAR_NAME]
    for line, dash in zip(drawn, DASHES, strict=False):
        axes.plot(line.x, line.y, color=PURPLE, lw=1.6, ls=dash, zorder=4, label=line.name)
    inside = [point for point in info.points if point.inside]
    outside = [point for point in info.points if not point.inside]
    for points, face, label in (
        (inside, PURPLE, "published setting"),
        (outside, "none", "published settings outside the grid"),
    ):
        if points:
            axes.scatter(
                [point.x for point in points],
                [point.y for point in points],
                marker="v",
                s=56,
                facecolors=face,
                edgecolors="black" if face == PURPLE else PURPLE,
                linewidths=0.9,
                zorder=6,
                label=label,
                clip_on=False,
            )
    for point in inside:
        axes.annotate(
            point.name,
            (point.x, point.y),
            xytext=(6, 5),
            textcoords="offset points",
            fontsize=7.5,
            zorder=6,
            color="black",  # over the fill, whatever the page's colour
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.75},
        )


def _cell_axes(axes: Axes, info: ContourInfo) -> None:
    """Ticks at the cells' own learning rates and batch sizes, at most about ten of each."""
    for axis, (places, labels, name, limits) in (
        (axes.xaxis, info.x_axis),
        (axes.yaxis, info.y_axis),
    ):
        axis.set_major_locator(FixedLocator(places))
        axis.set_minor_locator(NullLocator())
        axis.set_ticklabels(labels)
        axis.set_label_text(name)
        (axes.set_xlim if axis is axes.xaxis else axes.set_ylim)(*limits)
    axes.spines[:].set_visible(False)
