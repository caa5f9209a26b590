"""How much of a plan runs where cells are chosen as results come in."""

import pytest

from sweep.plan import trials
from sweep.price import chosen, cost, money
from sweep.price.cost import Price

GRID = """\
name: some
model: tiny
stages:
  sft:
    kind: sft
    data: {name: world:sft, examples: 40}
    steps: 3
    grid:
      learning_rate: [0.0005, 0.001, 0.002]
      batch_size: [2, 4, 8]
      seed: [0, 1]
  then:
    kind: sft
    start_from: sft
    data: {name: world:sft, examples: 40}
    steps: 3
    learning_rate: 0.001
    batch_size: 4
evaluate: {benchmarks: [world_choice]}
price: {cpu_hour: 2}
"""
ALONE = ["stages.then=null"]


def shares(grid):
    planned = trials.trials(grid)
    of = chosen.shares(grid, planned)
    return {stage: {of[t.key] for t in planned if t.stage == stage} for stage in grid.scored_stages}


@pytest.mark.parametrize(
    ("chosen_by", "share"),
    [
        ("search={trials: 3, method: optuna, objective: world_choice}", 3 / 9),
        ("decide={trials: 9}", 9 / 18),
        ("decide={trials: 36}", 2.0),
    ],
)
def test_a_cell_and_what_starts_from_it_run_as_often_as_the_budget_allows(load, chosen_by, share):
    grid = load(GRID, chosen_by)
    assert shares(grid) == {"base": {1.0}, "sft": {share}, "then": {share}}


def test_all_of_a_plain_grid_runs(load):
    assert shares(load(GRID)) == {"base": {1.0}, "sft": {1.0}, "then": {1.0}}


def test_what_a_choice_costs_is_said_to_be_a_bound(load):
    grid = load(
        GRID, "search={trials: 3, method: optuna, objective: world_choice}", "limits.max_cost=7"
    )
    planned = trials.trials(grid)
    of_one = Price(1.0, 1.0, 1.0, 0.5, 0.5)
    each = chosen.shares(grid, planned).values()
    prices = [chosen.scaled(of_one, share) for share in each]
    (base, *_), costs = prices, sum(price.hours for price in prices) * 2
    assert base == of_one and costs == pytest.approx(2 * (1 + 36 / 3))
    said = money.sentence(grid, planned, prices, "at most ")
    assert said.startswith(f"cost: at most about {costs:.2f}") and "ends the run at 7.00" in said
    assert cost.total(prices).hours == pytest.approx(costs / 2)
