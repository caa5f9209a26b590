"""How a run stands, read from its folder alone."""

import io
import json
import shutil
import subprocess
import sys

import pytest
from rich.console import Console
from typer.testing import CliRunner

from sweep import status
from sweep.plan import trials as plan
from sweep.storage.run_folder import RunFolder, TrialFolder
from sweep.storage.status.reader import Reader
from sweep.terminal import progress
from trainers import files
from trainers.files import Damaged


@pytest.fixture
def copied(chain_run, tmp_path):
    """A run of three trained models and the base that has ended; to be changed."""
    return shutil.copytree(chain_run.path, tmp_path / "chain")


def trial(path, begins):
    (found,) = (path / "trials").glob(f"{begins}*")
    return found


def test_ended_run_counts_every_planned_trial(chain_run):
    status = Reader(chain_run.path).read()
    assert status.counts == {"ok": 3, "diverged": 1, "failed": 0, "running": 0, "planned": 0}
    assert status.left is None


def test_best_cell_is_the_best_scored_one_of_a_swept_stage(chain_run):
    best = {score.benchmark: score for score in Reader(chain_run.path).read().best}
    assert set(best) == {"world_choice", "world_arithmetic", "heldout_loss"}
    assert {score.stage for score in best.values()} == {"second"}
    assert best["heldout_loss"].learning_rate == 0.001, "the other cell diverged"


def test_trial_that_a_driver_is_at_runs_and_without_a_driver_is_planned(copied):
    folder = trial(copied, "second-lr1.00e-03")
    shutil.rmtree(folder / "scores")
    (folder / "train.json").unlink()
    started = {"event": "started", "attempt": 1, "time": files.now()}
    (folder / "attempts.jsonl").write_text(json.dumps(started) + "\n")
    assert Reader(copied).read().counts["planned"] == 1
    (copied / "driver.json").write_text("{}")
    status = Reader(copied).read()
    (running,) = (one for one in status.trials if one.state == "running")
    assert (running.step, running.steps, running.phase) == (4, 4, "train")
    assert running.loss > 0
    assert running.steps_per_second > 0
    assert running.tokens_per_second > 0
    assert status.left is not None and status.left.low < status.left.high
    assert all(one.seconds > 0 for one in status.trials if one is not running)


def test_trial_whose_pass_is_over_waits_for_its_scores(copied):
    folder = trial(copied, "second-lr1.00e-03")
    shutil.rmtree(folder / "scores")
    (folder / "attempts.jsonl").unlink()
    (copied / "driver.json").write_text("{}")
    for event, state in (("started", "running"), ("trained", "planned")):
        TrialFolder(folder).log_attempt(event, **({"lanes": 2} if event == "started" else {}))
        (status,) = (one for one in Reader(copied).read().trials if one.folder == folder.name)
        assert (status.state, status.lanes) == (state, 2)


@pytest.mark.parametrize(
    ("event", "since", "state"),
    [
        ("started", "2026-01-01T11:00:00+00:00", "running"),
        ("started", "2026-01-01T13:00:00+00:00", "planned"),
        ("stopped", "2026-01-01T11:00:00+00:00", "planned"),
    ],
)
def test_trial_of_an_earlier_driver_is_planned_while_the_next_prepares(begun, event, since, state):
    run, folder = begun
    record = files.read_json(run.path / "driver.json")
    files.write_json(run.path / "driver.json", record | {"since": since})
    (folder.path / "train.json").unlink()
    line = {"event": event, "attempt": 1, "time": "2026-01-01T12:00:00+00:00"}
    (folder.path / "attempts.jsonl").write_text(json.dumps(line) + "\n")
    (status,) = (one for one in Reader(run.path).read().trials if one.folder == folder.path.name)
    assert status.state == state


def test_failed_trial_is_shown_with_its_reason(copied):
    folder = trial(copied, "second-lr1.00e-03")
    shutil.rmtree(folder / "scores")
    failed = {"event": "failed", "phase": "evaluate", "reason": "evaluate: the disk is full"}
    (folder / "attempts.jsonl").write_text(json.dumps(failed) + "\n")
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(progress.status(Reader(copied).read()))
    text = console.export_text()
    assert "1 failed" in text
    assert "the disk is full" in text


