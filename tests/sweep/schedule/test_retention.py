"""Weights go when nothing needs them, never before, and the records say so."""

import json
import shutil
from pathlib import Path

import pytest

from sweep.plan import trials
from sweep.plan.evaluations import wanted
from sweep.schedule.retention import WeightRetention
from sweep.storage.run_folder import RunFolder, TrialFolder
from trainers.files import write_json

DATA = {f"world:{name}:train[:24]": name for name in ("sft", "preferences", "prompts")}
TWO_SEEDS = "stages.sft.grid.seed=[0, 1]"


class World:
    """A run folder whose records are written by hand."""

    def __init__(self, grid, path: Path):
        self.planned = trials.trials(grid)
        self.folder = RunFolder(path)
        self.wants = wanted(grid, DATA)
        self.retention = WeightRetention(grid, self.folder, self.wants)
        self.retention.follow(self.planned)

    def at(self, number: int) -> TrialFolder:
        return self.folder.trial(self.planned[number])

    def train(self, number: int, status: str = "ok") -> None:
        write_json(self.at(number).path / "train.json", {"status": status, "reason": ""})
        if status == "ok":
            self.at(number).model.mkdir()
            (self.at(number).model / "model.safetensors").write_bytes(b"weights")

    def score(self, number: int, loss: float = 1.0, **others: float) -> None:
        for want in self.wants[self.planned[number].stage]:
            value = others.get(want.benchmark, loss)
            score = {"primary": True, "value": value, "higher_is_better": want.higher_is_better}
            write_json(self.at(number).scores(want.fingerprint), {"scores": [score]})

    def end(self, number: int, loss: float = 1.0, **others: float) -> None:
        self.train(number)
        self.score(number, loss, **others)
        self.retention.ended(self.planned[number].key)

    @property
    def kept(self) -> list[int]:
        return [n for n in range(1, len(self.planned)) if self.at(n).has_weights()]


@pytest.fixture
def world(load, tmp_path):
    return lambda text, *overrides: World(load(text, *overrides), tmp_path / "run")


def test_all_is_what_stays_when_nothing_is_said(world, small):
    run = world(small)
    run.end(1)
    run.end(2)
    run.retention.look_at_all()
    assert run.kept == [1, 2]
    assert run.at(1).weights_removed() is None


def test_none_removes_weights_once_they_are_scored(world, small):
    run = world(small, "stages.sft.keep=none")
    run.train(1)
    run.retention.ended(run.planned[1].key)
    run.retention.look_at_all()
    assert run.kept == [1], "no score is there yet"
    run.score(1)
    run.retention.ended(run.planned[1].key)
    assert run.kept == []
    assert run.at(1).weights_removed() == "keep: none"
    assert not list(run.at(1).path.glob(".*.part"))


def test_weights_without_one_of_their_scores_stay(world, small):
    run = world(
        small, "stages.sft.keep=none", "evaluate.benchmarks=[world_choice, world_arithmetic]"
    )
    run.end(1)
    run.train(2)
    run.score(2)
    run.at(2).scores(run.wants["sft"][1].fingerprint).unlink()
    run.retention.look_at_all()
    assert run.kept == [2]


def test_best_is_the_lowest_mean_heldout_loss_whatever_the_order(world, small):
    """Trials 1 and 3 are the seeds of one cell, 2 and 4 those of the other; the first is kept."""
    for losses, best in (
        ([3.0, 1.0, 2.0, 3.0], 2),
        ([1.0, 2.5, 3.0, 2.5], 1),
        ([4.0, 3.0, 2.0, 1.0], 2),
        ([1.0, 2.0, 9.0, 2.5], 2),  # the best single trial is in the worse cell
    ):
        for order in ([1, 2, 3, 4], [4, 3, 2, 1], [2, 3, 1, 4]):
            run = world(small, "stages.sft.keep=best", TWO_SEEDS)
            for number in order:
                run.end(number, 0.5, heldout_loss=losses[number - 1])
            assert run.kept == [best]
            shutil.rmtree(run.folder.path)


def test_cell_that_may_yet_be_the_best_keeps_its_first_seed(world, small):
    run = world(small, "stages.sft.keep=best", TWO_SEEDS)
    run.end(1, heldout_loss=1.0)
    run.end(2, heldout_loss=2.0)
    assert run.kept == [1, 2], "neither has its second seed"
    run.end(3, heldout_loss=9.0)
    assert run.kept == [1, 2]
    run.end(4, heldout_loss=2.0)
    assert run.kept == [2]


def test_cell_of_which_a_seed_diverged_is_not_waited_for(world, small):
    run = world(small, "stages.sft.keep=best", TWO_SEEDS)
    run.end(1, heldout_loss=1.0)
    run.end(2, heldout_loss=2.0)
    run.end(4, heldout_loss=2.0)
    run.train(3, "diverged")
    run.retention.ended(run.planned[3].key)
    assert run.kept == [2]


def test_a_benchmark_of_which_less_is_better_keeps_the_lowest(world, small, perplexity_task):
    only = f"evaluate.benchmarks=[{perplexity_task}]"
    run = world(small, "stages.sft.keep=best", "stages.sft.heldout=0", only)
    run.end(1, 30.0)
    run.end(2, 20.0)
    assert run.kept == [2]


def test_best_is_the_first_benchmark_where_nothing_is_held_out(world, small):
    run = world(small, "stages.sft.keep=best", TWO_SEEDS, "stages.sft.heldout=0")
    for number, accuracy in enumerate([0.2, 0.9, 0.4, 0.9], 1):
        run.end(number, accuracy)
    assert run.kept == [2], "of equal ones the first"


