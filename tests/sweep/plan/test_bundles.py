"""Which trials are trained in one pass, and how many of them."""

import math
from collections import Counter

import pytest

from sweep.plan.bundles import Bundles, title

GRID = """\
name: columns
model: HuggingFaceTB/SmolLM2-135M
stages:
  first:
    kind: sft
    data: {name: world:sft, examples: 40}
    grid: {learning_rate: [0.001, 0.002], batch_size: [4]}
  second:
    kind: sft
    start_from: first
    data: {name: world:sft, examples: 40}
    resources: {lanes: 3}
    grid:
      learning_rate: {log: [0.0001, 0.01], count: 5}
      weight_decay: [0.0, 0.1]
      batch_size: [4, 8]
      seed: [0, 1]
evaluate: {benchmarks: []}
resources: {gpus_per_trial: 1, lanes: auto}
price: {tokens_per_example: 100}
"""


@pytest.fixture
def columns(load):
    from sweep.plan import trials

    def columns(*overrides: str):
        grid = load(GRID, *overrides)
        return Bundles(grid), trials.trials(grid)

    return columns


def test_what_differs_in_numbers_of_the_optimizer_alone_shares_a_pass(columns):
    rule, planned = columns()
    second = [trial for trial in planned if trial.stage == "second"]
    pairs = {
        (rule.key(trial), (trial.parent, trial.spec.batch_size, trial.spec.seed))
        for trial in second
    }
    assert len(pairs) == len({key for key, _ in pairs}) == len({cell for _, cell in pairs}) == 8
    assert set(Counter(map(rule.key, second)).values()) == {10}
    others = {rule.key(trial) for trial in planned if trial.stage != "second"}
    assert not others & {key for key, _ in pairs}


PROMPTS = ("stages.first.kind=rlvr", "stages.first.data=world:prompts",
           "stages.first.grid.batch_size=[8]")  # fmt: skip
RANKS = ("stages.first.resources={ranks_per_trial: 2, gpus_per_trial: 2}",)


@pytest.mark.parametrize("overrides", [("resources.lanes=1",), RANKS, PROMPTS])
def test_what_shares_no_pass_has_no_key(columns, overrides):
    rule, planned = columns(*overrides)
    assert {rule.key(trial) for trial in planned if trial.stage in ("base", "first")} == {None}


def test_a_stage_that_asks_for_lanes_and_has_none_says_why(load):
    from sweep.plan import trials

    def lines(*overrides: str) -> list[str]:
        grid = load(GRID, *overrides)
        return list(Bundles(grid).lines(trials.trials(grid)))

    assert lines() == []
    assert lines("resources.lanes=1", "stages.second.resources.lanes=1") == []
    (alone,) = lines("stages.first.optimizer=lion")
    assert "trials of first are trained alone" in alone and "optimizer (lion)" in alone
    (on_cpus,) = lines("resources.gpus_per_trial=0", "resources.cpus_per_trial=1")
    assert (
        on_cpus == "lanes: trials of first are trained alone: a CPU gains next to nothing by lanes"
    )
    assert lines("stages.first.grid.learning_rate=[0.001]") == [], "one trial has no other"
    (single,) = lines("stages.first.grid.learning_rate=[0.001]", "stages.first.grid.seed=[0, 1]")
    assert "no two of them differ" in single
    (ranks,) = lines("stages.first.resources={gpus_per_trial: 2, ranks_per_trial: 2}")
    assert "2 processes train each trial" in ranks


def test_a_number_of_lanes_is_kept_to(columns):
    rule, planned = columns()
    second = next(trial for trial in planned if trial.stage == "second")
    assert rule.size(second, alike=10, ready=10, free=8) == 3
    assert rule.size(second, alike=2, ready=80, free=1) == 2


def test_auto_takes_a_free_slots_share_of_what_is_ready(columns):
    rule, planned = columns()
    first = next(trial for trial in planned if trial.stage == "first")
    assert rule.size(first, alike=5, ready=20, free=2) == 5
    assert rule.size(first, alike=5, ready=5, free=2) == 3
    assert rule.size(first, alike=5, ready=20, free=8) == 3
    assert rule.size(first, alike=5, ready=20, free=64) == 1
    assert rule.size(first, alike=5, ready=5, free=1) == 5, "others are busy"


@pytest.mark.parametrize("slots", [1, 2, 3, 7, 8, 20, 50])
@pytest.mark.parametrize("keys", [[5, 5, 5, 5], [10], [1, 2, 12, 3]])
def test_no_slot_is_left_with_nothing_to_do(columns, slots, keys):
    rule, planned = columns()
    first = next(trial for trial in planned if trial.stage == "first")
    left, busy = list(keys), 0
    while busy < slots and any(left):
        place = next(place for place, count in enumerate(left) if count)
        size = rule.size(first, alike=left[place], ready=sum(left), free=slots - busy)
        assert 1 <= size <= left[place]
        left[place] -= size
        busy += 1
    assert busy == min(slots, sum(keys))


def test_title_names_what_is_trained(columns):
    rule, planned = columns()
    bundle = [trial for trial in planned if rule.key(trial) == rule.key(planned[-1])]
    assert title(bundle[:1]) == bundle[0].title
    said = title(bundle)
    spec = bundle[0].spec
    assert said == f"second lr 0.0001 to 0.01 bs {spec.batch_size} seed {spec.seed} (10 lanes)"
    assert math.isclose(0.01, max(trial.spec.learning_rate for trial in bundle))
