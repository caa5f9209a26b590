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


def test_runs_with_a_seed_of_their_own_tell_as_much_as_shared_ones() -> None:
    values = 0.02 * np.random.default_rng(7).standard_normal(72)
    rows = pd.DataFrame({"seed": np.arange(72), "value": values})
    found = seed_noise(rows, np.repeat(np.arange(24), 3), np.zeros(24, dtype=bool))
    assert found is not None and found.freedom == 48
    assert abs(found.pooled - 0.02) < 0.005


def test_a_few_repeats_of_a_grid_of_one_seed_tell() -> None:
    """Four of 12 cells have a second run, each with a seed of its own."""
    rng = np.random.default_rng(8)
    found = []
    for _ in range(200):
        values = 0.02 * rng.standard_normal(16)
        rows = pd.DataFrame({"seed": [0] * 12 + [1, 2, 3, 4], "value": values})
        cell = np.concatenate([np.arange(12), np.arange(4)])
        one = seed_noise(rows, cell, np.zeros(12, dtype=bool))
        assert one is not None and one.freedom == 3
        found.append(one.pooled**2)
    assert abs(np.sqrt(np.mean(found)) - 0.02) < 0.002


def test_what_a_seed_does_to_all_cells_is_taken_out_where_seeds_are_uneven() -> None:
    """Seeds far apart, each in a part of the cells: only the runs' own noise is left."""
    rng = np.random.default_rng(9)
    cell, seed = np.meshgrid(np.arange(30), np.arange(4), indexing="ij")
    there = rng.random(cell.shape) < 0.7
    values = (seed + 0.02 * rng.standard_normal(cell.shape))[there]
    rows = pd.DataFrame({"seed": seed[there], "value": values})
    number = np.unique(cell[there], return_inverse=True)[1]
    found = seed_noise(rows, number, np.zeros(number.max() + 1, dtype=bool))
    assert found is not None and abs(found.pooled - 0.02) < 0.004


def test_blocks_of_cells_with_seeds_of_their_own_are_counted_apart() -> None:
    """Ten blocks of two cells by two seeds: one degree of freedom each."""
    values = 0.02 * np.random.default_rng(10).standard_normal(40)
    cell = np.repeat(np.arange(20), 2)
    seed = 2 * (cell // 2) + np.tile([0, 1], 20)
    found = seed_noise(
        pd.DataFrame({"seed": seed, "value": values}), cell, np.zeros(20, dtype=bool)
    )
    assert found is not None and found.freedom == 10
    assert abs(found.pooled - 0.02) < 0.01


def test_one_seed_tells_nothing() -> None:
    assert noise_of(np.full(5, 0.02), np.zeros(5, dtype=bool), seeds=1) is None


def test_answers_that_seeds_flip_are_noise_of_the_items_already() -> None:
    """Of 3 seeds that differ in their answers alone the bootstrap over items has everything."""
    rng = np.random.default_rng(12)
    cell, seed = np.repeat(np.arange(36), 3), np.tile(np.arange(3), 36)
    answers = rng.standard_normal((36, 400))[cell] + rng.standard_normal((108, 400))
    own = 0.1 * rng.standard_normal(108)
    away = np.zeros(36, dtype=bool)
    for extra, share in ((0.0, 1.0), (own, 0.2)):
        scored = answers + np.reshape(extra, (-1, 1))
        rows = pd.DataFrame({"seed": seed, "value": scored.mean(axis=1)})
        found = seed_noise(rows, cell, away, scored)
        assert found is not None and abs(found.items - share) < 0.15
        known = found.variances(np.full(36, 3.0)).mean()
        assert abs(known - np.var(extra) / 3) < 0.0005


def test_a_pair_of_seeds_leaves_the_noise_of_unknown_size() -> None:
    for seeds, widest in ((2, 50), (72, 1.6)):
        rows = pd.DataFrame({"seed": np.arange(seeds), "value": np.arange(seeds) % 2 * 0.01})
        found = seed_noise(rows, np.zeros(seeds, dtype=int), np.zeros(1, dtype=bool))
        assert found is not None
        times = found.times(np.array([1, 11]) / 12)
        assert (times[1] / times[0] > widest) == (seeds == 2)
