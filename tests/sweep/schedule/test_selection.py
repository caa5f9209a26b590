"""Stages as a graph: what a stage starts from, chosen from records that are written by hand."""

import json
from pathlib import Path

import pytest
import yaml

from sweep.export import candidates
from sweep.gridfile import checks
from sweep.gridfile import load as config
from sweep.plan import trials
from sweep.plan.evaluations import wanted
from sweep.plan.widen import widened
from sweep.schedule import selection
from sweep.schedule.retention import WeightRetention
from sweep.storage.run_folder import MARK, RunFolder, TrialFolder
from sweep.storage.status.reader import Reader, RunStatus
from trainers.files import write_json

DATA = {"world:sft:train[:24]": "content", "world:preferences:train[:24]": "pairs"}


class Run:
    def __init__(self, grid, path: Path):
        self.grid, self.folder = grid, RunFolder(path)
        self.wants = wanted(grid, DATA)

    @property
    def planned(self) -> list[trials.Trial]:
        return trials.trials(self.grid, selection.known(self.grid, self.folder))

    def of(self, stage: str) -> list[trials.Trial]:
        return [trial for trial in self.planned if trial.stage == stage]

    def resolve(self) -> selection.Resolved:
        return selection.resolve(self.grid, self.planned, self.folder, self.wants)

    def end(self, trial: trials.Trial, value: float, status: str = "ok", **others: float) -> None:
        folder: TrialFolder = self.folder.trial(trial)
        write_json(folder.path / "train.json", {"status": status, "reason": ""})
        if status != "ok":
            return
        folder.model.mkdir()
        for want in self.wants[trial.stage]:
            score = {"primary": True, "higher_is_better": want.higher_is_better}
            score["value"] = others.get(want.benchmark, value)
            write_json(folder.scores(want.fingerprint), {"scores": [score]})

    def status(self) -> RunStatus:
        self.folder.write_plan(self.grid, self.planned)
        stages = {
            stage: {"evaluations": [want.record for want in wants]}
            for stage, wants in self.wants.items()
        }
        write_json(self.folder.manifest, {"name": "run", "stages": stages})
        return Reader(self.folder.path).read()

    def end_all(self, *scores: float) -> None:
        """Of the four cells, in the order of (learning rate, seed)."""
        cells = sorted(self.of("sft"), key=lambda one: (one.spec.learning_rate, one.spec.seed))
        for trial, value in zip(cells, scores, strict=True):
            self.end(trial, value)


@pytest.fixture
def run(load, tmp_path, pipeline):
    return lambda *overrides, text=pipeline: Run(load(text, *overrides), tmp_path / "run")


def test_children_of_a_choice_wait_and_so_do_theirs(run):
    dpo, judge = (run().of(stage)[0] for stage in ("dpo", "judge"))
    assert (dpo.parent, dpo.waits) == (None, "the best of sft by world_choice")
    assert (judge.parent, judge.waits) == (dpo.key, dpo.waits)


def test_best_is_a_mean_over_seeds_and_starts_from_the_first(run):
    pipeline = run()
    pipeline.end_all(0.9, 0.1, 0.6, 0.7)  # means 0.5 and 0.65; the best single one is in the other
    (line,) = pipeline.resolve().made
    (dpo,) = pipeline.of("dpo")
    parent = next(trial for trial in pipeline.planned if trial.key == dpo.parent)
    assert (parent.spec.learning_rate, parent.spec.seed) == (0.002, 0)
    assert dpo.waits == ""
    assert parent.key in line
    assert "0.65" in line


