"""Figures are drawn where their numbers changed, and only there."""

import os

import numpy as np
import pytest

from analysis.figures import fonts, kept, style
from analysis.figures.chart import Axis, Chart, Line
from analysis.figures.draw import draw


def chart(top: float) -> Chart:
    line = Line(np.array([0.0, 1.0]), np.array([0.0, top]), name="0.5 ± 0.1")
    return Chart("a line", Axis("x", 0, 1), Axis("y", 0, 2), [line])


@pytest.fixture
def path(tmp_path):
    """A figure that is drawn and kept."""
    path = tmp_path / "figures" / "line"
    path.parent.mkdir()
    style.save(draw(chart(1.0)), path)
    path.with_name("line.csv").write_bytes(b"x,y")
    kept.keep(path, chart(1.0), b"x,y")
    return path


def test_same_numbers_give_the_same_figure_without_drawing(path):
    assert kept.drawn(path, chart(1.0), b"x,y") == style.embedded(
        path.with_name("line.svg").read_text()
    )


@pytest.mark.parametrize("changed", ["chart", "table", "file", "record"])
def test_what_changed_is_drawn_again(path, changed):
    if changed == "file":
        path.with_name("line.pdf").unlink()
    if changed == "record":
        path.parent.with_name(kept.RECORD).write_text("{half")
    top, table = (2.0 if changed == "chart" else 1.0), (b"z" if changed == "table" else b"x,y")
    assert kept.drawn(path, chart(top), table) is None


def test_short_fonts_lie_in_the_cache_of_matplotlib():
    import matplotlib

    assert fonts.families() == [fonts.NAME, fonts.WHOLE]
    assert any(name.startswith("short-") for name in os.listdir(matplotlib.get_cachedir()))
