"""Small multiples: one scale for all, and what fits on a small chart."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.figures import contour
from analysis.figures.draw import draw_multiples
from analysis.figures.multiples import multiples
from analysis.figures.surface_view import SurfaceView, measured
from tests.analysis import planted

NAMES = ["adapter.rank 4", "adapter.rank 16"]


def views(sizes: tuple[int, ...]) -> list[SurfaceView]:
    """Of different rates and scores."""
    ends = (planted.RATES[:4], planted.RATES[1:])
    tables = [planted.table(planted.bowl, rates=rates, sizes=sizes) for rates in ends]
    low, high = (next(measured(table)) for table in tables)
    return [low, replace(high, vmin=high.vmin + 0.1, vmax=high.vmax + 0.1)]


@pytest.mark.parametrize("sizes", [planted.SIZES, (8,)], ids=["surfaces", "curves"])
def test_all_charts_have_one_scale_that_holds_them_all(sizes):
    given = views(sizes)
    made = multiples("ARC", NAMES, given)
    first, second = made.charts
    assert (first.x, first.y, first.colours) == (second.x, second.y, second.colours)
    assert [chart.title for chart in made.charts] == NAMES
    rates = np.log2([planted.RATES[0], planted.RATES[-1]])
    assert first.x.low < rates[0] and rates[1] < first.x.high
    assert len(first.x.places) == len(planted.RATES)
    if len(sizes) > 1:
        assert first.colours is not None
        assert first.colours.low == min(view.vmin for view in given)
        assert first.colours.high == max(view.vmax for view in given)
        assert not [layer for layer in first.named("") if layer.layer == contour.RULES]
        assert [layer.name for layer in first.named("best cell")] == ["best cell as measured"]


def test_rates_far_apart_have_an_axis_for_each_chart():
    ends = (planted.RATES, [1e4 * rate for rate in planted.RATES])
    tables = [planted.table(planted.bowl, rates=rates, sizes=planted.SIZES) for rates in ends]
    made = multiples("ARC", NAMES, [next(measured(table)) for table in tables])
    first, second = made.charts
    assert first.x.high < second.x.low
    assert (first.y, first.colours) == (second.y, second.colours)
    panels = [axes for axes in draw_multiples(made).axes if axes.get_title("left")]
    assert [panel.get_xlim() for panel in panels] == [(c.x.low, c.x.high) for c in made.charts]
    assert all(panel.get_xticklabels()[0].get_visible() for panel in panels)


@pytest.mark.parametrize("count", [2, 5])
def test_figure_has_a_panel_for_each_chart_and_one_legend(count):
    made = multiples("ARC", NAMES, views(planted.SIZES))
    charts = tuple(made.charts[place % 2] for place in range(count))
    figure = draw_multiples(replace(made, charts=charts))
    panels = [axes for axes in figure.axes if axes.get_visible() and axes.get_title("left")]
    assert len(panels) == count
    assert len(figure.legends) == 1
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(texts) == len(set(texts))
