import numpy as np
import pandas as pd
import pytest

from analysis.fit.quadratic import CUTS, fit_quadratic
from analysis.fit.surface import Fit, FitStatus, fit
from analysis.posterior.cells import surfaces
from tests.analysis.planted import bowl, table


def fitted(frame: pd.DataFrame) -> Fit:
    return fit(surfaces(frame)[0])


def test_fit_recovers_a_planted_optimum() -> None:
    found = fitted(table(bowl))
    assert found.status is FitStatus.IDENTIFIED and found.optimum
    assert found.optimum == pytest.approx((-10, 3.5, -13.5), abs=0.05)
    assert found.low is not None and found.high is not None
    assert found.low <= -13.5 <= found.high


def test_the_best_of_many_noisy_cells_is_taken_for_lucky() -> None:
    """A flat surface: the best of 20 cells lies two standard errors above the others by chance."""
    frame = table(lambda x, y: 0.5 + 0 * x, noise=0.01)
    found = fitted(frame)
    best = frame.value.max()
    assert found.luck is not None
    assert abs(best - found.luck - 0.5) < 0.5 * abs(best - 0.5)


def test_lower_is_better_is_the_mirror_image() -> None:
    found = fitted(table(lambda x, y: 3 - bowl(x, y), metric="loss"))
    assert found.optimum == pytest.approx((-10, 3.5, -13.5), abs=0.05)


@pytest.mark.slow
def test_interval_covers_the_truth_under_noise() -> None:
    covered = 0
    for seed in range(20):
        frame = table(bowl, stderr=False)
        rng = np.random.default_rng(seed)
        frame["value"] += 0.01 * rng.standard_normal(len(frame))
        found = fitted(frame.assign(stderr=0.01))
        assert found.low is not None and found.high is not None
        covered += found.low <= -13.5 <= found.high
    assert covered >= 18


def test_plateaus_at_both_ends_do_not_move_the_optimum() -> None:
    def bump(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 0.25 + 0.3 * np.exp(-0.4 * (x + 10) ** 2 - 0.15 * (y - 3.5) ** 2)

    rates = tuple(2.0 ** np.arange(-16, -5.5))
    found = fitted(table(bump, rates=rates, sizes=(4, 8, 16, 32), noise=0.003))
    assert found.status is FitStatus.IDENTIFIED and found.optimum
    assert found.optimum.log2_learning_rate == pytest.approx(-10, abs=0.4)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2])
def test_flat_surface_is_refused(seeds: int) -> None:
    refused = 0
    for number in range(20):
        frame = table(lambda x, y: np.full_like(x, 0.4), seeds=seeds)
        rng = np.random.default_rng(number)
        noisy = frame.assign(value=0.4 + 0.01 * rng.standard_normal(len(frame)), stderr=0.01)
        refused += fitted(noisy).status is not FitStatus.IDENTIFIED
    assert refused >= 19


@pytest.mark.parametrize(
    ("slope", "side"),
    [
        ((1, 0), "higher learning rates"),
        ((-1, 0), "lower learning rates"),
        ((0, 1), "larger batches"),
        ((0, -1), "smaller batches"),
    ],
)
def test_edge_names_its_direction(slope: tuple[int, int], side: str) -> None:
    found = fitted(table(lambda x, y: 0.02 * (slope[0] * x + slope[1] * y), noise=0.002))
    assert found.status is FitStatus.EDGE and side in found.reason


def test_a_ridge_along_the_ratio_has_a_ratio() -> None:
    found = fitted(table(lambda x, y: 0.6 - 0.01 * (x - y + 13.5) ** 2, noise=0.003))
    assert found.status is FitStatus.IDENTIFIED and "ridge" in found.reason
    assert found.low is not None and found.high is not None
    assert found.low <= -13.5 <= found.high


def test_too_few_cells_are_said_to_be_too_few() -> None:
    for rates, sizes in (((1e-3, 1e-2), (4, 8, 16, 32)), ((1e-4, 1e-3, 1e-2), (4, 8))):
        found = fitted(table(bowl, rates=rates, sizes=sizes))
        assert found.status is FitStatus.TOO_FEW and found.optimum is None


