"""Small multiples: the surface of one benchmark for each value of a setting, on one scale."""

from collections.abc import Sequence
from dataclasses import replace

from analysis.figures import contour, scores
from analysis.figures.chart import Axis, Chart, Fill, Line, Multiples, Points
from analysis.figures.surface_view import SurfaceView

Layer = Fill | Line | Points

LEFT_OUT = (contour.RATIOS, contour.RULES, contour.PUBLISHED)
"""Layers that a small chart has no room for."""


LEAST_SHARE = 0.5
"""Of a shared axis, the part that the narrowest chart takes; below that each has its own."""


def multiples(title: str, names: Sequence[str], views: Sequence[SurfaceView]) -> Multiples:
    """One chart for each view: contours over both axes where all views have both, else scores
    against the one that they have. Scores have one scale, and rates too, unless they lie so far
    apart that a chart would be mostly empty."""
    low, high = min(view.vmin for view in views), max(view.vmax for view in views)
    views = [replace(view, vmin=low, vmax=high, before=None) for view in views]
    both = all(view.cells.x.nunique() > 1 and view.cells.y.nunique() > 1 for view in views)
    drawn = [contour.contour(view) if both else scores.against_rate(view) for view in views]
    across, y = (_together([getattr(chart, which) for chart in drawn]) for which in ("x", "y"))
    narrowest = min(chart.x.high - chart.x.low for chart in drawn)
    own = narrowest < LEAST_SHARE * (across.high - across.low)
    charts = []
    for name, chart in zip(names, drawn, strict=True):
        x = chart.x if own else across
        layers = [
            _nameless(layer)
            for layer in chart.layers
            if not (isinstance(layer, Line | Points) and layer.layer in LEFT_OUT)
        ]
        charts.append(Chart(name, x, y, layers, chart.colours))
    return Multiples(title, tuple(charts))


def _nameless(layer: Layer) -> Layer:
    """A star without its own score in the legend, which all charts share."""
    if isinstance(layer, Points) and layer.marker == "star":
        return replace(layer, name=layer.name.partition(" (")[0])
    return layer


def _together(axes: Sequence[Axis]) -> Axis:
    """One axis that holds all, with every tick."""
    ticks = dict(
        pair for axis in axes for pair in zip(axis.places, axis.labels, strict=True)
    )  # fmt: skip
    places = sorted(ticks)
    return Axis(
        axes[0].name,
        min(axis.low for axis in axes),
        max(axis.high for axis in axes),
        places,
        [ticks[place] for place in places],
    )
