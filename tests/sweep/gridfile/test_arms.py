"""Arms with axes of their own: which cells they make, and what is refused."""

import pandas as pd
import pytest

from analysis.advice import confounds
from sweep.gridfile import load as config
from sweep.gridfile.load import GridError

STEPS = "    steps: 3"


def with_arms(small: str, arms: str) -> str:
    return small.replace(STEPS, f"{STEPS}\n    arms: [{arms}]")


@pytest.fixture
def cells(grid_file, small):
    """(arm, learning rate, batch size, seed) of each cell of the small grid with these arms."""

    def read(arms: str, *overrides: str) -> list[tuple]:
        grid = config.load(grid_file(with_arms(small, arms)), list(overrides))
        return [
            (arm, spec.learning_rate, spec.batch_size, spec.seed)
            for arm, spec in grid.stages["sft"].cells
        ]

    return read


DPO = """\
name: pairs
model: tiny
stages:
  dpo:
    kind: dpo
    data: {name: world:preferences, examples: 24}
    steps: 2
    batch_size: 4
    learning_rate: 0.001
evaluate: {benchmarks: [world_choice]}
"""


def test_the_plain_loss_of_dpo_needs_a_beta_which_an_arm_gives_it(load):
    with pytest.raises(GridError, match="loss: sigmoid needs a `beta`") as refused:
        load(DPO, "stages.dpo.grid={loss: [dpo_norm, sigmoid]}")
    arms = str(refused.value).rpartition("arms: ")[2]
    cells = load(DPO, f"stages.dpo.arms={arms}").stages["dpo"].cells
    assert [(spec.loss, spec.beta) for _, spec in cells] == [("dpo_norm", 5.0), ("sigmoid", 0.1)]
    assert load(DPO, "stages.dpo.loss=sigmoid", "stages.dpo.beta=5.0").stages["dpo"].cells


def test_axes_of_an_arm_stand_in_the_place_of_the_stages(cells):
    arms = "{name: adamw}, {name: lion, set: {optimizer: lion}, grid: {learning_rate: [0.1, 0.3]}}"
    assert cells(arms) == [
        ("adamw", 0.001, 4, 0), ("adamw", 0.002, 4, 0), ("lion", 0.1, 4, 0), ("lion", 0.3, 4, 0),
    ]  # fmt: skip


def test_axes_of_an_arm_stand_beside_the_stages(cells):
    assert cells("{name: more, grid: {seed: [0, 1]}}, {name: less, set: {steps: 2}}") == [
        ("more", 0.001, 4, 0), ("more", 0.001, 4, 1), ("more", 0.002, 4, 0), ("more", 0.002, 4, 1),
        ("less", 0.001, 4, 0), ("less", 0.002, 4, 0),
    ]  # fmt: skip


def test_stage_needs_no_grid_where_arms_have_theirs(cells):
    arms = "{name: a, grid: {learning_rate: [0.1, 0.3]}}, {name: b, grid: {learning_rate: [0.2]}}"
    assert [cell[:2] for cell in cells(arms, "stages.sft.grid={batch_size: [4]}")] == [
        ("a", 0.1), ("a", 0.3), ("b", 0.2),
    ]  # fmt: skip


def test_axis_of_an_arm_comes_before_a_plain_value_of_the_stage(cells):
    assert [cell[3] for cell in cells("{name: a, grid: {seed: [5, 6]}}", "stages.sft.seed=9")] == [
        5, 6, 5, 6,
    ]  # fmt: skip


def test_ratio_of_an_arm_goes_with_the_batch_size_that_it_sets(cells):
    arms = "{name: a, set: {batch_size: 8}, grid: {ratio: [0.001, 0.002]}}"
    assert cells(arms, "stages.sft.grid={seed: [0]}") == [("a", 0.008, 8, 0), ("a", 0.016, 8, 0)]


def test_adapter_that_an_arm_sets_may_have_an_axis_within(grid_file, small):
    arms = "{name: full}, {name: lora, set: {adapter: {alpha: 8}}, grid: {adapter.rank: [2, 4]}}"
    stage = config.load(grid_file(with_arms(small, arms))).stages["sft"]
    adapters = [spec.adapter and (spec.adapter.rank, spec.adapter.alpha) for _, spec in stage.cells]
    assert adapters == [None, None, (2, 8), (4, 8), (2, 8), (4, 8)]


