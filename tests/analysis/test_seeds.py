import numpy as np
import pandas as pd

from analysis.seeds import seed_noise


def members(spreads: np.ndarray, seeds: int = 6) -> list[pd.DataFrame]:
    rng = np.random.default_rng(4)
    return [
        pd.DataFrame(
            {
                "learning_rate": 1e-3 * (cell + 1),
                "batch_size": 8,
                "seed": range(seeds),
                "value": spread * rng.standard_normal(seeds),
            }
        )
        for cell, spread in enumerate(spreads)
    ]


def test_cells_beside_divergence_are_a_kind_of_their_own() -> None:
    near = np.arange(24) >= 18
    found = seed_noise(members(np.where(near, 0.1, 0.01)), near)
    assert found is not None
    assert found.cells[near].min() > 3 * found.cells[~near].max()


def test_equal_noise_is_pooled() -> None:
    found = seed_noise(members(np.full(24, 0.02)), np.zeros(24, dtype=bool))
    assert found is not None
    assert np.ptp(found.cells) < 0.01 and abs(found.pooled - 0.02) < 0.004


def test_one_seed_tells_nothing() -> None:
    assert seed_noise(members(np.full(5, 0.02), seeds=1), np.zeros(5, dtype=bool)) is None
