"""Scores before training."""

import numpy as np
import pandas as pd

from analysis.benchmarks import task
from analysis.report import overview
from analysis.tables import load


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
    frame = load.adopted(rows, "two models")
    before = {arm: overview.scores_before(frame, frame[frame.arm == arm]) for arm in "AB"}
    assert before == {"A": {"arc": 0.2}, "B": {"arc": 0.3}}
    one = load.adopted(rows[:-1], "the second model's start is not there")
    assert overview.scores_before(one, one[one.arm == "B"]) == {}


def test_loss_on_another_stages_data_is_a_loss_and_says_whose():
    assert task("heldout_loss@sft").task_type == "loss"
    assert task("heldout_loss@sft").label == "Held-out loss, sft data"
