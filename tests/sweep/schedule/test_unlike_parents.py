"""DPO models of several parents, each relative to its own: what they are ranked by."""

import pytest

from sweep.schedule.retention import WeightRetention
from tests.sweep.schedule.test_selection import Run
from trainers.files import write_json

EACH = ("stages.dpo.parent=each", "stages.dpo.keep=best", "stages.sft.grid.seed=[0]")


@pytest.fixture
def chain(load, tmp_path, pipeline):
    """Two parents, a child of each, and a reward model on one of the children."""

    def make(text: str = pipeline) -> Run:
        rule = ["stages.judge.parent=best"] if "judge" in text else []
        return Run(load(text, *EACH, *rule), tmp_path / "run")

    return make


def end(run: Run, *own: float) -> None:
    """Every parent, and every child with its ranking accuracy."""
    for trial in run.of("sft"):
        run.end(trial, 0.5)
    for trial, value in zip(run.of("dpo"), own, strict=True):
        run.end(trial, 0.5)
        record(run, trial, "ranking_accuracy", value)


def record(run: Run, trial, metric: str, value: float) -> None:
    """The held-out score as this version writes it (`ranking_accuracy`), or as one before."""
    scores = [{"metric": "loss", "primary": True, "higher_is_better": False, "value": 1 - value}]
    if metric != "loss":
        scores.append(
            {"metric": metric, "primary": False, "higher_is_better": True, "value": value}
        )
    want = run.wants["dpo"][-1]
    written = {"benchmark": want.benchmark if metric != "loss" else "heldout_loss"}
    write_json(run.folder.trial(trial).scores(want.fingerprint), written | {"scores": scores})


def kept(run: Run) -> list[str]:
    retention = WeightRetention(run.grid, run.folder, run.wants)
    retention.follow(run.planned)
    retention.look_at_all()
    return [trial.key for trial in run.of("dpo") if run.folder.trial(trial).has_weights()]


def test_the_best_child_is_by_what_it_does_without_its_reference(chain, pipeline):
    run = chain()
    first, second = run.of("dpo")
    end(run, 0.4, 0.8)
    (line,) = run.resolve().made
    assert f"({second.key}): ranking_accuracy 0.8, the best of 2 cells" in line
    assert kept(chain(pipeline.split("  judge:")[0] + "evaluate: {benchmarks: []}\n")) == [
        second.key
    ]
    assert run.folder.trial(first).weights_removed() == "keep: best"


def test_a_child_that_an_earlier_version_scored_is_not_ranked_and_keeps_its_weights(
    chain, pipeline
):
    run = chain()
    old, _ = run.of("dpo")
    end(run, 0.4, 0.8)
    record(run, old, "loss", 0.9)
    told = run.resolve()
    assert told.made == []
    assert (
        "judge: 1 of 2 models of dpo were scored by an earlier version, without "
        in (told.impossible["judge"])
    )
    assert "delete trials/dpo-" in told.impossible["judge"]
    without = pipeline.split("  judge:")[0] + "evaluate: {benchmarks: []}\n"
    assert len(kept(chain(without))) == 2