def test_models_whose_parents_differ_in_their_seed_alone_are_one_cell_for_all_who_choose(
    run, pipeline
):
    """The parents are of a stage before, from each of which the middle one starts."""
    text = pipeline.replace("    learning_rate: 0.0001\n", "", 1)
    chain = run(
        "stages.sft.grid.learning_rate=[0.001]",
        "stages.dpo.parent=each",
        "stages.dpo.keep=best",
        "stages.dpo.grid.learning_rate=[1e-4, 2e-4]",
        "stages.judge.parent={best: world_choice}",
        text=text,
    )
    parents = {trial.key: trial.spec.seed for trial in chain.of("sft")}
    values = {(1e-4, 0): 0.3, (1e-4, 1): 0.6, (2e-4, 0): 0.47, (2e-4, 1): 0.47}
    for trial in chain.of("dpo"):
        cell = trial.spec.learning_rate, parents[trial.parent]
        chain.end(trial, values[cell], heldout_loss=-values[cell])
    for trial in chain.of("sft"):
        chain.end(trial, 0.1)
    (line,) = chain.resolve().made
    assert "0.47, the best of 2 cells" in line and "mean of 2 seeds" in line
    (judge,) = chain.of("judge")
    best = next(trial for trial in chain.planned if trial.key == judge.parent)
    assert (best.spec.learning_rate, parents[best.parent]) == (2e-4, 0), "0.6 is one lucky run"
    look_at_all(chain)
    kept = [one.key for one in chain.of("dpo") if chain.folder.trial(one).has_weights()]
    assert kept == [best.key]
    (found,) = (
        one for one in chain.status().best if (one.stage, one.benchmark) == ("dpo", "world_choice")
    )
    assert (found.key, found.seeds) == (best.key, 2)
    (want,) = (one for one in chain.wants["dpo"] if one.benchmark == "world_choice")
    exported = candidates.ranked_by(candidates.of_run(chain.folder.path), "dpo", want.record)
    assert (exported[0].trial["key"], exported[0].cell.seeds) == (best.key, 2)


def test_best_starts_from_the_first_seed_whose_weights_are_left(run):
    """The weights of the other may have gone before this one was added."""
    pipeline = run()
    pipeline.end_all(0.9, 0.1, 0.6, 0.7)
    cells = sorted(pipeline.of("sft"), key=lambda one: (one.spec.learning_rate, one.spec.seed))
    pipeline.folder.trial(cells[2]).remove_weights("keep: best")
    (line,) = pipeline.resolve().made
    assert pipeline.of("dpo")[0].parent == cells[3].key
    assert cells[3].key in line
    (want,) = (one for one in pipeline.wants["sft"] if one.benchmark == "world_choice")
    for trial in cells:
        pipeline.folder.trial(trial).write_identity(trial)
    exported = candidates.ranked_by(candidates.of_run(pipeline.folder.path), "sft", want.record)
    assert exported[0].trial["key"] == cells[3].key


def test_lower_loss_is_better(run):
    pipeline = run("stages.dpo.parent=best")
    pipeline.end_all(0.9, 0.1, 0.6, 0.7)
    pipeline.resolve()
    (dpo,) = pipeline.of("dpo")
    parent = next(trial for trial in pipeline.planned if trial.key == dpo.parent)
    assert parent.spec.learning_rate == 0.001


def test_lower_perplexity_is_better_for_parent_keep_and_status_alike(run, perplexity_task):
    """The direction is the task's own, known before anything is scored."""
    pipeline = run(
        f"evaluate.benchmarks=[{perplexity_task}]",
        "stages.sft.heldout=0",
        "stages.sft.keep=best",
        "stages.dpo.parent={best: " + str(perplexity_task) + "}",
    )
    (want,) = pipeline.wants["sft"]
    assert (want.metric, want.higher_is_better) == ("word_perplexity", False)
    pipeline.end_all(9.0, 9.5, 30.0, 2.0)
    (line,) = pipeline.resolve().made
    assert "lower is better" in line
    (dpo,) = pipeline.of("dpo")
    parent = next(trial for trial in pipeline.planned if trial.key == dpo.parent)
    assert (parent.spec.learning_rate, parent.spec.seed) == (0.001, 0)
    look_at_all(pipeline)
    kept = [trial.key for trial in pipeline.of("sft") if pipeline.folder.trial(trial).has_weights()]
    assert kept == [parent.key]
    folder = pipeline.folder
    best = {found.stage: found for found in pipeline.status().best}
    assert (best["sft"].key, best["sft"].value) == (parent.key, 9.25)
    exported = candidates.ranked_by(candidates.of_run(folder.path), "sft", want.record)
    assert exported[0].trial["key"] == parent.key


def test_nothing_is_chosen_before_all_are_scored(run):
    pipeline = run()
    for trial in pipeline.of("sft")[:3]:
        pipeline.end(trial, 0.5)
    assert pipeline.resolve() == ([], {})
    assert pipeline.of("dpo")[0].waits


