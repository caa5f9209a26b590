"""Which evaluations a grid asks for."""

import pytest

from analysis.tables.records.score_record import primary_metric
from sweep.gridfile.load import GridError, load
from sweep.plan.evaluations import wanted
from sweep.resolve.resolve import fingerprints

DPO = """
name: preferences
model: tiny
stages:
  dpo:
    kind: dpo
    data: world:preferences
    steps: 2
    grid: {learning_rate: [0.001], batch_size: [4], beta: [5.0]}
evaluate: {benchmarks: [world_choice], limit: 4}
"""


def _own(grid_file, text):
    grid = load(grid_file(text))
    return wanted(grid, fingerprints(grid, {}))["dpo"][-1]


@pytest.mark.parametrize(
    "several",
    [
        DPO.replace("[5.0]", "[0.1, 5.0]"),
        DPO.replace(", beta: [5.0]", "").replace(
            "    grid:",
            "    arms: [{name: a}, {name: b, set: {loss: sigmoid, beta: 0.1}}]\n    grid:",
        ),
    ],
    ids=["beta", "loss"],
)
def test_losses_in_unlike_units_are_not_ranked_beside_each_other(several, grid_file):
    one, other = _own(grid_file, DPO), _own(grid_file, several)
    assert (one.benchmark, one.metric, one.higher_is_better) == ("heldout_loss", "loss", False)
    assert (other.benchmark, other.metric) == ("pair_accuracy", "accuracy")
    assert other.higher_is_better and other.fingerprint == one.fingerprint


CHAIN = DPO.replace(
    "  dpo:\n    kind: dpo\n",
    "  sft: {kind: sft, data: world:sft, steps: 2, batch_size: 4, grid: {learning_rate: [0.001]}}\n"
    "  dpo:\n    kind: dpo\n    start_from: sft\n",
)


@pytest.mark.parametrize(
    ("parents", "benchmark"),
    [
        ("{learning_rate: [0.001]}", "heldout_loss"),
        ("{learning_rate: [0.001], seed: [0, 1]}", "heldout_loss"),
        ("{learning_rate: [0.001, 0.002]}", "ranking_accuracy"),
    ],
)
def test_models_of_unlike_parents_are_ranked_without_their_references(
    parents, benchmark, grid_file
):
    one = _own(grid_file, CHAIN)
    several = _own(grid_file, CHAIN.replace("{learning_rate: [0.001]}", parents, 1))
    assert several.benchmark == benchmark and several.fingerprint == one.fingerprint
    chosen = CHAIN.replace("{learning_rate: [0.001]}", parents, 1)
    chosen = chosen.replace("start_from: sft\n", "start_from: sft\n    parent: best\n")
    assert _own(grid_file, chosen).benchmark == "heldout_loss", "all start from one model"


def test_a_base_in_4_bits_is_another_reference(grid_file):
    text = DPO.replace("    grid:", "    adapter: {rank: 4}\n    grid:")
    text = text.replace("beta: [5.0]", "adapter.base_weights: [float32, nf4]")
    assert _own(grid_file, text).metric == "ranking_accuracy"


def test_a_choice_by_losses_in_unlike_units_is_refused(grid_file):
    text = (
        DPO.replace("[5.0]", "[0.1, 5.0]")
        + "search: {method: optuna, objective: heldout_loss, trials: 2}\n"
    )
    with pytest.raises(GridError, match="'heldout_loss': use one of pair_accuracy"):
        load(grid_file(text))


def test_the_metric_that_is_asked_for_counts_where_it_was_measured():
    measured = [{"metric": "loss", "primary": True}, {"metric": "accuracy", "primary": False}]
    assert primary_metric(measured, "accuracy") == "accuracy"
    assert primary_metric(measured, "f1") == primary_metric(measured, None) == "loss"
