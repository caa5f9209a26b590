"""What each ratio costs each benchmark of a mix, and which ratios nothing beats."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, PercentFormatter

from analysis.advice.task_mix import Compromise
from analysis.benchmarks import task
from analysis.figures.data import ratio_lines
from analysis.figures.style import GREY, PURPLE, TEXT, VERMILION, legend, new_figure, styled
from analysis.text import rate

COLOURS = ("#0072b2", "#e69f00", "#009e73", PURPLE, "#56b4e9", VERMILION)
DASHES = ("-", "--", "-.", ":")


@styled
def draw_prices(found: Compromise) -> Figure:
    """Expected shortfall against the ratio, a line per benchmark and one for the mix; the Pareto
    front is a bar under them.

    Raises:
        ValueError: the compromise has no front.
    """
    if found.front is None or found.log2_ratio is None or not found.low or not found.high:
        raise ValueError("nothing to draw: too few benchmarks of the mix are identified")
    front = found.front
    figure, (axes,) = new_figure("What one ratio for the mix costs")
    axes.axvspan(
        np.log2(found.low),
        np.log2(found.high),
        color=GREY,
        alpha=0.22,
        lw=0,
        label="95 % interval of the mix's best ratio",
    )
    for order, price in enumerate(found.prices):
        axes.plot(
            front.log2_ratio,
            front[price.benchmark],
            color=COLOURS[order % len(COLOURS)],
            ls=DASHES[order // len(COLOURS) % len(DASHES)],
            lw=1.6,
            label=f"{task(price.benchmark).label} ({price.weight:.0%})",
        )
    axes.plot(front.log2_ratio, front.mixed, color=TEXT, lw=2.6, label="the mix")
    axes.axvline(found.log2_ratio, color=TEXT, lw=1.1, ls=":", label="least expected loss")
    _draw_front(axes, front)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylabel("expected shortfall, share of the grid's range")
    lines = ratio_lines(front.log2_ratio.to_numpy(), np.zeros(1))
    axes.xaxis.set_major_locator(FixedLocator(lines))
    axes.set_xticks(lines, [rate(2**line) for line in lines])
    axes.set_xlabel("learning rate / batch size")
    axes.grid(axis="y", lw=0.5, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    legend(axes)
    return figure


def _draw_front(axes: Axes, front: pd.DataFrame) -> None:
    """The undominated ratios as a bar on the axis, in as many pieces as it has."""
    step = float(front.log2_ratio.diff().median())
    label: str | None = "Pareto front: no ratio is better for all"
    for ratio in front.log2_ratio[front.pareto]:
        axes.plot(
            [ratio - step / 2, ratio + step / 2],
            [0, 0],
            color=VERMILION,
            lw=6,
            solid_capstyle="butt",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            label=label,
        )
        label = None
