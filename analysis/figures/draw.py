"""A chart with matplotlib, for paper and for the still figures of a page."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from analysis.figures import chart as data
from analysis.figures.chart import Axis, Chart, Colours, Fill, Line, Multiples, Points
from analysis.figures.style import legend, new_figure, new_figures, styled
from analysis.text import number

LEVELS = 12
DASHES: dict[str, Any] = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
MARKERS = dict(zip(data.MARKERS, "osD^vPh<>*", strict=True)) | {
    "x": "X", "arrow-up": "$\u2191$", "arrow-down": "$\u2193$", "diamond-tall": "d",
}  # fmt: skip


@styled
def draw(chart: Chart) -> Figure:
    """All layers of a chart, in their order, with its legend below."""
    figure, panels = new_figure(chart.title, below=chart.lower is not None)
    scale = None if chart.colours is None else _Scale(chart.colours)
    _draw_on(panels, chart, scale)
    if scale is not None:
        _colour_bar(figure, panels[:1], scale, chart.colours)
    legend(panels[:1])
    return figure


@styled
def draw_multiples(multiples: Multiples) -> Figure:
    """All charts with one scale and one legend; axes that all share are named at the border
    alone."""
    charts = multiples.charts
    share_x = all(chart.x == charts[0].x for chart in charts)
    figure, panels = new_figures(multiples.title, len(charts), share_x)
    colours = charts[0].colours
    scale = None if colours is None else _Scale(colours)
    for axes, chart in zip(panels, charts, strict=True):
        _draw_on([axes], chart, scale)
        axes.set_title(chart.title, fontsize=9, loc="left", pad=5)
        if share_x:
            axes.label_outer()
        elif (place := axes.get_subplotspec()) is not None and not place.is_first_col():
            axes.set_ylabel("")
        axes.tick_params(axis="x", rotation=45)
    if scale is not None:
        _colour_bar(figure, panels, scale, colours)
    legend(panels)
    return figure


def _draw_on(panels: list[Axes], chart: Chart, scale: "_Scale | None") -> None:
    """The layers and axes of a chart."""
    for order, layer in enumerate(chart.layers):
        match layer:
            case Fill():
                assert scale is not None, "a fill has colours"
                panels[0].contourf(
                    layer.x, layer.y, layer.z, scale.bounds, cmap=scale.cmap, norm=scale.norm,
                    extend="both",
                )  # fmt: skip
            case Line():
                _draw_line(panels[layer.panel], layer, order, chart)
            case Points():
                _draw_points(panels[layer.panel], layer, order, scale)
    for axes, axis in zip(panels, (chart.y, chart.lower), strict=False):
        assert axis is not None
        _set_axis(axes, axis, "y")
        axes.spines[["top", "right"]].set_visible(False)
        if chart.colours is None:
            axes.grid(axis="y", lw=0.5, alpha=0.3)
        else:
            axes.spines[:].set_visible(False)
    _set_axis(panels[-1], chart.x, "x")


class _Scale:
    """Matplotlib's view of the colour scale."""

    def __init__(self, colours: Colours) -> None:
        self.bounds = np.linspace(colours.low, colours.high, LEVELS + 1)
        self.norm = BoundaryNorm(self.bounds, 256)
        self.cmap = "viridis" if colours.higher_is_better else "viridis_r"


def _colour_bar(figure: Figure, axes: list[Axes], scale: _Scale, colours: Colours | None) -> None:
    mappable = ScalarMappable(scale.norm, scale.cmap)
    bar = figure.colorbar(mappable, ax=axes, fraction=0.05, pad=0.11 / len(axes))
    bar.set_label(colours.name if colours else "")
    bar.set_ticks(list(scale.bounds[::3]))
    bar.ax.set_yticklabels([number(value, 3) for value in scale.bounds[::3]])
    bar.outline.set_visible(False)  # type: ignore[operator]


def _set_axis(axes: Axes, axis: Axis, which: str) -> None:
    artist = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xlim if which == "x" else axes.set_ylim)(axis.low, axis.high)
    artist.set_label_text(axis.name)
    if axis.places:
        artist.set_major_locator(FixedLocator(axis.places))
        artist.set_minor_locator(NullLocator())
        artist.set_ticklabels(axis.labels)


def _draw_line(axes: Axes, line: Line, order: int, chart: Chart) -> None:
    style: dict[str, Any] = {"zorder": 3 + order / 1000, "ls": DASHES[line.dash]}
    if line.halo:
        axes.plot(line.x, line.y, color="black", lw=line.width + 0.9, alpha=0.35, **style)
    if line.filled:
        axes.fill(line.x, line.y, facecolor="none", edgecolor="white", hatch="////", alpha=0.55,
                  lw=0, zorder=style["zorder"])  # fmt: skip
    colour = "white" if line.halo else line.colour
    axes.plot(line.x, line.y, color=colour, lw=line.width, label=line.name or None, **style)
    if line.text:
        at_top = line.y[-1] >= chart.y.high - 1e-9
        axes.annotate(
            line.text, (line.x[-1], line.y[-1]), xytext=(0, 3) if at_top else (4, 0),
            textcoords="offset points", ha="center" if at_top else "left",
            va="bottom" if at_top else "center", fontsize=7.5, annotation_clip=False,
        )  # fmt: skip


def _draw_points(axes: Axes, points: Points, order: int, scale: _Scale | None) -> None:
    zorder = 4 + order / 1000
    bars = {"fmt": "none", "elinewidth": 1.1, "capsize": 0, "zorder": zorder}
    if points.y_error is not None:
        errors = np.nan_to_num(points.y_error)
        axes.errorbar(points.x, points.y, yerr=errors, ecolor=points.colour, **bars)
    if points.x_low is not None and points.x_high is not None:
        for colour, width in (("black", 3.0), ("white", 1.4)):
            axes.hlines(
                points.y, points.x_low, points.x_high, color=colour, lw=width, zorder=zorder
            )
    if points.values is not None and scale is not None:
        tint: dict[str, Any] = {"c": points.values, "cmap": scale.cmap, "norm": scale.norm}
    else:
        tint = {"color": points.colour}
    if points.hollow:
        tint = {"facecolors": "none", "edgecolors": points.colour, "linewidths": 1.6}
    elif points.edge:
        tint |= {"edgecolors": points.edge, "linewidths": 1.0}
    axes.scatter(
        points.x, points.y, marker=MARKERS[points.marker], s=points.size**2, zorder=zorder,
        label=points.name or None, clip_on=False, **tint,
    )  # fmt: skip
    box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.75}
    for x, y, text in zip(points.x, points.y, points.texts, strict=False):
        axes.annotate(
            text, (x, y), xytext=(6, 5), textcoords="offset points", fontsize=7.5, zorder=6,
            color="black", bbox=box,
        )  # fmt: skip
