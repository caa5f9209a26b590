"""Which trials another start goes on with, and what is said of those that cannot be scored."""

import pytest

from sweep.options import Options
from sweep.plan import trials
from sweep.plan.evaluations import wanted
from sweep.resolve.resolve import ResolvedGrid
from sweep.schedule.progress import Progress
from sweep.storage.run_folder import RunFolder
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
    assert progress.state(trial) == "failed" and not progress.may_mend(trial)