def test_best_without_a_score_removes_nothing(world, small):
    run = world(small, "stages.sft.keep=best")
    run.train(1)
    run.train(2, "diverged")
    run.retention.look_at_all()
    assert run.kept == [1]


def test_another_start_goes_on_from_the_records(world, small, load):
    run = world(small, "stages.sft.keep=best", TWO_SEEDS)
    run.end(1, heldout_loss=1.0)
    run.end(2, heldout_loss=2.0)
    again = world(small, "stages.sft.keep=best", TWO_SEEDS)
    again.retention.look_at_all()
    again.end(3, heldout_loss=3.0)
    again.end(4, heldout_loss=0.5)
    assert again.kept == [2]


@pytest.mark.parametrize("first, second, kept", [
    ({1: 1.0, 2: 1.1}, {3: 2.0, 4: 1.1}, 4),  # the second cell is best, and has its new seed left
    ({1: 1.0, 2: 1.1}, {3: 1.0, 4: 1.1}, 1),
])  # fmt: skip
@pytest.mark.parametrize("order", [(3, 4), (4, 3)])
def test_seed_that_is_added_later_leaves_the_best_cell_a_model(
    first, second, kept, order, world, small
):
    before = world(small, "stages.sft.keep=best")
    for number, loss in first.items():
        before.end(number, heldout_loss=loss)
    assert before.kept == [1]
    run = world(small, "stages.sft.keep=best", TWO_SEEDS)
    run.retention.look_at_all()
    for number in order:
        run.end(number, heldout_loss=second[number])
    assert run.kept == [kept]


def test_best_cell_without_weights_leaves_the_next_one_its_own(world, small):
    """As where a third seed is needed to tell that the first two were the better ones."""
    run = world(small, "stages.sft.keep=best", TWO_SEEDS)
    for number, loss in enumerate([1.0, 2.0, 1.0, 2.0], 1):
        run.end(number, heldout_loss=loss)
    for number in (2, 4):
        run.score(number, heldout_loss=0.5)
    again = world(small, "stages.sft.keep=best", TWO_SEEDS)
    again.retention.look_at_all()
    assert again.kept == [1]


def test_parent_stays_until_every_child_is_trained(world, chain):
    run = world(chain, "stages.first.keep=none")
    run.end(1)
    assert run.kept == [1]
    run.end(2)
    assert run.kept == [1, 2]
    run.train(3, "diverged")
    run.retention.ended(run.planned[3].key)
    assert run.kept == [2]


def test_children_that_a_search_passed_over_are_not_waited_for(world, chain):
    run = world(chain, "stages.first.keep=none")
    run.end(1)
    run.end(2)
    run.retention.look_at_all(spared={run.planned[3].key})
    assert run.kept == [2]


def test_seeds_that_were_passed_over_are_not_waited_for(world, small):
    """As `decide` leaves them, which plans five seeds of each cell."""
    run = world(small, "stages.sft.keep=best", TWO_SEEDS)
    run.end(1, heldout_loss=1.0)
    run.end(2, heldout_loss=2.0)
    run.retention.look_at_all(spared={run.planned[3].key, run.planned[4].key})
    assert run.kept == [1]


def test_trial_that_is_trained_again_has_weights_again(world, small):
    run = world(small, "stages.sft.keep=none")
    run.end(1)
    run.at(1).model.mkdir()
    run.at(1).weights_written()
    assert run.at(1).weights_removed() is None


@pytest.mark.parametrize("keep", ["some", 3, None, ["all"]])
def test_other_value_names_the_allowed_ones(load, small, keep):
    from sweep.gridfile.load import GridError

    with pytest.raises(GridError, match=r"stages\.sft\.keep: .* use one of all, none, best"):
        load(small, f"stages.sft.keep={json.dumps(keep)}")


def test_keep_is_no_part_of_a_trials_key(planned, small):
    keys = [
        [trial.key for trial in planned(small, f"stages.sft.keep={k}")] for k in ("all", "none")
    ]
    assert keys[0] == keys[1]


def test_whole_command_leaves_the_best_weights_and_all_scores(small, drive, tmp_path):
    best = small.replace("    steps: 3\n", "    steps: 3\n    keep: best\n")
    assert drive(best, tmp_path / "run").code == 0
    folders = [TrialFolder(path) for path in (tmp_path / "run" / "trials").glob("sft-*")]
    losses = {}
    for folder in folders:
        for file in (folder.path / "scores").glob("*.json"):
            record = json.loads(file.read_text())
            if record["benchmark"] == "heldout_loss":
                losses[folder] = record["scores"][0]["value"]
    assert len(losses) == 2
    kept = [folder for folder in folders if folder.has_weights()]
    assert kept == [min(losses, key=lambda folder: losses[folder])]
    assert [f.weights_removed() for f in folders if f not in kept] == ["keep: best"]
    again = drive(best, tmp_path / "run")
    assert again.code == 0
    assert "3 of 3 models done, 0 to go" in again.output


@pytest.mark.slow
def test_child_of_removed_weights_says_what_to_do(chain, drive, tmp_path):
    run = tmp_path / "run"
    none = chain.replace("  first:\n", "  first:\n    keep: none\n")
    assert drive(none, run).code == 0
    (first,) = (TrialFolder(path) for path in (run / "trials").glob("first-*"))
    assert not first.has_weights()
    ended = drive(none.replace("[0.001, 100]", "[0.001, 0.002]"), run)
    assert ended.code == 3
    place = f"trials/{first.path.name} of the run"
    assert f"removed (keep: none); delete {place} to train it again" in ended.output
    shutil.rmtree(first.path)
    again = drive(none.replace("[0.001, 100]", "[0.001, 0.002]"), run, "--retry-failed")
    assert again.code == 0
