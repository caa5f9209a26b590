"""What is left of a plan to pay for, where earlier starts have done a part."""

import pytest

from sweep.plan import trials
from sweep.price import cost, money
from sweep.price.money import Done

PRICED = ("price={cpu_hour: 2, tokens_per_second: 100, tokens_per_example: 30}",)


def test_what_an_earlier_start_has_done_costs_no_more(load, small):
    grid = load(small, *PRICED)
    planned = trials.trials(grid)
    whole = {trial.key: cost.price(grid, trial, None) for trial in planned}
    _, half, trained = (trial.key for trial in planned)
    done = {half: Done(0.5, 0.0), trained: Done(1.0, 0.25)}
    costs, begun = money.to_come(grid, planned, None, lambda trial: done.get(trial.key, Done()))
    assert begun == {half, trained}
    assert costs[half] == pytest.approx(
        2 * (0.5 * whole[half].train_hours + whole[half].eval_hours)
    )
    assert costs[trained] == pytest.approx(2 * 0.75 * whole[trained].eval_hours)


def test_without_a_price_nothing_is_left_to_pay(load, small):
    grid = load(small)
    assert money.to_come(grid, trials.trials(grid), None, lambda trial: Done(1.0)) == ({}, set())
