"""A chart as plain data: axes and layers of fills, lines and points.

Two renderers draw it: `analysis.figures.draw` with matplotlib for paper, `interactive.js` with
plotly for the page. What is shown, and how far the axes reach, is decided here; a renderer only
knows how to draw a layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

Dash = Literal["solid", "dash", "dot", "dashdot"]

TEXT = "#000001"
"""The reader's own text colour: black to the eye on paper, `currentColor` on a page, light or
dark."""

VERMILION, PURPLE, BLUE = "#d55e00", "#cc79a7", "#0072b2"
"""Of Okabe and Ito's palette, which colour-blind readers tell apart."""
GREY = "#8a8f98"

MARKERS = (
    "circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "hexagon",
    "triangle-left", "triangle-right", "star",
)  # fmt: skip


@dataclass(frozen=True)
class Axis:
    """`low` to `high` are the ends of what is drawn. Ticks stand at `places` with the text of
    `labels`; where both are empty the renderer chooses them."""

    name: str
    low: float
    high: float
    places: Sequence[float] = ()
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Colours:
    """The scale of what is coloured by value; brighter is better."""

    name: str
    low: float
    high: float
    higher_is_better: bool


@dataclass(frozen=True)
class Fill:
    """Filled contours of z (length of y by length of x), NaN where nothing is filled."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    kind: str = "fill"


@dataclass(frozen=True)
class Line:
    """A line, or with `filled` a closed polygon.

    name: in the legend, "" for none. halo: white with a dark rim, to be seen over a fill.
    text: stands at its end. note: shown where it is pointed at.
    cell: the cell whose training it is. layer: what switches it on and off on a page,
    "" for always. panel: 1 is the lower one of two.
    """

    x: np.ndarray
    y: np.ndarray
    name: str = ""
    colour: str = TEXT
    width: float = 1.6
    dash: Dash = "solid"
    filled: bool = False
    halo: bool = False
    text: str = ""
    note: str = ""
    cell: str = ""
    layer: str = ""
    panel: int = 0
    kind: str = "line"


@dataclass(frozen=True)
class Points:
    """Markers. `values` colours them by the chart's scale, else `colour` does.

    x_low, x_high: ends of a horizontal bar. y_error: half a vertical bar. size: diameter in points.
    cells: rows of the surface's table, whose description a page shows. notes: as of a line, one
    each. texts: stand beside the markers. Other fields as of a line.
    """

    x: np.ndarray
    y: np.ndarray
    name: str = ""
    marker: str = "circle"
    size: float = 6
    colour: str = TEXT
    edge: str = ""
    hollow: bool = False
    values: np.ndarray | None = None
    x_low: np.ndarray | None = None
    x_high: np.ndarray | None = None
    y_error: np.ndarray | None = None
    cells: np.ndarray | None = None
    notes: Sequence[str] = ()
    texts: Sequence[str] = ()
    layer: str = ""
    panel: int = 0
    kind: str = "points"


@dataclass(frozen=True)
class Chart:
    """Layers are drawn in order. `lower` is the y axis of a second panel below the first."""

    title: str
    x: Axis
    y: Axis
    layers: list[Fill | Line | Points] = field(default_factory=list)
    colours: Colours | None = None
    lower: Axis | None = None

    def named(self, name: str) -> list[Any]:
        """The layers whose name in the legend begins with `name`."""
        return [
            layer
            for layer in self.layers
            if not isinstance(layer, Fill) and layer.name.startswith(name)
        ]


@dataclass(frozen=True)
class Multiples:
    """Charts side by side, all with the axes and the colours of the first."""

    title: str
    charts: tuple[Chart, ...]


def plain(value: Any) -> Any:
    """A chart as JSON's own types: numbers with five digits, null for NaN, defaults left out."""
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((field, getattr(value, field.name)) for field in fields(value))
        return {
            field.name: plain(item)
            for field, item in pairs
            if field.name in ("kind", "x", "y") or not _is_default(item, field.default)
        }
    if isinstance(value, np.ndarray | pd.Series):
        array = np.asarray(value)
        if array.ndim == 1 and array.dtype.kind == "f":  # most of what there is
            return [_short(item) for item in array.tolist()]
        return [plain(item) for item in (array if array.ndim > 1 else array.tolist())]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return _short(value) if isinstance(value, float) else value


def _short(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _is_default(value: Any, default: Any) -> bool:
    return value is default or (isinstance(value, str | bool | int | tuple) and value == default)


def log2_axis(places: np.ndarray, texts: Sequence[str], name: str, most: int = 10) -> Axis:
    """An axis of log2 units with ticks at values that were used, at most `most` of them."""
    pairs = sorted(dict(zip(places.tolist(), texts, strict=True)).items())
    low, high = pairs[0][0], pairs[-1][0]
    pad = 0.06 * max(high - low, 1.0)
    pairs = pairs[:: int(np.ceil(len(pairs) / most))]
    return Axis(name, low - pad, high + pad, [p for p, _ in pairs], [text for _, text in pairs])
