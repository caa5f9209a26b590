from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.figures import data, style
from analysis.figures.contour import draw_contour
from analysis.figures.ratio import draw_ratio
from analysis.fit.cells import surfaces
from analysis.fit.surface import Fit, fit
from tests.analysis.planted import RATES, SIZES, bowl, table


def fitted(frame: pd.DataFrame) -> Fit:
    return fit(surfaces(frame)[0])


def test_contour_passes_through_the_measured_cells() -> None:
    info = data.contour_info(fitted(table(bowl)))
    assert info.mesh is not None
    corners = info.mesh[[0, 0, -1, -1], [0, -1, 0, -1]]
    values = info.cells.set_index(["learning_rate", "batch_size"]).value
    wanted = [values[rate, size] for size in (4, 32) for rate in (1e-4, 1e-2)]
    assert corners == pytest.approx(wanted)
    assert info.cells.iloc[info.best].learning_rate == 1e-3
    assert info.optimum == pytest.approx((-10, 3.5), abs=0.05)


def test_nothing_is_filled_where_a_cell_diverged() -> None:
    frame = table(bowl)
    corner = (frame.learning_rate == 1e-2) & (frame.batch_size == 4)
    frame.loc[corner, ["status", "value"]] = ["diverged", np.nan]
    info = data.contour_info(fitted(frame))
    assert info.mesh is not None
    assert np.isnan(info.mesh[0, -1]) and np.isfinite(info.mesh[-1, 0])
    assert np.isfinite(info.mesh).mean() > 0.85


def test_a_corner_nobody_measured_is_not_filled() -> None:
    frame = table(bowl, rates=(1e-4, 1e-3), sizes=(4, 8)).iloc[:3]
    mesh = data.contour_info(fitted(frame)).mesh
    assert mesh is not None
    assert np.isnan(mesh[-1, -1]) and 0.4 < np.isfinite(mesh).mean() < 0.6


def test_an_optimum_is_drawn_only_when_identified() -> None:
    info = data.contour_info(fitted(table(lambda x, y: 0.03 * x, noise=0.002)))
    assert info.optimum is None and info.log2_ratio_interval is None


def test_the_region_holds_the_best_measured_cell_of_a_clear_peak() -> None:
    """The top is a cell of this grid, so nothing has to be said."""
    info = data.contour_info(fitted(table(lambda x, y: bowl(x, y + 0.5), noise=0.002, seeds=2)))
    assert info.region and info.best is not None
    assert info.apart == ""


def test_a_best_cell_outside_the_region_gets_a_word() -> None:
    frame = table(bowl, noise=0.002, seeds=2)
    lucky = (frame.learning_rate == 1e-4) & (frame.batch_size == 32)
    frame.loc[lucky, "value"] = 0.62
    info = data.contour_info(fitted(frame))
    if info.region:
        assert info.cells.iloc[info.best].learning_rate == 1e-4
        assert "(1e-4 x 32) lies outside the 95 % region" in info.apart


def test_a_cliff_does_not_take_all_the_colours() -> None:
    def cliff(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(x > -7, 9.0, 2.4 + 0.01 * (x + 10) ** 2)

    info = data.contour_info(fitted(table(cliff, metric="loss")))
    assert info.vmin == pytest.approx(2.4, abs=0.01) and info.vmax < 3


def test_ratio_points_are_the_cells_and_the_curve_stays_among_those_fitted() -> None:
    found = fitted(table(bowl))
    info = data.ratio_info(found, before=0.1)
    assert info.points.log2_ratio.to_numpy() == pytest.approx(
        np.log2([rate / size for rate in RATES for size in SIZES])
    )
    assert info.curve is not None and found.quadratic
    used = info.points.log2_ratio[found.quadratic.used]
    assert (info.curve.log2_ratio.min(), info.curve.log2_ratio.max()) == (used.min(), used.max())
    assert (info.chance, info.before) == (0.25, 0.1)


def test_ratio_lines_are_few_and_whole_powers_of_two() -> None:
    for span in (1.0, 5.0, 30.0):
        lines = data.ratio_lines(np.array([-10.0, -10 + span]), np.array([2.0, 5.0]))
        assert 0 < len(lines) <= 9 and all(line == int(line) for line in lines)


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
def test_figures_of_few_cells_draw(frame: pd.DataFrame) -> None:
    found = fitted(frame)
    for figure in (
        draw_contour(data.contour_info(found)),
        draw_ratio(data.ratio_info(found)),
    ):
        assert style.svg(figure).startswith("<svg")


def test_a_figure_is_saved_as_png_pdf_and_an_svg_that_stands_alone(tmp_path: Path) -> None:
    text = style.save(draw_contour(data.contour_info(fitted(table(bowl)))), tmp_path / "a.b")
    assert "currentColor" in text and style.TEXT not in text and style.PAPER not in text
    alone = (tmp_path / "a.b.svg").read_text()
    assert "currentColor" not in alone and "#000000" in alone and "#ffffff" in alone
    assert (tmp_path / "a.b.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.b.pdf").read_bytes().startswith(b"%PDF")