def test_values_that_an_arm_sets_are_no_axis_of_it(cells, grid_file, small):
    arms = "{name: one, set: {learning_rate: 0.5}}, {name: two}"
    assert cells(arms) == [("one", 0.5, 4, 0), ("two", 0.001, 4, 0), ("two", 0.002, 4, 0)]


REFUSED = {
    "axis that is no key": (
        "{name: a, grid: {lerning_rate: [1]}}",
        ["stages.sft.arms[0].grid.lerning_rate", "did you mean `learning_rate`"],
    ),
    "key in both": (
        "{name: a, set: {seed: 1}, grid: {seed: [1, 2]}}",
        ["stages.sft.arms[0].grid.seed", "in `set` of the arm too", "one place"],
    ),
    "key in both, one of them within a mapping": (
        "{name: a, set: {adapter: {rank: 1}}, grid: {adapter.rank: [1, 2]}}",
        ["stages.sft.arms[0].grid.adapter.rank", "in `set` of the arm too"],
    ),
    "axis of what is set to nothing": (
        "{name: a, set: {adapter: null}, grid: {adapter.rank: [1, 2]}}",
        ["stages.sft.arms[0].grid.adapter.rank", "in `set` of the arm too"],
    ),
    "value that is not allowed": (
        "{name: a}, {name: b, grid: {learning_rate: [0.1, -1]}}",
        ["stages.sft.arms[1].grid.learning_rate[1]", "-1", "greater than 0"],
    ),
    "one value": (
        "{name: a, grid: {seed: 3}}", ["stages.sft.arms[0].grid.seed", "three seeds are [0, 1, 2]"],
    ),
    "no mapping": ("{name: a, grid: [1]}", ["stages.sft.arms[0].grid", "valid dictionary"]),
    "data": ("{name: a, grid: {data: [x, y]}}", ["stages.sft.arms[0].grid.data", "is no axis"]),
    "held-out examples as an axis": (
        "{name: a, grid: {heldout: [1, 2]}}", ["stages.sft.arms[0].grid.heldout", "is no axis"],
    ),
    "data of its own": (
        "{name: a}, {name: b, set: {steps: 2}}, "
        "{name: c, set: {data: {name: 'world:sft', examples: 20}}}",
        ["stages.sft.arms", "a and c differ in data", "a stage of its own"],
    ),
    "held-out examples of its own": (
        "{name: a, set: {heldout: 2}}, {name: b}",
        ["a and b differ in heldout", "heldout: 0"],
    ),
    "cell of another arm": (
        "{name: a}, {name: b, grid: {seed: [0, 1]}}",
        ["stages.sft.arms", "b has 2 cells of a", "learning rate 0.001, batch size 4, seed 0"],
    ),
    "arm whose training is that of another": (
        "{name: a}, {name: b, set: {warmup_ratio: 0.0, save_every_minutes: 3}}",
        ["stages.sft.arms", "b has 2 cells of a", "leave it out"],
    ),
    "ratio beside both": (
        "{name: a, grid: {ratio: [1.0e-4]}}",
        ["stages.sft.arms[0].grid", "exactly one of learning_rate and batch_size"],
    ),
    "batch larger than the data": (
        "{name: a}, {name: b, grid: {batch_size: [64]}}",
        ["stages.sft.arms[1].grid.batch_size", "(arm b)"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("arms", "parts"), REFUSED.values(), ids=REFUSED)
def test_wrong_grid_of_an_arm_is_refused_in_one_line(arms, parts, small, grid_file):
    with pytest.raises(GridError) as refused:
        config.load(grid_file(with_arms(small, arms)))
    (problem,) = refused.value.problems
    assert problem.startswith(f"{grid_file(with_arms(small, arms))}:8: ")
    assert [part for part in parts if part not in problem] == []


def test_arms_may_have_data_of_their_own_where_nothing_is_held_out(grid_file, small):
    arms = "{name: a}, {name: b, set: {data: {name: 'world:sft', examples: 20}}}"
    grid = config.load(grid_file(with_arms(small, arms)), ["stages.sft.heldout=0"])
    assert {spec.data.examples for _, spec in grid.stages["sft"].cells} == {24, 20}


def test_decide_names_the_axis_where_it_stands(grid_file, small):
    arms = "{name: a, grid: {learning_rate: [0.1, 0.2]}}"
    with pytest.raises(GridError, match=r"arms\[0\]\.grid\.learning_rate: 2 values; `decide`"):
        config.load(grid_file(with_arms(small, arms)), ["decide={trials: 9}"])


def test_search_goes_over_the_axes_of_its_one_arm(grid_file, small):
    arms = "{name: a, grid: {learning_rate: [0.1, 0.2, 0.4]}}"
    overrides = ["search={method: optuna, trials: 2}"]
    stage = config.load(grid_file(with_arms(small, arms)), overrides).stages["sft"]
    assert stage.searched_axes == {"learning_rate": (0.1, 0.2, 0.4)}


@pytest.mark.parametrize("budget", ["epochs: 2", "steps: 3", "tokens: 900", ""])
def test_control_arms_that_the_report_prints_load_whatever_the_stage_gives(
    budget, small, grid_file
):
    had = pd.DataFrame({"steps": [12.0], "tokens": [5000.0], "half_life_tokens": [1386294.0]})
    printed = confounds._grid_file("sft", had, tuple(confounds.CONTROLS))
    arms = printed.partition("  sft:\n")[2]
    text = small.replace(f"{STEPS}\n", f"{arms}    {budget}\n    adam_beta2: 0.99\n")
    cells = config.load(grid_file(text)).stages["sft"].cells
    given = {arm: (spec.steps, spec.tokens, spec.adam_beta2_half_life_tokens)
             for arm, spec in cells if arm != "as_is"}  # fmt: skip
    as_is = dict(cells)["as_is"]
    assert given == {
        "equal_steps": (12, None, None),
        "equal_tokens": (None, 5000, None),
        "constant_half_life": (as_is.steps, as_is.tokens, 1386294),
    }


@pytest.mark.parametrize(
    ("override", "said"), [("steps=1000", "epochs=null"), ("warmup_steps=5", "warmup_ratio=null")]
)
def test_second_of_two_budgets_is_told_how_to_take_the_first_back(override, said, small, grid_file):
    text = small.replace(STEPS, "    epochs: 2\n    warmup_ratio: 0.1")
    with pytest.raises(GridError, match=said):
        config.load(grid_file(text), [f"stages.sft.{override}"])
    config.load(grid_file(text), [f"stages.sft.{override}", f"stages.sft.{said}"])


WSD = "warmup_stable_decay"


def test_key_that_some_cells_read_is_given_once_for_the_stage(load, small):
    told = load(small).notes
    schedules = f"stages.sft.grid.schedule=[linear, {WSD}]"
    assert load(small, schedules, "stages.sft.decay_ratio=0.2").notes == told
    arms = f"stages.sft.arms=[{{name: a}}, {{name: b, set: {{schedule: {WSD}}}}}]"
    assert load(small, arms, "stages.sft.decay_ratio=0.2").notes == told


def test_key_that_no_cell_reads_is_told(load, small):
    *_, note = load(small, "stages.sft.decay_ratio=0.2").notes
    assert note.startswith("stages.sft.decay_ratio: 0.2 is not read: schedule is linear")
    *_, note = load(small, "stages.sft.save_every_minutes=5", "stages.sft.save_every_steps=2").notes
    assert "save_every_minutes: 5 is not read: save_every_steps is given" in note


def test_axis_that_plans_one_training_twice_is_refused(load, small):
    axes = ["stages.sft.grid.decay_ratio=[0.1, 0.2]", f"stages.sft.grid.schedule=[linear, {WSD}]"]
    with pytest.raises(GridError, match=r"decay_ratio: cells with 0\.1 and 0\.2 are one training"):
        load(small, *axes)
    assert load(small, axes[0], f"stages.sft.schedule={WSD}").stages["sft"].cells