def test_trial_that_an_earlier_start_left_half_done_says_what_is_left(copied):
    folder = trial(copied, "second-lr1.00e-03")
    (ended,) = (one for one in Reader(copied).read().trials if one.folder == folder.name)
    assert ended.trained == 1.0 and len(ended.scored) == 3
    wanted = files.read_json(copied / "manifest.json")["stages"]["second"]["evaluations"]
    TrialFolder(folder).scores(wanted[0]["fingerprint"]).unlink()
    log = copied / "events.jsonl"
    for again in (True, False):
        (folder / "attempts.jsonl").unlink()
        TrialFolder(folder).log_attempt("failed", phase="evaluate", reason="no room")
        files.append_events(log, [{"event": "begun", "again": [ended.key] * again}])
        (copied / "driver.json").write_text("{}")
        reader = Reader(copied)
        (found,) = (one for one in reader.read().trials if one.key == ended.key)
        assert (found.state, found.again) == ("failed", again)
        assert found.trained == 1.0 and len(found.scored) == 2
    for event, again in (("retried", True), ("failed", False)):
        files.append_events(log, [{"event": event, "key": ended.key}])
        assert [one.key for one in reader.read().trials if one.again] == [ended.key] * again
    (folder / "train.json").unlink()
    (folder / "checkpoints" / "step-00000003").mkdir(parents=True)
    (found,) = (one for one in reader.read().trials if one.key == ended.key)
    assert (found.trained, found.scored) == (0.75, ())


def test_json_is_for_programs(chain_run):
    ended = subprocess.run(
        [sys.executable, "-m", "sweep.status", str(chain_run.path), "--json"],
        capture_output=True,
        text=True,
    )
    record = json.loads(ended.stdout)
    assert record["counts"]["ok"] == 3
    assert len(record["trials"]) == 4


def test_folder_without_a_plan_is_refused(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "sweep.status", str(tmp_path)], capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert "no plan.csv" in ended.stderr


def test_best_so_far_has_all_its_seeds_and_one_that_looks_better_is_told(load, small, tmp_path):
    grid = load(small, "stages.sft.grid.seed=[0, 1]")
    trials = plan.trials(grid)
    run = RunFolder(tmp_path / "small")
    run.write_plan(grid, trials)
    want = {"benchmark": "world_choice", "fingerprint": "mark", "higher_is_better": True}
    files.write_json(run.manifest, {"name": "small", "stages": {"sft": {"evaluations": [want]}}})
    values = {(0.001, 0): 0.9, (0.002, 0): 0.5, (0.002, 1): 0.4}
    for trial in trials:
        value = trial.spec and values.get((trial.spec.learning_rate, trial.spec.seed))
        if value is not None:
            folder = run.trial(trial)
            folder.log_attempt("started", attempt=1)
            files.write_json(folder.path / "train.json", {"status": "ok", "reason": ""})
            score = {"primary": True, "metric": "acc", "value": value, "stderr": 0.1}
            files.write_json(folder.scores("mark"), {"scores": [score]})
    status = Reader(run.path).read()
    (best,) = status.best
    assert (best.learning_rate, best.value, best.seeds) == (0.002, pytest.approx(0.45), 2)
    note = "learning rate 1e-3, batch size 4 looks better (0.9), but a seed of it has no score"
    assert best.note == note
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(progress.status(status))
    assert note in console.export_text()


@pytest.fixture
def begun(load, small, tmp_path) -> tuple[RunFolder, TrialFolder]:
    """A run of three trials with the records of one, as if a driver were at it elsewhere."""
    grid = load(small)
    trials = plan.trials(grid)
    run = RunFolder(tmp_path / "small")
    run.write_plan(grid, trials)
    want = {"benchmark": "world_choice", "fingerprint": "mark", "higher_is_better": True}
    files.write_json(run.manifest, {"name": "small", "stages": {"sft": {"evaluations": [want]}}})
    files.write_json(run.path / "driver.json", {"pid": 1, "host": "elsewhere", "since": "today"})
    folder = run.trial(trials[1])
    folder.log_attempt("started", attempt=1)
    folder.log_attempt("done", attempt=1, seconds=1.0)
    files.write_json(folder.path / "train.json", {"status": "ok", "reason": ""})
    score = {"primary": True, "metric": "acc", "value": 0.5, "stderr": 0.1}
    files.write_json(folder.scores("mark"), {"scores": [score]})
    return run, folder