def test_cells_that_a_stage_shares_with_another_are_candidates_too(load, tmp_path, pipeline):
    """They are trained once, for the first of the two, and wait for the choice of the second."""
    data = yaml.safe_load(pipeline)
    sft, dpo = data["stages"]["sft"], data["stages"]["dpo"]
    rates = sft["grid"] | {"learning_rate": [0.001], "seed": [0]}
    data["stages"] = {"other": sft | {"keep": "none", "grid": rates}, **data["stages"]}
    dpo["parent"] = "best"
    run = Run(load(yaml.safe_dump(data, sort_keys=False)), tmp_path / "run")
    (note,) = run.grid.notes
    assert "stages.sft: 1 cell with the same training as in other" in note
    (shared,) = run.of("other")
    run.end(shared, 0.1)
    for trial in run.of("sft"):
        run.end(trial, 0.5)
    look_at_all(run)
    assert run.folder.trial(shared).has_weights(), "a candidate of the choice to come"
    run.resolve()
    assert run.of("dpo")[0].parent == shared.key


def test_diverged_seed_takes_its_cell_out(run):
    pipeline = run()
    cells = sorted(pipeline.of("sft"), key=lambda one: (one.spec.learning_rate, one.spec.seed))
    for trial, (value, status) in zip(
        cells, [(0.2, "ok"), (0.2, "ok"), (0.9, "ok"), (0.0, "diverged")], strict=True
    ):
        pipeline.end(trial, value, status)
    pipeline.resolve()
    assert pipeline.of("dpo")[0].parent == cells[0].key


def test_no_cell_left_is_said(run):
    pipeline = run()
    for trial in pipeline.of("sft"):
        pipeline.end(trial, 0.0, "diverged")
    assert pipeline.resolve().impossible == {
        "dpo": "dpo: no cell of sft has ended without diverging"
    }


def test_restart_keeps_the_choice_though_a_better_cell_was_added_and_says_so(run):
    pipeline = run()
    pipeline.end_all(0.5, 0.5, 0.4, 0.4)
    pipeline.resolve()
    before = pipeline.of("dpo")[0].key
    assert surpassed(pipeline) == []
    wider = run("stages.sft.grid.learning_rate=[0.001, 0.002, 0.004]")
    for trial in wider.of("sft"):
        if trial.spec.learning_rate == 0.004:
            wider.end(trial, 0.9)
            if trial.spec.seed == 0:
                assert surpassed(wider) == [], "it lacks a seed"
    assert wider.resolve().made == []
    (line,) = surpassed(wider)
    assert "world_choice 0.5; sft-lr4.00e-03-bs4-seed0" in line and "now has 0.9" in line
    assert "delete choices/dpo.json of the run to choose anew" in line
    write_json(wider.folder.path / MARK, {"url": "s3://bucket/runs/pipeline"})
    (line,) = surpassed(wider)
    assert "delete s3://bucket/runs/pipeline/choices/dpo.json to choose anew" in line
    assert wider.of("dpo")[0].key == before


def test_another_rule_chooses_anew(run):
    pipeline = run()
    pipeline.end_all(0.9, 0.9, 0.1, 0.1)
    pipeline.resolve()
    by_loss = run("stages.dpo.parent=best")
    assert by_loss.of("dpo")[0].waits
    by_loss.resolve()
    assert by_loss.of("dpo")[0].parent != pipeline.of("dpo")[0].parent


def test_record_says_what_was_chosen_among(run):
    pipeline = run()
    pipeline.end_all(0.9, 0.1, 0.6, 0.7)
    pipeline.resolve()
    record = json.loads(pipeline.folder.choice("dpo").read_text())
    assert record["benchmark"] == "world_choice"
    assert sorted(record["candidates"].values()) == pytest.approx([0.5, 0.65])
    assert record["parent"] in record["candidates"]


def test_child_key_hangs_on_the_parent(run):
    keys = set()
    for scores in ((0.9, 0.9, 0.1, 0.1), (0.1, 0.1, 0.9, 0.9)):
        pipeline = run()
        pipeline.folder = RunFolder(pipeline.folder.path / str(scores[0]))
        keys.add(pipeline.of("dpo")[0].key)
        pipeline.end_all(*scores)
        pipeline.resolve()
        keys.add(pipeline.of("dpo")[0].key)
    assert len(keys) == 3  # waiting, and two choices


def surpassed(run: Run) -> list[str]:
    return selection.surpassed(run.grid, run.planned, run.folder, run.wants)


def look_at_all(pipeline) -> None:
    retention = WeightRetention(pipeline.grid, pipeline.folder, pipeline.wants)
    retention.follow(pipeline.planned)
    retention.look_at_all()


