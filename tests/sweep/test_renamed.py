"""A stage or an arm with another name is the same training, and goes on."""

import shutil

import pandas as pd
import pytest

from sweep.schedule import selection
from tests.sweep.schedule.test_selection import Run

AS_IS = "    arms: [{name: as_is, set: {}}]\n    steps: 4\n"


@pytest.mark.slow
def test_trials_of_a_renamed_stage_and_arm_are_not_trained_again(chain_run, chain, drive, tmp_path):
    run = tmp_path / "chain"
    shutil.copytree(chain_run.path, run)
    before = {path: path.read_text() for path in run.glob("trials/second-*/attempts.jsonl")}
    text = chain.replace("  second:", "  later:").replace("    steps: 4\n", AS_IS)
    ended = drive(text, run)
    assert ended.code == 0
    assert "3 of 4 models done, 1 to go" in ended.output, "the start lacks the loss on later's rows"
    assert before == {path: path.read_text() for path in before}
    assert not list(run.glob("trials/later-*"))
    table = pd.read_csv(run / "results.csv", keep_default_na=False)
    assert set(zip(table.stage, table.arm, strict=True)) == {
        ("base", ""), ("first", ""), ("later", "as_is"),
    }  # fmt: skip


@pytest.fixture
def chosen(load, pipeline, tmp_path) -> Run:
    """A run whose DPO has started from the best of two models."""
    run = Run(load(pipeline), tmp_path / "run")
    run.end_all(0.9, 0.1, 0.6, 0.7)
    run.resolve()
    run.end(run.of("dpo")[0], 0.5)
    return run


def with_a_better_cell(run: Run) -> Run:
    for trial in run.planned:
        if trial.spec and trial.spec.learning_rate == 0.003:
            run.end(trial, 0.95)
    return run


def renamed(text: str, name: str, to: str) -> str:
    text = text.replace(f"  {name}:", f"  {to}:").replace(f"from: {name}", f"from: {to}")
    return text.replace("[0.001, 0.002]", "[0.001, 0.002, 0.003]")


@pytest.mark.parametrize(("name", "to"), [("dpo", "pref"), ("sft", "sft_1130")])
def test_a_choice_goes_with_a_stage_that_is_renamed_or_whose_start_is(
    name, to, load, pipeline, chosen
):
    run = with_a_better_cell(Run(load(renamed(pipeline, name, to)), chosen.folder.path))
    assert run.resolve().made == []
    keys = {trial.key for trial in chosen.planned}
    assert keys < {trial.key for trial in run.planned}, "its children too"
    (line,) = selection.surpassed(run.grid, run.planned, run.folder, run.wants)
    assert "delete choices/dpo.json of the run to choose anew" in line
    run.folder.choice("dpo").unlink()
    assert any(trial.waits for trial in run.planned)


def test_a_new_stage_in_the_place_of_another_chooses_for_itself(load, pipeline, chosen):
    text = renamed(pipeline, "dpo", "pref")
    run = with_a_better_cell(Run(load(text, "stages.pref.steps=1"), chosen.folder.path))
    (line,) = run.resolve().made
    assert line.startswith("pref starts from sft-lr3.00e-03")