def test_record_cut_anywhere_is_told_or_changes_nothing(begun):
    """After every third byte, and round the ends of lines."""
    run, folder = begun
    whole = Reader(run.path).read().counts
    assert whole["ok"] == 1
    for file in (
        run.path / "plan.csv", run.manifest, run.path / "driver.json", folder.path / "train.json",
        folder.scores("mark"), folder.path / "attempts.jsonl",
    ):  # fmt: skip
        content = file.read_bytes()
        header = content.index(b"\n") + 1
        ends = [place for place, byte in enumerate(content) if byte == ord("\n")]
        round_ends = {end + by for end in ends for by in (-1, 0, 1)} - {len(content)}
        for kept in sorted({*range(0, len(content), 3), *round_ends}):
            if file.name == "plan.csv" and content[:kept].endswith(b"\n") and kept >= header:
                continue  # a plan of fewer trials
            file.write_bytes(content[:kept])
            try:
                assert Reader(run.path).read().counts == whole, f"{file.name} after {kept} bytes"
            except Damaged as error:
                assert str(file) in str(error)
        file.write_bytes(content)


def test_damaged_record_is_told_in_one_line(begun):
    run, folder = begun
    (folder.path / "train.json").write_text("{")
    ended = subprocess.run(
        [sys.executable, "-m", "sweep.status", str(run.path)], capture_output=True, text=True
    )
    assert ended.returncode == 4
    assert f"{folder.path / 'train.json'}: damaged" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_run_is_shown_where_its_cost_does_not_read(begun):
    run, _ = begun
    (run.path / "cost.json").write_text("{")
    shown = CliRunner().invoke(status.app, [str(run.path)])
    assert shown.exit_code == 0, shown.output
    assert "what deleted trials have cost is then forgotten" in " ".join(shown.output.split())
    record = json.loads(CliRunner().invoke(status.app, [str(run.path), "--json"]).stdout)
    assert record["cost"] is None and "cost.json: damaged" in record["notes"][-1]


def test_line_of_events_that_is_no_event_is_passed_over(begun):
    run, _ = begun
    run.events.write_text('{"x": 1}\n')
    reader = Reader(run.path)
    assert reader.read().counts == reader.read().counts


def test_two_folders_of_one_trial_are_no_fault_of_the_report(chain_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(chain_run.path, run)
    one = next(run.glob("trials/second-lr*"))
    shutil.copytree(one, one.with_name(f"{one.name}-copy"))
    shutil.rmtree(run / "report", ignore_errors=True)
    shown = CliRunner().invoke(status.app, [str(run)])
    assert shown.exit_code == 4 and "are of one trial" in shown.output
    assert "recommendations.json" not in shown.output


@pytest.mark.parametrize("content", [b"", b"half", b"\xff\xfe\n", b"{\n", None])
def test_steps_that_do_not_read_leave_a_running_trial_running(content, begun):
    run, folder = begun
    (folder.path / "train.json").unlink()
    folder.log_attempt("started", attempt=2)
    metrics = folder.path / "metrics.jsonl"
    metrics.mkdir() if content is None else metrics.write_bytes(content)
    status = Reader(run.path).read()
    (running,) = (one for one in status.trials if one.state == "running")
    assert running.step is None


def test_a_look_opens_the_attempts_of_a_trial_once(begun, monkeypatch):
    """The terminal looks once a second at all that has not ended."""
    run, folder = begun
    (folder.path / "train.json").unlink()
    folder.log_attempt("started", attempt=2)
    read, opened = TrialFolder.attempts, list[str]()
    monkeypatch.setattr(
        TrialFolder, "attempts", lambda self: opened.append(self.path.name) or read(self)
    )
    assert Reader(run.path).read().counts["running"] == 1
    assert len(opened) == len(set(opened)) == 3


def test_attempt_with_a_time_that_is_none_is_named(copied):
    path = trial(copied, "second-lr1.00e-03") / "attempts.jsonl"
    path.write_text('{"event": "started", "attempt": 1, "time": "02026-11-28T22:10:11"}\n')
    with pytest.raises(Damaged, match=r"attempts\.jsonl: holds what was never written"):
        Reader(copied).read()


def test_trial_that_names_another_key_is_named(copied):
    path = trial(copied, "second-lr1.00e-03") / "trial.json"
    files.write_json(path, files.read_json(path) | {"key": "6aede04a21f4"})
    with pytest.raises(Damaged, match=r"trial\.json is of 6aede04a21f4"):
        Reader(copied).read()


def test_plan_with_a_short_row_is_named(copied):
    path = copied / "plan.csv"
    path.write_text(path.read_text().rstrip().rpartition(",")[0].rpartition(",")[0] + "\n")
    shortened = path.read_text().splitlines()
    path.write_text("\n".join([*shortened[:-1], "abc,,second"]) + "\n")
    with pytest.raises(Damaged, match=r"plan\.csv: holds what was never written"):
        Reader(copied)
