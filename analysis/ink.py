"""Figures to ink: a contour and a score-against-ratio figure from the plain data of `plots`.

Drawn once for two uses: PNG on white, and SVG without a background whose text takes the colour of
the page it stands in, light or dark.
"""

import functools
import io
from collections.abc import Callable
from typing import Any, TypeVar

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from analysis.plots import ContourInfo, RatioInfo, ratio_lines
from analysis.words import number, rate

LEVELS = 12
MARKS = ("o", "s", "D", "^", "v", "P", "h", "<", ">", "*")
VERMILION = "#d55e00"  # Okabe and Ito's colour-blind-safe palette
GREY = "#8a8f98"
TEXT = "#010203"  # no other ink has this colour, so that SVG text can be told apart
STYLE: dict[Any, Any] = {
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": TEXT,
    "axes.titlecolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "svg.fonttype": "none",
    "svg.hashsalt": "analysis",
    "axes.facecolor": "none",
}


Info = TypeVar("Info")


def _styled(draw: Callable[[Info], Figure]) -> Callable[[Info], Figure]:
    @functools.wraps(draw)
    def styled(info: Info) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(info)

    return styled


def settle(figure: Figure) -> Figure:
    """Lay the figure out once and for all: each format would do it again."""
    with matplotlib.rc_context(STYLE):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


def png(figure: Figure) -> bytes:
    """The figure on white at 150 dots per inch."""
    with matplotlib.rc_context(STYLE), io.BytesIO() as buffer:
        figure.savefig(buffer, format="png", dpi=150, facecolor="white")
        return buffer.getvalue()


def svg(figure: Figure) -> str:
    """An <svg> element to stand in an HTML page, its text in the page's colour and font."""
    with matplotlib.rc_context(STYLE), io.StringIO() as buffer:
        figure.savefig(
            buffer,
            format="svg",
            facecolor="none",
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )
        text = buffer.getvalue()
    return text[text.index("<svg") :].replace(TEXT, "currentColor")


@_styled
def draw_contour(info: ContourInfo) -> Figure:
    """Filled contour of the cells, ratio lines, every cell, best cell and the fit's optimum."""
    figure, axes = _figure(info.heading)
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
    _cell_axes(axes, info.cells)
    _draw_ratio_lines(axes, info.log2_ratios)
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
    _legend(axes)
    return figure


def _draw_cells(axes: Axes, info: ContourInfo, colours: str, norm: Normalize) -> None:
    cells = info.cells
    ok, diverged, failed = (cells.loc[cells.status == s] for s in ("ok", "diverged", "failed"))
    if len(ok):
        axes.scatter(
            ok.x,
            ok.y,
            c=ok.value,
            cmap=colours,
            norm=norm,
            s=34,
            edgecolors="white",
            linewidths=1.1,
            zorder=5,
            label="measured cell" + ("" if info.mesh is None else " (the fill is between cells)"),
        )
    if len(diverged):
        axes.scatter(
            diverged.x, diverged.y, marker="X", s=60, c=VERMILION, zorder=5, label="diverged"
        )
    if len(failed):
        axes.scatter(
            failed.x,
            failed.y,
            marker="s",
            s=46,
            facecolors="none",
            edgecolors=GREY,
            linewidths=1.6,
            zorder=5,
            label="failed, no score",
        )
    if info.best is not None:
        row = cells.iloc[info.best]
        axes.scatter(
            row.x,
            row.y,
            marker="*",
            s=210,
            c="white",
            edgecolors="black",
            linewidths=0.9,
            zorder=6,
            label=f"best cell ({number(row.value, 3)})",
        )


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
        fontstyle="italic",
    )
    axes.set_xlim(x_low, x_high)
    axes.set_ylim(y_low, y_high)


