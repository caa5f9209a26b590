"""For which trainings `lanes: auto` takes lanes."""

import pytest

from sweep.plan import lane_gain, trials

GRID = """\
name: gain
model: HuggingFaceTB/SmolLM2-135M
stages:
  sft:
    kind: sft
    data: {name: world:sft, examples: 1000}
    steps: 10000
    grid: {learning_rate: [0.001, 0.002], batch_size: [4, 128]}
evaluate: {benchmarks: []}
resources: {gpus_per_trial: 1, lanes: auto}
price: {tokens_per_example: 100}
"""


@pytest.fixture
def pays(load):
    """Whether so many lanes pay, at the smaller and the larger batch size."""

    def pays(lanes: int, *overrides: str) -> tuple[bool, bool]:
        grid = load(GRID, *overrides)
        first = {trial.spec.batch_size: trial for trial in trials.trials(grid) if trial.spec}
        small, large = (lane_gain.pays(grid, first[size], lanes) for size in (4, 128))
        return small, large

    return pays


def test_a_gpu_gains_where_it_waits_for_launches(pays):
    assert pays(10) == (True, False)
    assert pays(2) == (True, False)
    assert pays(1) == (False, False)
    assert pays(10, "price.tokens_per_example=4000") == (False, False)
    assert pays(10, "price.tokens_per_example=500") == (True, False)
    quarter = "resources.gpus_per_trial=0.25"
    assert pays(10, "price.tokens_per_example=1000", quarter) == (False, False)


def test_a_training_too_short_to_be_compiled_gains_more(pays):
    assert pays(10) == (True, False)
    assert pays(10, "stages.sft.steps=100") == (True, True)


def test_a_cpu_takes_none(pays):
    cpu = ("resources.gpus_per_trial=0", "resources.cpus_per_trial=1")
    assert pays(2, "model=tiny", *cpu) == (False, False)


def test_what_is_not_known_is_not_taken_for_a_gain(pays, load, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "config.json").write_text("{}")
    model = f"model={tmp_path / 'own'}"
    assert pays(10, model) == (False, False)
    grid = load(GRID, model)
    assert "cannot be estimated" in lane_gain.why_none(grid, trials.trials(grid)[1])