def test_diverged_cells_are_not_numbers() -> None:
    frame = table(bowl)
    absent = fitted(frame.iloc[1:])
    for value in (np.nan, 1e9):
        diverged = frame.copy()
        diverged.loc[0, ["status", "reason", "value"]] = ["diverged", "nan", value]
        found = fitted(diverged)
        assert found.optimum == pytest.approx(absent.optimum, abs=1e-9)


def test_a_best_setting_next_to_rates_that_diverge_is_placed() -> None:
    """Rising to a wall along the ratio of 2^-12.6."""
    frame = table(
        lambda x, y: 0.5 - 0.02 * (x + 7.5) ** 2 - 0.03 * (y - 3.5) ** 2,
        rates=tuple(2.0 ** np.arange(-14, -5)),
        sizes=(4, 8, 16, 32),
        noise=0.003,
    )
    beyond = np.log2(frame.learning_rate / frame.batch_size) > -12.6
    frame.loc[beyond, ["status", "reason", "value"]] = ["diverged", "nan", np.nan]
    result = fitted(frame)
    assert result.status is FitStatus.IDENTIFIED, result.reason
    assert result.reason == "the optimum lies next to rates that diverge"
    assert result.low is not None and result.high is not None
    assert result.low <= -12.6 <= result.high <= -11


def test_a_score_that_rises_to_the_smallest_batch_along_a_wall_is_at_an_edge() -> None:
    frame = table(
        lambda x, y: 0.4 + 0.02 * (x + 9) - 0.04 * y,
        rates=tuple(2.0 ** np.arange(-14, -5)),
        sizes=(4, 8, 16, 32),
        noise=0.003,
    )
    frame.loc[frame.learning_rate > 2.0**-8.5, ["status", "reason", "value"]] = [
        "diverged", "nan", np.nan,
    ]  # fmt: skip
    result = fitted(frame)
    assert result.status is FitStatus.EDGE
    assert result.reason == "the best scores lie on the border towards smaller batches"


def test_optimum_stays_in_the_grid() -> None:
    found = fitted(table(lambda x, y: -0.01 * (x - 3) ** 2 - 0.01 * (y - 9) ** 2))
    assert found.optimum and found.draws is not None
    assert found.draws[:, 0].max() <= np.log2(1e-2) + 1e-9
    assert found.draws[:, 1].max() <= 5 + 1e-9


def test_an_identified_optimum_s_draws_lie_inside_the_grid() -> None:
    found = fitted(
        table(lambda x, y: 0.5 - 0.01 * (x + 8.5) ** 2 - 0.01 * (y - 3) ** 2, noise=0.01)
    )
    assert found.status is FitStatus.IDENTIFIED and found.posterior and found.draws is not None
    assert found.inside is not None and found.inside < 1, "some tops lie outside"
    box = found.posterior.box
    assert len(found.draws) == len(found.posterior.surfaces.tops)
    assert (found.draws > (box.x_low, box.y_low)).all()
    assert (found.draws < (box.x_high, box.y_high)).all()


def test_wider_cuts_use_more_cells() -> None:
    cells = surfaces(table(bowl, rates=tuple(2.0 ** np.arange(-16, -5.5))))[0]
    counts = [int(fit_quadratic(cells, share).used.sum()) for share in CUTS]
    assert counts == sorted(counts) and counts[-1] == 44


def test_same_table_same_fit() -> None:
    frame = table(bowl, noise=0.01)
    assert np.array_equal(fitted(frame).draws, fitted(frame).draws)  # type: ignore


def test_scores_all_alike_in_every_seed_are_flat() -> None:
    alike = table(lambda x, y: np.zeros_like(x), seeds=2, stderr=False)
    found = fitted(alike.assign(stderr=0.0))
    assert found.status is FitStatus.FLAT
    assert found.flat_p == 1
