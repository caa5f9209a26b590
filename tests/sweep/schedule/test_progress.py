"""Which trials another start goes on with, and what is said of those that cannot be scored."""

import pytest

from sweep.gridfile.keys.schema import Grid
from sweep.options import Options
from sweep.plan import trials
from sweep.plan.evaluations import WantedByStage, wanted
from sweep.price.money import Done
from sweep.resolve.resolve import ResolvedGrid
from sweep.schedule.progress import Progress
from sweep.schedule.retention import WeightRetention
from sweep.storage.run_folder import RunFolder
from tests.sweep.schedule.test_selection import Run
from trainers.files import write_json
from trainers.hub import Needs

DATA = {"world:sft:train[:24]": "content"}
PUT_BACK = "put back what world_choice had when these trials were scored on it"
TAKE_OUT = "take world_arithmetic out of the grid"


def progress_of(grid, folder: RunFolder, options: Options) -> Progress:
    needed = Needs(models=(), data=(), evaluate=None, offline=True)
    return Progress(ResolvedGrid(grid, needed, {}, DATA, wanted(grid, DATA)), folder, options)


@pytest.mark.parametrize(
    ("events", "goes_on"),
    [
        ([], True),
        (["started", "stopped"], True),
        (["started", "failed"], True),
        (["started", "failed"] * 2, False),
    ],
)
@pytest.mark.parametrize("retry_failed", [False, True])
def test_every_start_goes_on_with_what_has_not_failed_too_often(
    events, goes_on, retry_failed, load, small, tmp_path
):
    folder, grid = RunFolder(tmp_path / "run"), load(small, "resources.retries=1")
    trial = trials.trials(grid)[-1]
    for event in events:
        folder.trial(trial).log_attempt(event, phase="train", reason="broken")
    progress = progress_of(grid, folder, Options(True, None, retry_failed=retry_failed))
    assert progress.goes_on(trial) == goes_on
    assert progress.pending([trial]) == ([trial] if goes_on or retry_failed else [])


def resolved(grid: Grid, wants: WantedByStage) -> ResolvedGrid:
    needed = Needs(models=(), data=(), evaluate=None, offline=True)
    return ResolvedGrid(grid, needed, {}, DATA, wants)


@pytest.mark.parametrize(
    ("overrides", "said", "unsaid"),
    [
        (["evaluate.limit=12"], [PUT_BACK], ["out of the grid"]),
        (["evaluate.benchmarks=[world_choice, world_arithmetic]"], [TAKE_OUT], ["put back"]),
        (
            ["evaluate.limit=12", "evaluate.benchmarks=[world_choice, world_arithmetic]"],
            [PUT_BACK, TAKE_OUT],
            [],
        ),
    ],
)
def test_way_out_is_that_of_each_benchmark(overrides, said, unsaid, load, small, tmp_path):
    folder = RunFolder(tmp_path / "run")
    trial = trials.trials(grid := load(small))[-1]
    trained = folder.trial(trial)
    write_json(trained.path / "train.json", {"status": "ok"})
    for want in wanted(grid, DATA)[trial.stage]:
        record = {"benchmark": want.benchmark, "scores": []}
        write_json(trained.scores(want.fingerprint), record)

    grid = load(small, *overrides)
    progress = progress_of(grid, folder, Options(True, None))
    told = progress.note_missing_weights(trials.trials(grid))
    assert any(f"no weights are left of {trial.readable}" in line for line in told)
    assert all(part in told[-1] for part in (*said, "delete the folders of these trials"))
    assert not any(part in told[-1] for part in unsaid)
    assert progress.state(trial) == "failed" and not progress.may_mend(trial, {})


SECOND = """\
  {name}: {{kind: sft, start_from: sft, parent: best, data: {{name: world:sft, examples: 24}},
         steps: 3, heldout: 8, learning_rate: 0.001, batch_size: 4}}
"""


@pytest.mark.parametrize("before", ["", SECOND.format(name="second")], ids=["added", "renamed"])
def test_a_stage_that_comes_later_fails_no_trial_whose_weights_are_gone(
    before, load, pipeline, tmp_path
):
    text = pipeline.partition("  dpo:")[0].replace("kind: sft", "kind: sft\n    keep: best")
    evaluate = "evaluate:\n  benchmarks: [world_choice]\n"
    run = Run(load(f"{text}{before}{evaluate}"), tmp_path / "run")
    run.end_all(0.9, 0.1, 0.6, 0.7)
    retention = WeightRetention(run.grid, run.folder, run.wants)
    run.resolve()
    retention.follow(run.planned)
    for trial in run.planned:
        if trial.stage == "second":
            run.end(trial, 0.5)
    retention.look_at_all()

    run = Run(load(text + SECOND.format(name="later") + evaluate), tmp_path / "run")
    progress = Progress(resolved(run.grid, run.wants), run.folder, Options(True, None))
    gone = [trial for trial in run.of("sft") if not run.folder.trial(trial).has_weights()]
    assert len(gone) == 3
    for trial in gone:  # as an earlier version left it
        run.folder.trial(trial).log_attempt("failed", phase="start", reason="not kept")
    assert {progress.state(trial) for trial in gone} == {"ok"}
    assert {progress.part_done(trial) for trial in gone} == {Done(1.0, 1.0)}
    assert progress.note_missing_weights(run.planned) == []
    pending = progress.pending(run.of("sft"))
    assert len(pending) == 1 and pending[0] not in gone, "what has its weights is scored"
    keys = {trial.key for trial in gone}
    assert {one.state for one in run.status().trials if one.key in keys} == {"ok"}


def test_what_starts_from_a_model_that_diverged_is_not_to_be_tried_again(load, pipeline, tmp_path):
    run = Run(load(pipeline, "stages.dpo.parent=each"), tmp_path / "run")
    run.end_all(0.9, 0.1, 0.6, 0.7)
    parent = run.of("sft")[0]
    run.end(parent, 0.0, "diverged")
    progress = Progress(resolved(run.grid, run.wants), run.folder, Options(True, None))
    planned = {trial.key: trial for trial in run.planned}
    below = [child for child in run.of("dpo") if child.parent == parent.key]
    below += [child for child in run.of("judge") if child.parent == below[0].key]
    for child in below:
        start = planned[str(child.parent)]
        reason = progress.why_unusable(start)
        assert f"{parent.key}) diverged and has no usable weights" in reason
        assert start.readable in reason
        run.folder.trial(child).log_attempt("failed", phase="start", reason=reason)
        assert progress.state(child) == "failed" and not progress.may_mend(child, planned)
    other = next(child for child in run.of("dpo") if child.parent != parent.key)
    run.folder.trial(other).log_attempt("failed", phase="start", reason="no reference pass")
    assert progress.may_mend(other, planned)


def test_a_stage_without_a_model_to_choose_is_not_to_be_tried_again(load, pipeline, tmp_path):
    run = Run(load(pipeline), tmp_path / "run")
    for trial in run.of("sft"):
        run.end(trial, 0.0, "diverged")
    progress = Progress(resolved(run.grid, run.wants), run.folder, Options(True, None))
    progress.impossible = run.resolve().impossible
    (dpo,) = run.of("dpo")
    assert progress.state(dpo) == "failed" and not progress.may_mend(dpo, {})
