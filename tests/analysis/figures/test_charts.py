"""Charts as plain data, and that matplotlib draws them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.figures import chart, contour, scores, style, surface_view
from analysis.figures.chart import Chart, Fill, Line, Points
from analysis.figures.draw import draw
from analysis.figures.surface_view import SurfaceView
from analysis.fit.surface import fit
from analysis.posterior.cells import surfaces
from tests.analysis.planted import RATES, SIZES, bowl, table


def view(frame: pd.DataFrame, **extra) -> SurfaceView:
    return surface_view.fitted(fit(surfaces(frame)[0]), **extra)


def fill(drawn: Chart) -> Fill | None:
    return next((layer for layer in drawn.layers if isinstance(layer, Fill)), None)


def points(drawn: Chart, name: str) -> list[Points]:
    return [layer for layer in drawn.named(name) if isinstance(layer, Points)]


def best_rates() -> pd.DataFrame:
    y = np.log2(np.array(SIZES, dtype=float))
    return pd.DataFrame(
        {"batch_size": SIZES, "y": y, "x": y - 13, "low": y - 14, "high": y - 12}
    ).assign(status=["edge", "interior", "interior", "level"])


def test_contour_passes_through_the_measured_cells() -> None:
    drawn = contour.contour(view(table(bowl)))
    filled = fill(drawn)
    assert filled is not None
    corners = filled.z[[0, 0, -1, -1], [0, -1, 0, -1]]
    x, y = np.log2(RATES)[[0, -1, 0, -1]], np.log2(SIZES)[[0, 0, -1, -1]]
    assert corners == pytest.approx(bowl(x, y))
    (best,) = points(drawn, "best cell")
    assert best.x == pytest.approx([np.log2(1e-3)])
    (optimum,) = points(drawn, "best setting")
    assert (optimum.x[0], optimum.y[0]) == pytest.approx((-10, 3.5), abs=0.05)


def test_nothing_is_filled_where_a_cell_diverged() -> None:
    frame = table(bowl)
    corner = (frame.learning_rate == 1e-2) & (frame.batch_size == 4)
    frame.loc[corner, ["status", "value"]] = ["diverged", np.nan]
    drawn = contour.contour(view(frame))
    filled = fill(drawn)
    assert filled is not None
    assert np.isnan(filled.z[0, -1]) and np.isfinite(filled.z[-1, 0])
    assert np.isfinite(filled.z).mean() > 0.85
    assert len(points(drawn, "diverged")[0].x) == 1


def test_a_corner_nobody_measured_is_not_filled() -> None:
    frame = table(bowl, rates=(1e-4, 1e-3), sizes=(4, 8)).iloc[:3]
    filled = fill(contour.contour(view(frame)))
    assert filled is not None
    assert np.isnan(filled.z[-1, -1]) and 0.4 < np.isfinite(filled.z).mean() < 0.6


def test_a_setting_over_both_axes_is_drawn_only_when_identified() -> None:
    drawn = contour.contour(view(table(lambda x, y: 0.03 * x, noise=0.002)))
    assert not drawn.named("best setting") and not drawn.named("95 % region")


def test_the_best_rate_of_each_batch_size_is_drawn_with_its_interval() -> None:
    drawn = contour.contour(view(table(bowl), best_rates=best_rates()))
    inside, other = points(drawn, "best learning rate")[0], points(drawn, "the same")[0]
    assert len(inside.x) == 2 and len(other.x) == 2
    assert inside.x_low is not None and inside.x_high is not None
    assert (inside.x_high - inside.x_low).tolist() == [2.0, 2.0]
    assert "(edge)" in other.notes[0]


@pytest.mark.parametrize(
    ("rate", "size", "cell", "why"),
    [
        (1e-4, 32, "1e-4 x 32", "as good as the best within the noise"),
        (3e-4, 4, "3e-4 x 4", "most likely luck"),
    ],
)
def test_a_best_cell_outside_the_region_is_explained(rate, size, cell, why) -> None:
    frame = table(bowl, noise=0.002, seeds=2)
    lucky = (frame.learning_rate == rate) & (frame.batch_size == size)
    frame.loc[lucky, "value"] = 0.605
    note = contour.outlier_note(view(frame))
    assert f"({cell}) lies outside the 95 % region" in note
    assert why in note


def test_a_best_cell_inside_the_region_is_not_explained() -> None:
    surface = view(table(lambda x, y: bowl(x, y + 0.5), noise=0.002))
    assert contour.optimum_region(surface)
    assert contour.outlier_note(surface) == ""


def test_a_cliff_does_not_take_all_the_colours() -> None:
    def cliff(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(x > -7, 9.0, 2.4 + 0.01 * (x + 10) ** 2)

    surface = view(table(cliff, metric="loss"))
    assert surface.vmin == pytest.approx(2.4, abs=0.01) and surface.vmax < 3
    drawn = scores.against_rate(surface)
    assert drawn.named("above the scale, to 9") and drawn.y.high < 3.5


def test_ratio_points_are_the_cells_and_the_fit_stays_among_those_fitted() -> None:
    surface = view(table(bowl), before=0.1)
    drawn = scores.against_ratio(surface)
    shown = np.concatenate([layer.x for layer in points(drawn, "batch size")])
    assert sorted(shown) == pytest.approx(sorted(np.log2(r / s) for r in RATES for s in SIZES))
    assert surface.fit and surface.fit.quadratic
    ratios = (surface.cells.x - surface.cells.y)[surface.fit.quadratic.used]
    (curve,) = drawn.named("fit on the ratio alone")
    assert (curve.x.min(), curve.x.max()) == pytest.approx((ratios.min(), ratios.max()))
    assert drawn.lower is not None and drawn.named("chance (0.25)")


@pytest.mark.parametrize("noise", [0.002, 0.05, 0.5])
@pytest.mark.parametrize("draw_of", [scores.against_rate, scores.against_ratio])
def test_no_error_bar_is_cut_by_its_axis(noise: float, draw_of) -> None:
    drawn = draw_of(view(table(bowl, noise=noise), best_rates=best_rates()))
    panels = [drawn.y, drawn.lower]
    bars = [one for one in drawn.layers if isinstance(one, Points) and one.y_error is not None]
    assert bars
    for layer in bars:
        axis = panels[layer.panel]
        assert axis is not None and layer.y_error is not None
        assert (layer.y + layer.y_error).max() <= axis.high
        assert (layer.y - layer.y_error).min() >= axis.low


def test_one_learning_rate_is_drawn_against_the_batch_size() -> None:
    drawn = scores.against_rate(view(table(bowl, rates=(1e-3,))))
    assert drawn.x.name == "batch size" and list(drawn.x.labels) == ["4", "8", "16", "32"]


def test_ratio_lines_are_few_and_whole_powers_of_two() -> None:
    for span in (1.0, 5.0, 30.0):
        lines = contour.ratio_lines(np.array([-10.0, -10 + span]), np.array([2.0, 5.0]))
        assert 0 < len(lines) <= 9 and all(line == int(line) for line in lines)


def test_a_chart_for_the_page_has_five_digits_and_no_defaults() -> None:
    layer = Line(np.array([1 / 3, np.nan]), np.array([0.0, 1.0]), name="a")
    axis = chart.Axis("x", 0.0, 1.0)
    record = chart.plain(Chart("t", axis, axis, [layer]))
    assert record["layers"] == [
        {"x": [0.33333, None], "y": [0.0, 1.0], "name": "a", "kind": "line"}
    ]
    assert "colours" not in record and "lower" not in record


def _with_status(frame: pd.DataFrame, rows: slice, status: str) -> pd.DataFrame:
    frame.loc[frame.index[rows], "status"] = status
    frame.loc[frame.index[rows], "value"] = np.nan
    return frame


@pytest.mark.parametrize(
    "frame",
    [
        table(bowl, rates=(1e-4, 1e-3), sizes=(4, 8)),
        table(bowl, rates=(1e-4, 1e-3), sizes=(4, 8)).iloc[:3],
        table(bowl, rates=(1e-4, 1e-3), sizes=(4, 8)).iloc[[0, 3]],
        table(bowl, sizes=(8,)),
        table(bowl, rates=(1e-3,)),
        _with_status(table(bowl, sizes=(8,)), slice(1, 3), "failed"),
        _with_status(table(bowl), slice(0, 20), "diverged"),
        _with_status(table(bowl), slice(0, 19), "diverged"),
        table(lambda x, y: np.zeros_like(x)),
    ],
    ids=["2x2", "3 cells", "diagonal", "a row", "a column", "gaps", "all bad", "one ok", "zeros"],
)
def test_charts_of_few_cells_draw(frame: pd.DataFrame) -> None:
    surface = view(frame)
    for build in (contour.contour, scores.against_rate, scores.against_ratio):
        assert style.svg(draw(build(surface))).startswith("<svg")


def test_a_figure_is_saved_as_png_pdf_and_an_svg_that_stands_alone(tmp_path: Path) -> None:
    drawn = draw(contour.contour(view(table(bowl), best_rates=best_rates())))
    text = style.save(drawn, tmp_path / "a.b")
    assert "currentColor" in text and chart.TEXT not in text and style.PAPER not in text
    alone = (tmp_path / "a.b.svg").read_text()
    assert "currentColor" not in alone and "#000001" in alone and "#fffffe" in alone
    assert (tmp_path / "a.b.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.b.pdf").read_bytes().startswith(b"%PDF")