def test_candidates_keep_their_weights_until_the_choice(run):
    pipeline = run("stages.sft.keep=none")
    pipeline.end_all(0.9, 0.1, 0.6, 0.7)
    look_at_all(pipeline)
    assert all(pipeline.folder.trial(trial).has_weights() for trial in pipeline.of("sft"))
    pipeline.resolve()
    look_at_all(pipeline)
    kept = [trial.key for trial in pipeline.of("sft") if pipeline.folder.trial(trial).has_weights()]
    assert kept == [pipeline.of("dpo")[0].parent]


def test_parent_may_be_a_key(run):
    key = run().of("sft")[2].key
    (dpo,) = run(f"stages.dpo.parent='{key[:6]}'").of("dpo")
    assert dpo.parent == key


def test_parent_may_be_a_cell_that_decide_adds(run):
    """Whose stage, by the file alone, has no such cell."""
    decide = ("decide={trials: 20}", "stages.sft.grid.learning_rate=[1e-4, 1e-3, 1e-2]")
    declared = run(*decide, "stages.dpo.parent=each")
    own = {trial.key for trial in declared.of("sft")}
    wide = trials.trials(widened(declared.grid))
    key = next(one.key for one in wide if one.stage == "sft" and one.key not in own)
    chain = run(*decide, f"stages.dpo.parent='{key}'")
    planned = trials.trials(widened(chain.grid))
    assert selection.surpassed(chain.grid, planned, chain.folder, chain.wants) == []
    assert key in {trial.key for trial in selection.stages_of(chain.grid, chain.folder)["sft"]}


def test_key_that_nobody_has_is_refused_with_those_there_are(run):
    key = run().of("sft")[0].key
    with pytest.raises(ValueError, match=f"stages.dpo.parent: 'ffff0000': no model of sft.*{key}"):
        _ = run("stages.dpo.parent=ffff0000").planned


@pytest.mark.parametrize(
    "override, message",
    [
        ("stages.dpo.start_from=judge", "'judge' leaves a reward model"),
        ("stages.sft.start_from=dpo", "a circle: sft -> dpo"),
        (
            "stages.dop.grid.seed=[1]",
            "has grid but no `kind`, so it is no stage; did you mean `dpo`",
        ),
        ("stages.dpo.parent=first", "'first': use each, best, {best: a benchmark}"),
        ("stages.dpo.parent={best: gsm8k}", "'gsm8k': use one of heldout_loss, world_choice"),
        ("stages.sft.parent=best", "base is one model; leave `parent` out"),
        ("stages.dpo.parent={worst: gsm8k}", "unknown key"),
        (
            "stages.dpo.data=world:sft",
            "'world:sft' holds texts and a stage of the kind dpo",
        ),
        ("stages.sft.data=world:preferences", "use world:pretrain or world:sft, or other data"),
        ("search={method: optuna, trials: 2}", "its best is known only at the end"),
    ],
)
def test_wrong_graph_is_refused_in_a_sentence(override, message, load, pipeline):
    with pytest.raises(config.GridError) as refused:
        load(pipeline, override)
    assert message in str(refused.value)


def test_plan_says_what_is_waited_for_and_counts_pairs(drive, pipeline, tmp_path):
    told = drive(pipeline, tmp_path / "pipeline", "--dry-run").output
    plain = " ".join(told.split())
    start = "from the best of sft by world_choice, chosen once all candidates have their scores"
    assert f"dpo: 1 trial, {start}" in plain
    assert "pairs 8" in plain
    assert "reference passes: 1 beside the trials" in plain
    assert not (tmp_path / "pipeline").exists()


def test_benchmark_of_pairs_needs_a_reward_model(load, small):
    with pytest.raises(config.GridError, match="'rewardbench' is for reward models; no stage here"):
        load(small, "evaluate.benchmarks=[rewardbench]")


def test_each_model_has_the_benchmarks_that_are_for_it(load, pipeline):
    grid = load(pipeline, "evaluate.benchmarks=[world_choice, rewardbench]")
    found = {stage: [want.benchmark for want in mine] for stage, mine in wanted(grid, DATA).items()}
    assert found["base"] == ["world_choice", "heldout_loss@sft"]
    assert found["sft"] == ["world_choice", "heldout_loss"]
    assert found["dpo"] == ["world_choice", "heldout_loss"]
    assert found["judge"] == ["rewardbench", "pair_accuracy"]


def test_parts_that_the_graph_reads_are_parts_of_a_grid(load, pipeline):
    grid = load(pipeline)
    assert list(checks.across(**{name: getattr(grid, name) for name in checks.READ})) == []
