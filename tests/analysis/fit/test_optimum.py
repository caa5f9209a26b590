"""Prediction, the set of good cells, the path and the chosen cell of a planted surface."""

import numpy as np

from analysis.fit.surface import Fit, fit
from analysis.posterior.cells import surfaces
from tests.analysis.planted import bowl, table


def ridge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.6 - 0.02 * (x + 10 - 0.5 * (y - 3.5)) ** 2 - 0.004 * (y - 3.5) ** 2


def fitted(score=bowl, noise: float = 0.01, seeds: int = 3) -> Fit:
    return fit(surfaces(table(score, noise=noise, seeds=seeds))[0])


def test_prediction_is_in_the_score_s_units_and_holds_the_truth() -> None:
    found = fitted()
    table = found.cells.table
    x, y = table.x.to_numpy(), table.y.to_numpy()
    mean, spread = found.predict(x, y)
    assert mean.shape == x.shape
    assert (np.abs(mean - bowl(x, y)) <= 3 * spread + 1e-3).mean() > 0.9
    assert np.sqrt(np.mean((mean - bowl(x, y)) ** 2)) < 0.01


def test_the_chosen_cell_s_score_is_taken_back_towards_the_truth() -> None:
    gaps = []
    for shift in range(6):
        found = fitted(lambda x, y, s=shift: bowl(x, y) + 0.01 * np.sin(7 * s + 5 * x + 3 * y))
        assert found.best_cell is not None
        best = found.cells.table.value.max()
        gaps.append(best - found.best_cell.corrected)
        assert 0 <= found.best_cell.regret <= found.best_cell.regret_high
    assert np.mean(gaps) > 0


def test_the_good_cells_hold_the_true_best() -> None:
    found = fitted()
    assert found.epsilon_set is not None
    truth = bowl(found.epsilon_set.x.to_numpy(), found.epsilon_set.y.to_numpy())
    assert found.epsilon_set.possible.to_numpy()[truth.argmax()]
    assert not found.epsilon_set.possible.to_numpy()[truth.argmin()]