@_styled
def draw_ratio(info: RatioInfo) -> Figure:
    """Score with error bars against the ratio, a mark and colour per batch size."""
    figure, axes = _figure(info.heading)
    scored = info.points.loc[info.points.status == "ok"]
    within = scored.value.between(info.vmin, info.vmax)
    ok = scored.loc[within]
    sizes = sorted(info.points.batch_size.unique())
    shades = _shades(len(sizes))
    for order, size in enumerate(sizes):
        rows = ok.loc[ok.batch_size == size]
        if len(rows):
            axes.errorbar(
                rows.log2_ratio,
                rows.value,
                yerr=rows.stderr.fillna(0),
                fmt=MARKS[order % len(MARKS)],
                ms=5.5,
                color=shades[order],
                elinewidth=1,
                capsize=0,
                alpha=0.95,
                label=f"batch size {size}",
                zorder=4,
            )
    if info.curve is not None:
        label = f"fit on the ratio alone, R² = {info.r2:.2f}"
        axes.plot(info.curve.log2_ratio, info.curve.score, color=VERMILION, lw=1.8, label=label)
    for level, name, style in (
        (info.chance, "chance", ":"),
        (info.before, "before training", "--"),
    ):
        if level is None:
            continue
        drawn = _on_scale(info, level)
        label = f"{name} ({number(level, 3)}{'' if drawn else ', off the scale'})"
        if drawn:
            axes.axhline(level, color=GREY, ls=style, lw=1.2, label=label)
        else:
            axes.plot([], [], color=GREY, ls=style, lw=1.2, label=label)
    diverged = info.points.loc[info.points.status == "diverged"]
    if len(diverged):
        axes.plot(
            diverged.log2_ratio,
            np.full(len(diverged), 0.02),
            "X",
            color=VERMILION,
            ms=7,
            transform=axes.get_xaxis_transform(),
            label="diverged (no score)",
            clip_on=False,
        )
    _draw_off_scale(axes, info, scored.loc[~within])
    ratios = info.points.log2_ratio
    margin = 0.05 * max(1.0, ratios.max() - ratios.min())
    axes.set_xlim(ratios.min() - margin, ratios.max() + margin)
    lines = ratio_lines(ratios.to_numpy(), np.zeros(1))
    axes.xaxis.set_major_locator(FixedLocator(lines))
    axes.set_xticklabels([rate(2**line) for line in lines])
    axes.set_xlabel("learning rate / batch size")
    axes.set_ylabel(info.score_label)
    axes.grid(axis="y", lw=0.5, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    _legend(axes)
    return figure


def _on_scale(info: RatioInfo, level: float) -> bool:
    """Whether a reference line is near enough to be drawn without flattening the cells."""
    span = info.vmax - info.vmin
    return info.vmin - span <= level <= info.vmax + span


def _draw_off_scale(axes: Axes, info: RatioInfo, cells: pd.DataFrame) -> None:
    """Cells beyond the scale as arrows on its border, so that they do not flatten the rest."""
    if cells.empty:
        return
    low, high = info.vmin, info.vmax
    reach = [v for v in (info.chance, info.before) if v is not None and _on_scale(info, v)]
    low, high = min([low, *reach]), max([high, *reach])
    margin = 0.06 * (high - low)
    axes.set_ylim(low - margin, high + margin)
    for rows, place, mark in (
        (cells.loc[cells.value > info.vmax], 0.99, "$\u2191$"),
        (cells.loc[cells.value < info.vmin], 0.01, "$\u2193$"),
    ):
        if len(rows):
            worst = rows.value.max() if place > 0.5 else rows.value.min()
            axes.plot(
                rows.log2_ratio,
                np.full(len(rows), place),
                ls="",
                marker=mark,
                ms=9,
                color=GREY,
                transform=axes.get_xaxis_transform(),
                clip_on=False,
                label=f"off the scale, to {number(worst, 3)}",
            )


def _shades(count: int) -> list[tuple[float, float, float, float]]:
    """Colours from small to large batches, legible on light and dark pages."""
    return [colormaps["viridis"](position) for position in np.linspace(0.35, 0.9, max(count, 1))]


def _figure(heading: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(heading, fontsize=11, fontweight="bold", loc="left", pad=16)
    axes.tick_params(labelsize=8.5)
    return figure, axes


def _cell_axes(axes: Axes, cells: pd.DataFrame) -> None:
    """Ticks at the cells' own learning rates and batch sizes, at most about ten of each."""
    for axis, column, values, name in (
        (axes.xaxis, cells.x, cells.learning_rate, "learning rate"),
        (axes.yaxis, cells.y, cells.batch_size, "batch size (examples per step)"),
    ):
        pairs = sorted({*zip(column, values, strict=True)})
        pairs = pairs[:: int(np.ceil(len(pairs) / 10))]
        axis.set_major_locator(FixedLocator([place for place, _ in pairs]))
        axis.set_minor_locator(NullLocator())
        axis.set_ticklabels([rate(value) if value < 1 else f"{value:g}" for _, value in pairs])
        axis.set_label_text(name)
        pad = 0.06 * max(float(column.max() - column.min()), 1.0)
        limits = float(column.min() - pad), float(column.max() + pad)
        (axes.set_xlim if axis is axes.xaxis else axes.set_ylim)(*limits)
    axes.spines[:].set_visible(False)


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.figure.legend(  # type: ignore[union-attr]
            handles,
            labels,
            loc="outside lower left",
            ncols=2,
            fontsize=8,
            frameon=False,
            handletextpad=0.5,
            columnspacing=1.4,
        )
