"""RLVR in a grid file: what its batch counts is shown, and what cannot be is refused."""

import io

import pytest
from rich.console import Console

from analysis.advice import grid_file
from sweep.gridfile import load as config
from sweep.plan import evaluations, trials
from sweep.plan.widen import space, widened
from sweep.terminal.plan import show_plan

GRID = """
name: rl
model: tiny
stages:
  rlvr:
    kind: rlvr
    data: {{name: world:prompts, examples: 100}}
    group_size: 8
    heldout: 20
    learning_rate: 1.0e-4
    batch_size: {batch_size}
evaluate: {{benchmarks: [world_choice]}}
"""


@pytest.fixture
def grid(tmp_path):
    def load(**settings):
        path = tmp_path / "grid.yaml"
        path.write_text(GRID.format(**{"batch_size": 32} | settings))
        return config.load(path)

    return load


def test_the_plan_shows_prompts_and_completions(grid):
    found, text = grid(), io.StringIO()
    show_plan(Console(file=text, width=100), found, trials.trials(found))
    (line,) = [line for line in text.getvalue().splitlines() if "prompts x completions" in line]
    assert "4 x 8" in line
    (trial,) = [trial for trial in trials.trials(found) if trial.spec is not None]
    assert trials.cost(trial)[:2] == (20, 640)  # 80 prompts in steps of 4, 8 completions of each


def test_a_batch_of_broken_groups_is_refused(grid):
    with pytest.raises(config.GridError, match="use a multiple of 8, as 8, 16 or 32"):
        grid(batch_size=12)


def test_a_reward_model_that_is_not_there_is_refused(grid):
    with pytest.raises(config.GridError, match="no model in the folder 'nowhere'"):
        grid(batch_size="32\n    reward_model: nowhere")


def test_several_processes_may_share_the_weights(grid):
    two = "32\nresources: {cpus_per_trial: 2, ranks_per_trial: 2%s}\n#"
    assert grid(batch_size=two % "").stages["rlvr"].resources.ranks == 2
    shared = grid(batch_size=two % ", sharding: full").stages["rlvr"].resources
    assert (shared.ranks, shared.sharding) == (2, "full")


def test_longest_answer_decides_the_held_out_score_of_the_model_before(grid):
    """Which is trained without it, and keeps its key."""

    def mark(batch_size):
        wants = evaluations.wanted(grid(batch_size=batch_size), {"world:prompts:train[:100]": ""})
        (want,) = [w for w in wants["base"] if w.benchmark == "heldout_reward@rlvr"]
        return want.fingerprint

    short, long = (f"32\n    max_new_tokens: {most}" for most in (128, 512))
    assert mark(long) == mark(32)
    assert mark(short) != mark(long)


@pytest.mark.parametrize(("sizes", "smaller"), [([8, 32], ()), ([16, 32], (8,)), ([24, 48], ())])
def test_decide_goes_to_no_batch_with_a_part_of_a_group(sizes, smaller, tmp_path):
    path = tmp_path / "grid.yaml"
    axes = f"grid: {{learning_rate: [0.0001, 0.0002, 0.0004], batch_size: {sizes}}}"
    text = GRID.format(batch_size=8).replace("    batch_size: 8\n", "")
    text = text.replace("learning_rate: 1.0e-4", axes)
    path.write_text(text + "decide: {trials: 9}\n")
    grid = config.load(path)
    assert space(grid).smaller == smaller
    kind = type(grid.stages["rlvr"].cells[0][1])
    assert kind.model_fields["group_size"].default == grid_file.GROUP_SIZE
    for _, spec in widened(grid).stages["rlvr"].cells:
        kind.model_validate(spec.model_dump())
