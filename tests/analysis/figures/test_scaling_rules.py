"""Rules as lines, published settings as points, and where an optimum may lie."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.path import Path

from analysis.figures import contour, scaling_rules, scores, surface_view
from analysis.figures.density_region import region
from analysis.figures.scaling_rules import NoiseScale
from analysis.fit.surface import fit
from analysis.posterior.cells import surfaces
from analysis.posterior.peak import Box
from tests.analysis.planted import bowl, table

BOX = Box(-14.0, -6.0, 2.0, 7.0)
ANCHOR = (-10.0, 4.0)


def by_name(noise: NoiseScale | None = None) -> dict[str, scaling_rules.Line]:
    return {line.name: line for line in scaling_rules.lines(ANCHOR, BOX, noise)}


@pytest.mark.parametrize(
    ("name", "slope"), [("square-root rule", 0.5), (scaling_rules.LINEAR_NAME, 1.0)]
)
def test_rules_go_through_the_optimum_at_their_slope(name: str, slope: float) -> None:
    line = by_name()[name]
    assert np.interp(4.0, line.y, line.x) == pytest.approx(-10)
    assert np.diff(line.x) / np.diff(line.y) == pytest.approx(np.full(len(line.x) - 1, slope))


def test_rules_stay_in_the_grid() -> None:
    line = by_name()[scaling_rules.LINEAR_NAME]
    assert line.x.max() <= BOX.x_high + 1e-9 and line.x.min() >= BOX.x_low - 1e-9
    steep = scaling_rules.lines((-6.0, 2.0), BOX, None)
    assert [one.name for one in steep] == [], "both leave the grid at once"


def test_surge_curve_peaks_at_the_noise_scale_and_falls_both_ways() -> None:
    lines = by_name(NoiseScale(32.0, 20.0, 50.0, 4))
    surge = lines["Surge curve"]
    assert surge.y[surge.x.argmax()] == pytest.approx(5.0, abs=0.1)
    assert np.interp(4.0, surge.y, surge.x) == pytest.approx(-10, abs=1e-3)
    # the formula itself, LR = 2 LR_max / (sqrt(B / BS) + sqrt(BS / B))
    size = 8.0
    wanted = np.log2(2 / (np.sqrt(32 / size) + np.sqrt(size / 32)))
    assert scaling_rules.surge(np.array([3.0]), 5.0)[0] == pytest.approx(wanted)
    assert set(lines["critical batch size"].y) == {5.0}


def test_without_a_measured_noise_scale_there_is_neither_surge_nor_critical_batch() -> None:
    assert set(by_name()) == {"square-root rule", scaling_rules.LINEAR_NAME}


def test_noise_scale_is_the_median_over_trials_that_measured_it() -> None:
    rows = pd.DataFrame(
        {
            "key": ["a", "a", "b", "c", "d", "e"],
            "status": ["ok", "ok", "ok", "ok", "ok", "diverged"],
            "noise_scale": [10.0, 10.0, 20.0, 40.0, np.nan, 9999.0],
        }
    )
    found = scaling_rules.noise_scale(rows)
    assert found is not None and (found.value, found.trials) == (20.0, 3)
    assert scaling_rules.noise_scale(rows.assign(noise_scale=np.nan)) is None


def test_published_settings_outside_are_on_the_border_and_say_where_they_are() -> None:
    points = {point.name: point for point in scaling_rules.points("sft", BOX)}
    inside = points["SmolTulu SFT-1130"]
    assert inside.inside and inside.x == pytest.approx(np.log2(9e-5))
    outside = points["Tulu 3 SFT 8b"]
    assert not outside.inside and (outside.x, outside.y) == (-14.0, 7.0)
    assert "outside this grid, at 5e-6 with batch size 128" in outside.note
    assert scaling_rules.points("pretrain", BOX) == []


def test_region_holds_the_share_asked_for() -> None:
    draws = np.random.default_rng(0).normal([-10, 4.5], [0.6, 0.4], (4000, 2))
    polygons = region(draws, BOX)
    inside = np.any([Path(polygon).contains_points(draws) for polygon in polygons], axis=0)
    assert len(polygons) == 1 and 0.94 < inside.mean() < 0.98


def test_region_of_optima_piled_on_a_border_stays_in_the_grid() -> None:
    draws = np.column_stack([np.full(1000, -6.0), np.linspace(2, 7, 1000)])
    polygons = region(draws, BOX)
    assert polygons and all((one[:, 0] <= -6).all() and (one[:, 0] > -7).all() for one in polygons)


def test_two_likely_places_are_two_regions() -> None:
    rng = np.random.default_rng(0)
    draws = np.vstack([rng.normal([x, 4], 0.2, (500, 2)) for x in (-13, -8)])
    assert len(region(draws, BOX)) == 2


def test_contour_of_an_identified_surface_has_region_and_references() -> None:
    frame = table(bowl, noise=0.002).assign(stage="sft")
    view = surface_view.fitted(fit(surfaces(frame)[0]), noise=NoiseScale(10.0, 8.0, 12.0, 20))
    drawn = contour.contour(view)
    (optimum,) = drawn.named("best setting")
    inside = (float(optimum.x[0]), float(optimum.y[0]))
    assert any(Path(polygon).contains_point(inside) for polygon in contour.optimum_region(view))
    published = [*drawn.named("published setting"), *drawn.named("published, outside")]
    assert sum(len(layer.x) for layer in published) == 4
    assert len([layer for layer in drawn.layers if getattr(layer, "layer", "") == "rules"]) == 3


def test_the_lower_panel_is_what_the_ratio_leaves_over() -> None:
    found = fit(surfaces(table(bowl, noise=0.002))[0])
    drawn = scores.against_ratio(surface_view.fitted(found))
    (curve,) = drawn.named("fit on the ratio alone")
    assert found.quadratic is not None
    left = [one for one in drawn.layers if getattr(one, "panel", 0) and hasattr(one, "cells")]
    rest = np.concatenate([one.y for one in left])
    rows = np.concatenate([one.cells for one in left])
    assert len(rest) == found.quadratic.used.sum()
    cells = found.cells.table.iloc[rows]
    fitted = np.interp(cells.x - cells.y, curve.x, curve.y)
    assert (cells.value - fitted).to_numpy() == pytest.approx(rest, abs=1e-3)
