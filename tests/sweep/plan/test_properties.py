"""What holds of every grid: keys, their order, and that each cell is planned once."""

import random
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweep.gridfile import load
from sweep.gridfile.keys.schema import BASE
from sweep.gridfile.load import GridError
from sweep.plan import trials as plan
from sweep.plan.trials import Trial

settings.register_profile(
    "sweep",
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("sweep")

RATES = st.sampled_from([1e-5, 3e-5, 1e-4, 3e-4, 1e-3])
BATCHES = st.integers(1, 64)
SEEDS = st.integers(0, 5)


def axis(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=1, max_size=4, unique=True)


@st.composite
def grids(draw: st.DrawFn) -> dict[str, Any]:
    """A right grid of up to three stages, each starting from the model or from one before it."""
    stages: dict[str, Any] = {}
    for name in ("one", "two", "three")[: draw(st.integers(1, 3))]:
        axes = {"learning_rate": draw(axis(RATES)), "batch_size": draw(axis(BATCHES))}
        if draw(st.booleans()):
            axes["seed"] = draw(axis(SEEDS))
        stages[name] = {
            "kind": "sft",
            "data": "world:sft",
            "steps": draw(st.integers(1, 9)),
            "start_from": draw(st.sampled_from([BASE, *stages])),
            "grid": axes,
        }
    evaluate = {"benchmarks": ["world_choice"]}
    return {"name": "any", "model": "tiny", "stages": stages, "evaluate": evaluate}


def loaded(data: Any) -> load.Grid:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grid.yaml"
        path.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")
        return load.load(path)


def planned(data: Any) -> list[Trial]:
    return plan.trials(loaded(data))


@given(grids())
def test_every_cell_is_planned_once_under_a_key_of_its_own(data):
    trials = planned(data)
    keys = [trial.key for trial in trials]
    assert len(set(keys)) == len(keys)
    assert len({trial.folder for trial in trials}) == len(trials)
    by_key = {trial.key: trial for trial in trials}
    for name, stage in data["stages"].items():
        axes = [stage["grid"].get(axis, [0]) for axis in ("learning_rate", "batch_size", "seed")]
        wanted = {(rate, size, seed) for rate in axes[0] for size in axes[1] for seed in axes[2]}
        parents = {trial.key for trial in trials if trial.stage == stage["start_from"]}
        mine = [trial for trial in trials if trial.stage == name]
        found = {
            (t.parent, t.spec.learning_rate, t.spec.batch_size, t.spec.seed) for t in mine if t.spec
        }
        # A stage that asks for the same training as one before it shares its trials.
        shared = {
            (t.parent, t.spec.learning_rate, t.spec.batch_size, t.spec.seed)
            for t in trials
            if t.spec and t.stage != name and t.parent in parents
        }
        assert len(found) == len(mine)
        expected = {(parent, *cell) for parent in parents for cell in wanted}
        assert found <= expected
        assert expected <= found | shared
        assert all(by_key[trial.parent or ""].stage == stage["start_from"] for trial in mine)


@given(grids())
def test_parents_come_before_their_children(data):
    seen = set()
    for trial in planned(data):
        assert trial.parent is None or trial.parent in seen
        seen.add(trial.key)


@given(grids(), st.randoms(use_true_random=False))
def test_keys_do_not_hang_on_any_order_in_the_file(data, chance: random.Random):
    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            items = [(key, turned(one)) for key, one in value.items()]
            chance.shuffle(items)
            return dict(items)
        if isinstance(value, list):
            return chance.sample(value, len(value))
        return value

    assert {t.key for t in planned(turned(data))} == {t.key for t in planned(data)}


@given(grids(), RATES)
def test_a_further_rate_leaves_the_keys_that_there_were(data, rate):
    before = {trial.key for trial in planned(data)}
    first = next(iter(data["stages"].values()))["grid"]
    first["learning_rate"] = list(dict.fromkeys([*first["learning_rate"], rate]))
    assert before <= {trial.key for trial in planned(data)}


@given(grids())
def test_grid_as_it_is_kept_is_the_same_plan(data):
    grid = loaded(data)
    assert plan.trials(loaded(grid.declared)) == plan.trials(grid)


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
ANYTHING = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@given(grids(), st.data())
def test_any_value_anywhere_is_a_grid_or_a_problem_with_words(data, choose):
    """Never another exception, whatever stands at whatever key."""
    target: Any = data
    while True:
        if isinstance(target, dict) and target:
            key = choose.draw(st.sampled_from(sorted(target)))
        elif isinstance(target, list) and target:
            key = choose.draw(st.integers(0, len(target) - 1))
        else:
            break
        if not isinstance(target[key], dict | list) or choose.draw(st.booleans()):
            target[key] = choose.draw(ANYTHING)
            break
        target = target[key]
    try:
        trials = planned(data)
    except GridError as error:
        assert error.problems
        assert all(str(problem).strip() for problem in error.problems)
    else:
        assert len({trial.key for trial in trials}) == len(trials)
