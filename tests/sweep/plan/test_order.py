"""Coarse cells first: a part of the grid already covers the whole."""

import itertools

import pytest

from sweep.plan.order import coarse_first

RATES = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
SIZES = [4, 8, 16, 32, 64]
CELLS = list(itertools.product(RATES, SIZES))


def test_order_has_every_cell_once():
    assert sorted(coarse_first(CELLS)) == list(range(25))


def test_corners_come_first_and_then_the_centre():
    first = [CELLS[index] for index in coarse_first(CELLS)[:5]]
    assert set(first[:4]) == {(1e-4, 4), (1e-4, 64), (1.0, 4), (1.0, 64)}
    assert first[4] == (1e-2, 16)


def test_order_hangs_on_places_and_not_on_values():
    other = [(index // 5 + 1.0, index % 5 + 1.0) for index in range(25)]
    assert coarse_first(other) == coarse_first(CELLS)


def test_seeds_follow_when_all_cells_ran_once():
    twice = [cell for cell in CELLS for _ in range(2)]
    order = coarse_first(twice)
    assert {twice[index] for index in order[:25]} == set(CELLS)
    assert [twice[i] for i in order[:25]] == [twice[i] for i in order[25:]]


@pytest.mark.parametrize(
    "cells", [[], [(1, 1)], [(1, 1), (1, 1)], [(1, 1), (2, 1), (3, 1)]], ids=str
)
def test_small_grids_are_ordered_too(cells):
    assert sorted(coarse_first(cells)) == list(range(len(cells)))


def test_order_is_the_plans(planned, small):
    trials = planned(
        small, "stages.sft.grid={learning_rate: [0.1, 0.2, 0.3], batch_size: [1, 2, 3]}"
    )
    first = [(trial.spec.learning_rate, trial.spec.batch_size) for trial in trials[1:6]]
    assert set(first[:4]) == {(0.1, 1), (0.1, 3), (0.3, 1), (0.3, 3)}
    assert first[4] == (0.2, 2)


def test_arms_are_covered_one_after_another_each_over_its_own_axes(planned, small):
    arms = (
        "stages.sft.arms=[{name: a}, {name: b, grid: {learning_rate: [1, 2, 3, 4]}}, "
        "{name: c, grid: {learning_rate: [1.0e-6, 2.0e-6, 3.0e-6]}}]"
    )
    trials = planned(small, arms, "stages.sft.grid.learning_rate=[0.1, 0.2, 0.3]")[1:]
    assert "".join(trial.arm for trial in trials) == "aaabbbbccc"
    rates = [trial.spec.learning_rate for trial in trials]
    assert rates[:3] == [0.1, 0.3, 0.2]
    assert rates[3:5] == [1, 4] and rates[7:] == [1e-6, 3e-6, 2e-6]
