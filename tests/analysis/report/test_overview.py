"""Scores before training."""

from analysis.benchmarks import task
from analysis.report import overview
from analysis.tables import load


def test_before_training_is_the_start_on_the_stages_own_data(chain_run):
    """The held-out loss of a parent on its own data is not where its child begins."""
    frame = load.read(chain_run.path)
    before = overview.scores_before(frame, "second")
    start = frame[(frame.stage == "first") & frame.primary.astype(bool)]
    values = dict(zip(start.benchmark, start.value, strict=True))
    assert before["heldout_loss"] == values["heldout_loss@second"]
    assert before["world_choice"] == values["world_choice"]
    assert set(before) == {"heldout_loss", "world_choice", "world_arithmetic"}


def test_the_first_stage_starts_from_the_untrained_model(chain_run):
    frame = load.read(chain_run.path)
    base = frame[(frame.stage == "base") & (frame.benchmark == "heldout_loss@first")]
    assert overview.scores_before(frame, "first")["heldout_loss"] == base.value.item()


def test_loss_on_another_stages_data_is_a_loss_and_says_whose():
    assert task("heldout_loss@sft").task_type == "loss"
    assert task("heldout_loss@sft").label == "Held-out loss, sft data"
