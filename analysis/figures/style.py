"""What all still figures share: size, fonts, legend, and the formats a figure is saved in."""

import functools
import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.figures import fonts
from analysis.figures.chart import TEXT

PAPER = "#fffffe"
"""The background, white to the eye. No layer has its colour or that of `TEXT`, so both can be
replaced in an SVG."""

STYLE: dict[Any, Any] = {
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": TEXT,
    "axes.titlecolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "svg.fonttype": "none",
    "svg.hashsalt": "analysis",
    "pdf.fonttype": 42,  # TrueType, which journals ask for
    "axes.facecolor": "none",
    "hatch.linewidth": 0.5,
}

Info = TypeVar("Info")


def _style() -> AbstractContextManager[None]:
    settings: dict[Any, Any] = {**STYLE, "font.family": fonts.families()}
    return matplotlib.rc_context(settings)


def styled(draw: Callable[[Info], Figure]) -> Callable[[Info], Figure]:
    """Draw in the project's style, whatever matplotlib is set to."""

    @functools.wraps(draw)
    def in_style(info: Info) -> Figure:
        with _style():
            return draw(info)

    return in_style


def save(figure: Figure, path: Path) -> str:
    """Write PATH.png (200 dots per inch), .svg and .pdf; returns the SVG to stand in a page."""
    with _style():
        figure.draw_without_rendering()
        figure.set_layout_engine(None)  # laid out once: each format would do it again
        figure.savefig(path.with_name(f"{path.name}.png"), dpi=200, facecolor="white")
        nameless = dict.fromkeys(("Creator", "Producer", "CreationDate"))
        figure.savefig(path.with_name(f"{path.name}.pdf"), facecolor="white", metadata=nameless)
    text = svg(figure)
    path.with_name(f"{path.name}.svg").write_text(text, encoding="utf-8")
    return embedded(text)


def svg(figure: Figure) -> str:
    """An <svg> element, its text in the reader's own font."""
    with _style(), io.StringIO() as buffer:
        figure.savefig(
            buffer,
            format="svg",
            facecolor=PAPER,
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )
        text = buffer.getvalue()
    return text[text.index("<svg") :].replace(f"'{fonts.NAME}', ", "")


def embedded(text: str) -> str:
    """An <svg> whose text and background are those of the page it stands in, light or dark."""
    return text.replace(TEXT, "currentColor").replace(PAPER, "none")


def new_figure(heading: str, below: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with its heading and one set of axes, or a second, lower one that shares its x."""
    figure = Figure(figsize=(6.4, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    shape: dict[str, Any] = {"height_ratios": [3, 1]} if below else {}
    grid = figure.subplots(1 + below, 1, sharex=True, squeeze=False, **shape)
    axes = list(grid[:, 0])
    axes[0].set_title(heading, fontsize=11, fontweight="bold", loc="left", pad=16)
    for panel in axes:
        panel.tick_params(labelsize=8.5)
    return figure, axes


ACROSS = 4
"""Charts of small multiples in a row."""


def new_figures(heading: str, count: int, share_x: bool) -> tuple[Figure, list[Axes]]:
    """A figure with its heading and as many axes, in rows; the ends of y are the same in all, and
    those of x where they are shared."""
    across = min(count, ACROSS)
    rows = -(-count // across)
    figure = Figure(figsize=(2.5 * across + 1.4, 2.5 * rows + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, across, sharex=share_x, sharey=True, squeeze=False)
    figure.suptitle(heading, fontsize=11, fontweight="bold", x=0.02, ha="left")
    axes = list(grid.flat)
    for panel in axes[count:]:
        panel.set_visible(False)
    for panel in axes[:count]:
        panel.tick_params(labelsize=7.5)
    return figure, axes[:count]


def legend(panels: list[Axes]) -> None:
    """Below the figure, in two columns: what is named in any of the panels, once."""
    named = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    if named:
        labels, handles = list(named), list(named.values())
        panels[0].figure.legend(  # type: ignore[union-attr]
            handles,
            labels,
            loc="outside lower left",
            ncols=2,
            fontsize=8,
            frameon=False,
            handletextpad=0.5,
            columnspacing=1.4,
        )


def shades(count: int) -> list[str]:
    """Colours from small to large, legible on light and dark pages."""
    places = np.linspace(0.3, 0.9, max(count, 1))
    parts = [colormaps["viridis"](place)[:3] for place in places]
    return ["#" + "".join(f"{round(255 * part):02x}" for part in colour) for colour in parts]
