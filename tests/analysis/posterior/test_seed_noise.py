import numpy as np
import pandas as pd

from analysis.posterior.seed_noise import SeedNoise, seed_noise


def noise_of(spreads: np.ndarray, near: np.ndarray, seeds: int = 6) -> SeedNoise | None:
    rng = np.random.default_rng(4)
    cell = np.repeat(np.arange(len(spreads)), seeds)
    values = spreads[cell] * rng.standard_normal(len(cell))
    rows = pd.DataFrame({"seed": np.tile(np.arange(seeds), len(spreads)), "value": values})
    return seed_noise(rows, cell, near)


def test_cells_beside_divergence_are_a_kind_of_their_own() -> None:
    near = np.arange(24) >= 18
    found = noise_of(np.where(near, 0.1, 0.01), near)
    assert found is not None
    assert found.cells[near].min() > 3 * found.cells[~near].max()


def test_equal_noise_is_pooled() -> None:
    found = noise_of(np.full(24, 0.02), np.zeros(24, dtype=bool))
    assert found is not None
    assert np.ptp(found.cells) < 0.01 and abs(found.pooled - 0.02) < 0.004


def test_one_seed_tells_nothing() -> None:
    assert noise_of(np.full(5, 0.02), np.zeros(5, dtype=bool), seeds=1) is None
