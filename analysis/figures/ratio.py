"""Score against the ratio alone: cells by batch size, the ratio-only fit, and what it misses."""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from analysis.figures.data import RatioInfo, ratio_lines
from analysis.figures.style import GREY, VERMILION, legend, new_figure, styled
from analysis.text import number, rate

MARKS = ("o", "s", "D", "^", "v", "P", "h", "<", ">", "*")


@styled
def draw_ratio(info: RatioInfo) -> Figure:
    """Score with error bars against the ratio, a mark and colour per batch size; below it, where
    there is a ratio-only fit, what that fit leaves over."""
    figure, rows = new_figure(info.heading, below=info.curve is not None)
    axes, lowest = rows[0], rows[-1]
    scored = info.points.loc[info.points.status == "ok"]
    within = scored.value.between(info.vmin, info.vmax)
    _draw_cells(axes, info, scored.loc[within], "value")
    if info.curve is not None:
        label = f"fit on the ratio alone, R² = {info.r2:.2f}"
        axes.plot(info.curve.log2_ratio, info.curve.score, color=VERMILION, lw=1.8, label=label)
    _draw_levels(axes, info)
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
    axes.set_ylabel(info.score_label)
    legend(axes)
    if info.curve is not None:
        fitted = info.points.loc[info.points.residual.notna()]
        lowest.axhline(0, color=VERMILION, lw=1.4)
        _draw_cells(lowest, info, fitted, "residual")
        lowest.set_ylabel("residual")
    ratios = info.points.log2_ratio
    margin = 0.05 * max(1.0, ratios.max() - ratios.min())
    lowest.set_xlim(ratios.min() - margin, ratios.max() + margin)
    lines = ratio_lines(ratios.to_numpy(), np.zeros(1))
    lowest.xaxis.set_major_locator(FixedLocator(lines))
    lowest.set_xticks(lines, [rate(2**line) for line in lines])
    lowest.set_xlabel("learning rate / batch size")
    for one in rows:
        one.grid(axis="y", lw=0.5, alpha=0.3)
        one.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_cells(axes: Axes, info: RatioInfo, cells: pd.DataFrame, column: str) -> None:
    sizes = sorted(info.points.batch_size.unique())
    shades = _shades(len(sizes))
    for order, size in enumerate(sizes):
        rows = cells.loc[cells.batch_size == size]
        if len(rows):
            axes.errorbar(
                rows.log2_ratio,
                rows[column],
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


def _draw_levels(axes: Axes, info: RatioInfo) -> None:
    """Chance and the score before training, where they are known; far ones by name only."""
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
