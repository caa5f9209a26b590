"""Scores before training."""

import numpy as np
import pandas as pd
import pytest

from analysis.advice.advise import advise
from analysis.advice.answers import answers
from analysis.benchmarks import task
from analysis.compare.source import Source
from analysis.fit.surface import fit
from analysis.posterior.cells import surfaces
from analysis.report import overview, summary_tables
from analysis.report.answered import answer
from analysis.tables import load
from analysis.tables.external.adopt import adopt
from tests.analysis import planted


def test_before_training_is_the_start_on_the_stages_own_data(chain_run):
    """The held-out loss of a parent on its own data is not where its child begins."""
    frame = load.read(chain_run.path)
    before = overview.scores_before(frame, frame[frame.stage == "second"])
    start = frame[(frame.stage == "first") & frame.primary.astype(bool)]
    values = dict(zip(start.benchmark, start.value, strict=True))
    assert before["heldout_loss"] == values["heldout_loss@second"]
    assert before["world_choice"] == values["world_choice"]
    assert set(before) == {"heldout_loss", "world_choice", "world_arithmetic"}


def test_the_first_stage_starts_from_the_untrained_model(chain_run):
    frame = load.read(chain_run.path)
    base = frame[(frame.stage == "base") & (frame.benchmark == "heldout_loss@first")]
    before = overview.scores_before(frame, frame[frame.stage == "first"])
    assert before["heldout_loss"] == base.value.item()


def test_each_of_several_models_is_held_against_itself_before_training():
    runs = [(model, rate, size) for model in "AB" for rate in (1e-4, 1e-3) for size in (8, 16)]
    rows = pd.DataFrame([*runs, ("A", 0, 8), ("B", 0, 8)], columns=["model", "lr", "batch_size"])
    rows["arc_acc"] = np.where(rows.lr > 0, 0.5, np.where(rows.model == "A", 0.2, 0.3))
    frame = adopt(rows, "two models").frame
    before = {arm: overview.scores_before(frame, frame[frame.arm == arm]) for arm in "AB"}
    assert before == {"A": {"arc": 0.2}, "B": {"arc": 0.3}}
    one = adopt(rows[:-1], "the second model's start is not there").frame
    assert overview.scores_before(one, one[one.arm == "B"]) == {}


def test_loss_on_another_stages_data_is_of_no_type_and_says_whose():
    assert task("heldout_loss@sft").task_type == "other" and task("heldout_loss@sft").share is False
    assert task("heldout_loss@sft").label == "Held-out loss, sft data"


def test_row_of_rate_0_is_the_start_of_its_own_stage():
    stages = {"sft": 0.2, "dpo": 0.3}
    runs = [(name, rate, 8) for name in stages for rate in (0, 1e-4, 1e-3)]
    rows = pd.DataFrame(runs, columns=["stage", "lr", "batch_size"])
    rows["arc_acc"] = np.where(rows.lr > 0, 0.5, rows.stage.map(stages))
    frame = adopt(rows, "two stages").frame
    before = {name: overview.scores_before(frame, frame[frame.stage == name]) for name in stages}
    assert before == {name: {"arc": start} for name, start in stages.items()}


@pytest.mark.parametrize(("second", "before"), [(0.2, {"arc": 0.2}), (0.4, {})])
def test_rows_that_may_be_the_start_and_differ_are_none(second, before):
    runs = [("run", rate, 8) for rate in (1e-4, 1e-3)]
    rows = pd.DataFrame([*runs, ("base", 0, 8), ("mean", 0, 16)], columns=["run", "lr", "bs"])
    rows["arc_acc"] = [0.5, 0.6, 0.2, second]
    frame = adopt(rows, "two rows of rate 0").frame
    assert overview.scores_before(frame, frame[frame.learning_rate.notna()]) == before


def test_cell_that_failed_has_no_batch_size_where_nobody_knows_it():
    rows = pd.DataFrame({"lr": [1e-4, 4e-4, 1.6e-3], "arc_acc": ["0.5", "0.6", "OOM"]})
    frame = adopt(rows, "no batch size").frame
    (cells,) = surfaces(frame)
    fitted = fit(cells)
    result = overview.overview([fitted], answers([fitted]).benchmarks, frame, None)
    assert result.unscored == ["1.6e-3 failed: the table says 'OOM'"]


def test_stage_without_a_benchmark_is_not_waited_for(tmp_path):
    plan = {"key": ["b", "p", "s"], "stage": ["base", "pretrain", "sft"]}
    pd.DataFrame(plan).to_csv(tmp_path / "plan.csv", index=False)
    frame = pd.DataFrame({"key": ["s"], "status": ["ok"], "benchmark": ["arc"]})
    told = summary_tables.progress(tmp_path, frame, {"base": 0, "sft": 1})
    assert told == (1, 1, 0)


def test_nothing_is_added_to_an_arm_that_the_plan_no_longer_has(tmp_path):
    """Epochs were edited: the file that is offered would add cells to the other arm alone."""
    rates = tuple(float(rate) for rate in np.geomspace(1e-4, 1e-2, 5))
    parts = [
        planted.table(lambda x, y: 0.9 + 0.02 * x, rates=rates, sizes=(8,), noise=0.002).assign(
            arm=f"epochs={epochs}", key=[f"{epochs}-{row}" for row in range(5)]
        )
        for epochs in (1, 2)
    ]
    frame = pd.concat(parts, ignore_index=True)
    plan = pd.DataFrame({"key": frame.key[5:], "stage": "all"})
    plan.to_csv(tmp_path / "plan.csv", index=False)
    source = Source("edited", frame, tmp_path, None, {})
    steps = {
        one.arm: answer(one, source, frame[frame.arm == one.arm]).next_step
        for one in advise([fit(cells) for cells in surfaces(frame)], None, frame)
    }
    assert steps["epochs=1"].cells == 0 and "has these cells no more" in steps["epochs=1"].sentence
    assert steps["epochs=2"].cells > 0 and "arms" not in steps["epochs=2"].sentence
    plan.assign(stage="other").to_csv(tmp_path / "plan.csv", index=False)
    (one, *_) = advise([fit(cells) for cells in surfaces(frame)], None, frame)
    gone = answer(one, source, frame[frame.arm == one.arm]).next_step
    assert gone.cells == 0 and "has these cells no more" in gone.sentence, "nor to a stage"
