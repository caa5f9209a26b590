"""`decide.fidelity` in a grid file: the runs that it plans, and what is refused."""

import pytest

from sweep.gridfile.load import GridError
from sweep.gridfile.screening import screening_stage, share_of, too_short
from sweep.plan import trials as plan
from sweep.plan.evaluations import fits
from tests.sweep.schedule.pools.deciding import DECIDE

SHORT = "decide.fidelity={share: 0.25}"


def test_short_runs_have_the_same_schedule_and_no_weights(load):
    grid = load(DECIDE, SHORT, "stages.sft.epochs=2", "stages.sft.warmup_steps=10")
    stage, full = screening_stage(grid), grid.stages["sft"]
    assert stage is not None
    assert list(grid.stages) == ["before", "sft_screening", "sft"]
    assert (stage.start_from, stage.keep, stage.screens) == ("before", "none", "sft")
    spec, whole = stage.cells[0][1], full.cells[0][1]
    assert (spec.epochs, spec.warmup_steps, spec.schedule) == (0.5, 3, whole.schedule)
    assert {cell.seed for _, cell in stage.cells} == {3}
    assert {cell.batch_size for _, cell in stage.cells} == {4, 8, 16}
    keys = [trial.key for trial in plan.trials(grid)]
    assert len(keys) == len(set(keys)) == 2 + len(stage.cells) + len(full.cells)


@pytest.mark.parametrize(
    ("settings", "field", "value", "share"),
    [
        (["stages.sft.steps=40"], "steps", 10, 0.25),
        (["stages.sft.tokens=40000"], "tokens", 10000, 0.25),
        (
            ["stages.sft.tokens=40000", "decide.fidelity={tokens: 2000}"],
            "tokens",
            2000,
            0.05,
        ),
    ],
)
def test_length_is_a_share_of_whatever_it_is_given_in(load, settings, field, value, share):
    grid = load(DECIDE, SHORT, *settings)
    stage = screening_stage(grid)
    assert stage is not None
    assert getattr(stage.cells[0][1], field) == value
    assert share_of(grid, stage) == share


def test_held_out_slice_alone_is_scored_where_there_is_one(load):
    assert not fits(load(DECIDE, SHORT), "sft_screening", "world_choice")
    assert fits(load(DECIDE, SHORT), "sft", "world_choice")
    without = load(DECIDE, SHORT, "stages.sft.heldout=0")
    assert fits(without, "sft_screening", "world_choice")


def test_off_by_default_and_keys_stay(load):
    without, with_ = load(DECIDE), load(DECIDE, SHORT)
    assert list(without.stages) == ["before", "sft"]
    assert {t.key for t in plan.trials(without)} < {t.key for t in plan.trials(with_)}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["decide.fidelity={}"], "give a share of the full length, or tokens"),
        (["decide.fidelity={share: 0.5, tokens: 10}"], "give a share of the full length, or"),
        (["decide.fidelity={share: 1.0}"], "decide.fidelity.share"),
        (["decide.fidelity={tokens: 100}"], "tokens: 100, and the stage's length is in epochs"),
        (
            ["decide.fidelity={tokens: 100}", "stages.sft.steps=9"],
            "tokens: 100, and the stage's length is in steps; give a `share`",
        ),
        (
            ["decide.fidelity={tokens: 100}", "stages.sft.tokens=100"],
            "tokens: 100 is no shorter than the full length, 100; give fewer",
        ),
        (
            ["decide.fidelity={share: 0.05}", "stages.sft.warmup_ratio=0"],
            "too short a run at batch size 16: it is less than one step; give a longer one",
        ),
        (
            [SHORT, "stages.sft.steps=4", "stages.sft.warmup_ratio=0.1"],
            "too short a run at batch size 16: its whole length, 1 optimizer step, is",
        ),
        ([SHORT, "decide.prior=published"], "and `prior: published` both say where the first"),
        ([SHORT, "stages.sft.grid.learning_rate=[0.001, 0.002, 0.004]"], "all run at the start"),
    ],
)
def test_what_screens_nothing_is_refused(load, settings, problem):
    with pytest.raises(GridError) as refused:
        load(DECIDE, *settings)
    assert problem in str(refused.value)
    assert len(refused.value.problems) == 1


def test_stage_of_the_same_name_is_refused(load):
    other = DECIDE.replace("  before:", "  sft_screening:").replace(": before", ": sft_screening")
    with pytest.raises(GridError, match="calls its runs sft_screening, as a stage of the file"):
        load(other, SHORT)


def test_tokens_that_make_no_batch_show_once_the_data_are_counted(load):
    stage = screening_stage(load(DECIDE, "decide.fidelity={tokens: 900}", "stages.sft.tokens=5000"))
    assert stage is not None
    assert too_short(stage) == ""
    assert too_short(stage, rows=180, tokens_per_example=50.0) == ""
    assert "less than one step" in too_short(stage, rows=180, tokens_per_example=60.0)
