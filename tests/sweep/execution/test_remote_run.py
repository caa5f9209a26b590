"""Runs in a store, driven in this process: trials that share no folder with their driver."""

import errno
import json
import os
import shutil
import signal
import uuid
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from sweep import run
from sweep.execution import remote_driver, remote_run, stop_request
from sweep.execution.job import Stored, make
from sweep.execution.worker import remote_inputs, remote_trial, scoring
from sweep.plan import trials
from sweep.resolve.resolve import resolve
from sweep.storage import driver_lock, driver_signs
from sweep.storage.remote import lock as remote_lock
from sweep.storage.remote.mirror import Mirror
from sweep.storage.remote.mirror_files import NOTE
from sweep.storage.remote.object_store import Unreachable
from sweep.storage.run_folder import RunFolder, TrialFolder
from sweep.storage.status.reader import Reader
from tests.faults.runs import ROOT, TIMES, Run, judged, wait_until
from trainers import files
from trainers.processes.attempt import SIGNS

ROWS = "".join(
    json.dumps({"prompt": f"What is {n} and {n % 7}?", "completion": f"It is {n + n % 7}."}) + "\n"
    for n in range(24)
)


@pytest.fixture
def bucket(monkeypatch, tmp_path) -> str:
    monkeypatch.setattr(driver_lock, "SETTLE_SECONDS", 0.1)
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "node"))
    return f"memory://bucket-{uuid.uuid4().hex}/runs"


@pytest.fixture
def drive(bucket, monkeypatch):
    """The whole command in this process, from a folder of the driver's own."""

    def drive(text: str, folder: Path, *options: str, place: str = bucket):
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        Path("grid.yaml").write_text(text)
        arguments = ["grid.yaml", "--local", "--runs", place, *options]
        return CliRunner().invoke(run.app, arguments, catch_exceptions=False)

    return drive


def table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "results.csv").drop(columns=TIMES)


@pytest.mark.slow
def test_run_in_a_store_equals_a_run_in_a_folder(chain, chain_run, drive, bucket, tmp_path):
    ended = drive(chain, tmp_path / "one")
    assert ended.exit_code == 0, ended.output
    mirror = tmp_path / "one" / "runs" / "chain"
    pd.testing.assert_frame_equal(table(mirror), table(chain_run.path))
    there = Mirror(tmp_path / "none", f"{bucket}/chain").there()
    (first,) = [f.name for f in mirror.glob("trials/first-*")]
    assert f"trials/{first}/model/model.safetensors" in there
    assert not [name for name in there if "checkpoints" in name]
    assert [f.name for f in (mirror / "trials" / first / "model").iterdir()] == [NOTE]
    assert "results.csv" in there and "report/index.html" in there
    assert not list(files.cache_folder("stores").glob("*/room-*")), (
        "nothing of a trial stays on its node"
    )

    again = drive(chain, tmp_path / "another driver")
    assert again.exit_code == 0, again.output
    assert "4 of 4 models done, 0 to go" in again.output
    pd.testing.assert_frame_equal(
        table(tmp_path / "another driver" / "runs" / "chain"), table(mirror)
    )

    brought = tmp_path / "brought"
    told = CliRunner().invoke(remote_run.app, [f"{bucket}/chain", str(brought)])
    assert told.exit_code == 0, told.output
    pd.testing.assert_frame_equal(table(brought), table(mirror))
    from sweep.export import __main__ as export

    told = CliRunner().invoke(export.app, [str(brought), "--to", str(tmp_path / "best")])
    assert told.exit_code == 0, told.output
    assert (tmp_path / "best" / "model.safetensors").stat().st_size > 1000
    assert not (tmp_path / "best" / NOTE).exists()


@pytest.mark.slow
def test_trials_in_one_pass_have_one_room_and_each_its_place_in_the_store(
    chain, chain_run, drive, bucket, tmp_path
):
    ended = drive(chain, tmp_path / "one", "--set", "resources.lanes=2")
    assert ended.exit_code == 0, ended.output
    mirror = tmp_path / "one" / "runs" / "chain"
    pd.testing.assert_frame_equal(
        table(mirror).sort_values(["key", "benchmark", "metric"], ignore_index=True),
        table(chain_run.path).sort_values(["key", "benchmark", "metric"], ignore_index=True),
        rtol=1e-3,
    )
    there = Mirror(tmp_path / "none", f"{bucket}/chain").there()
    for cell in mirror.glob("trials/second-*"):
        started = files.read_events(cell / "attempts.jsonl")[0]
        assert started["lanes"] == 2
        assert f"trials/{cell.name}/train.json" in there
    assert not list(files.cache_folder("stores").glob("*/room-*"))


ROWS_GRID = """\
name: rows
model: tiny
stages:
  sft:
    kind: sft
    data: rows.jsonl
    learning_rate: 0.001
    batch_size: 4
    steps: 2
    max_length: 128
    heldout: 8
    keep: none
evaluate: {benchmarks: [world_choice], limit: 4, batch_size: 4}
"""


def test_files_that_the_grid_names_reach_the_trials_and_prepared_data_serves_them(
    drive, bucket, tmp_path, monkeypatch
):
    opened = []
    monkeypatch.setattr(remote_inputs, "named_input", seen(remote_inputs.named_input, opened))
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "rows.jsonl").write_text(ROWS)
    ended = drive(ROWS_GRID, tmp_path / "one")
    assert ended.exit_code == 0, ended.output
    assert {path.name for path in opened} == {"rows.jsonl"}
    assert all(path.is_relative_to(tmp_path / "node") for path in opened)
    node = next((tmp_path / "node" / "stores").glob("*/data"))
    prepared = {f.parent.name for f in node.glob("*/counts.json")}
    assert prepared == {
        f.parent.name for f in (tmp_path / "one/runs/rows/data").glob("*/counts.json")
    }, "no trial has prepared it again"
    there = Mirror(tmp_path / "none", f"{bucket}/rows").there()
    assert not [name for name in there if "/model/" in name], "keep: none holds there too"
    (trial,) = (tmp_path / "one" / "runs" / "rows" / "trials").glob("sft-*")
    assert TrialFolder(trial).weights_removed() == "keep: none"


TASK = """\
task: mine
custom_dataset: !function helper.items
test_split: test
output_type: multiple_choice
doc_to_text: prompt
doc_to_choice: choices
doc_to_target: label
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""

HELPER = """\
from datasets import Dataset

def items(**_):
    row = {"prompt": "One and one is", "choices": [" two", " six"], "label": 0}
    return {"test": Dataset.from_list([row])}
"""


@pytest.mark.slow
def test_folder_of_a_model_and_task_file_with_its_code_reach_the_trials(
    chain_run, drive, bucket, tmp_path, monkeypatch
):
    opened = []
    monkeypatch.setattr(remote_inputs, "named_input", seen(remote_inputs.named_input, opened))
    folder = tmp_path / "one"
    (model,) = chain_run.path.glob("trials/first-*/model")
    shutil.copytree(model, folder / "start")
    (folder / "mine.yaml").write_text(TASK)
    (folder / "helper.py").write_text(HELPER)
    (folder / "rows.jsonl").write_text(ROWS)
    text = ROWS_GRID.replace("model: tiny", "model: ./start").replace("world_choice", "mine.yaml")
    ended = drive(text, folder)
    assert ended.exit_code == 0, ended.output
    assert {path.name for path in opened} == {"start", "mine.yaml", "rows.jsonl"}
    assert "mine" in set(table(folder / "runs" / "rows").benchmark)

    helper = next(name for name in Mirror(tmp_path, f"{bucket}/rows").there() if "helper" in name)
    there = Mirror(tmp_path, f"{bucket}/rows")
    there.system.pipe_file(f"{there.path}/{helper}", b"raise SystemExit('run')")
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "another node"))
    task = f"{Path(helper).parent}/mine.yaml"
    with pytest.raises(Unreachable, match="not what the driver has brought up"):
        remote_inputs.named_input(there.url, files.cache_folder("stores"), task)


def seen(function, found):
    def called(*given):
        found.append(function(*given))
        return found[-1]

    return called


REFUSED = {
    "s4://bucket/runs": (2, "s4"),
    "s3://key:Secret@bucket/runs": (2, "no password"),
    "gs://bucket/runs": (2, "gcsfs"),
    "file:///proc/nowhere": (4, "/proc/nowhere"),
}


@pytest.mark.parametrize("place", REFUSED)
def test_place_that_is_none_ends_at_once_and_leaves_nothing(place, small, drive, tmp_path):
    ended = drive(small, tmp_path / "one", place=place)
    code, word = REFUSED[place]
    assert ended.exit_code == code
    assert word in ended.output
    assert "Secret" not in ended.output and "Traceback" not in ended.output
    assert [f.name for f in (tmp_path / "one").iterdir()] == ["grid.yaml"]


def test_folder_with_a_run_of_its_own_is_no_mirror_nor_a_mirror_a_run(
    small, drive, bucket, tmp_path
):
    place = tmp_path / "one" / "runs" / "small"
    place.mkdir(parents=True)
    (place / "calibration.json").write_text("{}")
    assert RunFolder(place).problem(f"{bucket}/small") is None
    (place / "plan.csv").write_text("key\n")
    ended = drive(small, tmp_path / "one")
    assert ended.exit_code == 2 and "holds a run of its own" in ended.output
    (place / "mirror.json").write_text(json.dumps({"url": f"{bucket}/small"}))
    for other in ("runs", f"{bucket}/other"):
        ended = drive(small, tmp_path / "one", place=other)
        assert ended.exit_code == 2 and f"give --runs {bucket}" in ended.output


def test_second_driver_is_refused_whatever_folder_it_works_in(
    small, drive, bucket, tmp_path, monkeypatch
):
    monkeypatch.setattr(driver_lock, "RENEW_SECONDS", 0.1)
    mirror = Mirror(tmp_path / "first", f"{bucket}/small")
    with remote_lock.store_lock(mirror, print, lambda: None):
        ended = drive(small, tmp_path / "second")
    assert ended.exit_code == 4
    assert f"held by process {os.getpid()}" in ended.output
    assert not list((tmp_path / "second").glob("runs/small/trials/*/attempts.jsonl"))


def test_damaged_record_is_named_as_the_store_has_it_since_it_has_to_be_deleted_there(
    small, drive, bucket, tmp_path
):
    there = Mirror(tmp_path / "none", f"{bucket}/small")
    there.system.pipe_file(f"{there.path}/manifest.json", b"{")
    ended = drive(small, tmp_path / "one")
    assert ended.exit_code == 4
    assert f"{bucket}/small/manifest.json: damaged" in ended.output


def test_driver_that_was_replaced_ends_and_leaves_the_run_to_the_other(
    small, drive, bucket, tmp_path, monkeypatch
):
    monkeypatch.setattr(driver_lock, "RENEW_SECONDS", 0.1)
    there = Mirror(tmp_path / "none", f"{bucket}/small")
    other = json.dumps({"id": "x", "pid": 7, "host": "elsewhere", "since": "noon"}).encode()
    all_here = remote_trial.all_here

    def taken_over(jobs):
        there.system.pipe_file(f"{there.path}/driver.json", other)
        return all_here(jobs)

    monkeypatch.setattr(remote_trial, "all_here", taken_over)
    ended = drive(small, tmp_path / "one")
    assert ended.exit_code == 4
    assert "held by process 7 on elsewhere" in ended.output
    assert there.system.cat_file(f"{there.path}/driver.json") == other
    assert "results.csv" not in there.there()


def test_trial_of_a_chosen_parent_is_known_to_a_driver_that_has_no_mirror_yet(
    pipeline, planned, load, drive, bucket, tmp_path
):
    parent = next(trial.key for trial in planned(pipeline) if trial.stage == "sft")
    dpo = next(t for t in trials.trials(load(pipeline), {"dpo": parent}) if t.stage == "dpo")
    record = {"rule": {"start_from": "sft", "best": "world_choice"}, "parent": parent}
    there = Mirror(tmp_path / "none", f"{bucket}/pipeline")
    there.system.pipe_file(f"{there.path}/choices/dpo.json", json.dumps(record).encode())
    ended = drive(pipeline, tmp_path / "two", "--dry-run", "--only", dpo.key)
    assert ended.exit_code == 0, ended.output
    assert not (tmp_path / "two" / "runs").exists(), "a plan leaves nothing"


@pytest.mark.slow
def test_parent_that_was_chosen_by_one_driver_is_the_start_for_another(
    pipeline, drive, bucket, tmp_path
):
    """What DPO's reference came to is computed once, for both."""
    ended = drive(pipeline, tmp_path / "one", "--set", "limits.max_trials=6")
    assert ended.exit_code == 5, ended.output
    name = Path("runs", "pipeline")
    choice = (tmp_path / "one" / name / "choices" / "dpo.json").read_bytes()
    there = Mirror(tmp_path / "none", f"{bucket}/pipeline")
    references = [path for path in there.there("data/reference") if path.endswith(".npz")]
    assert len(references) == 1
    ended = drive(pipeline, tmp_path / "two")
    assert ended.exit_code == 0, ended.output
    assert (tmp_path / "two" / name / "choices" / "dpo.json").read_bytes() == choice
    assert set(table(tmp_path / "two" / name).status) == {"ok"}
    starts = [
        event["event"]
        for file in (tmp_path / "two" / name).glob("trials/*/attempts.jsonl")
        for event in map(json.loads, file.read_text().splitlines())
    ]
    assert starts.count("started") == 7 + 1, (
        "7 models, and the pass that has computed DPO's reference"
    )


def test_records_brought_from_a_run_at_work_say_what_runs_and_from_when_they_are(bucket, tmp_path):
    url, here = f"{bucket}/run", tmp_path / "driver"
    row = {"key": "k", "folder": "t", "stage": "sft", "arm": "", "learning_rate": "0.001"}
    row |= {"batch_size": "4", "seed": "0", "steps": "9"}
    trial = TrialFolder(here / "trials" / "t")
    trial.log_attempt("started", stalled_seconds=60)
    files.write_json(here / "manifest.json", {"name": "run", "stages": {}})
    (here / "plan.csv").write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
    driver = Mirror(here, url)
    driver.push()
    laptop = tmp_path / "laptop"
    with remote_lock.store_lock(driver, print, lambda: None):
        brought = CliRunner().invoke(remote_run.app, [url, str(laptop)])
    assert brought.exit_code == 0, brought.output
    status = Reader(laptop).read()
    assert status.counts["running"] == 1 and f"remote_run {url}" in status.driver
    seen = json.loads((laptop / driver_signs.SEEN).read_text())
    files.write_json(laptop / driver_signs.SEEN, seen | {"time": "2026-01-01T00:00:00+00:00"})
    assert not Reader(laptop).read().trials[0].stalled, "nobody knows what it did since"

    brought = CliRunner().invoke(remote_run.app, [url, str(laptop)])
    assert brought.exit_code == 0, brought.output
    status = Reader(laptop).read()
    assert status.counts["planned"] == 1 and not status.driver, "its driver has gone"


def test_run_that_is_gone_from_its_store_is_not_begun_anew_over_its_mirror(
    small, drive, bucket, tmp_path
):
    trial = tmp_path / "one" / "runs" / "small" / "trials" / "t"
    trial.mkdir(parents=True)
    (trial / "attempts.jsonl").write_text('{"event": "started"}\n')
    (trial.parents[1] / "mirror.json").write_text(json.dumps({"url": f"{bucket}/small"}))
    ended = drive(small, tmp_path / "one")
    assert ended.exit_code == 4 and "nothing is there" in ended.output
    assert (trial / "attempts.jsonl").exists()


def test_trial_that_was_started_elsewhere_writes_nothing_more(bucket, tmp_path):
    url = f"{bucket}/run/trials/t"
    first = remote_trial._Trial(tmp_path / "first", url)
    first.begin()
    (first.mirror.here / "metrics.jsonl").write_text("1\n")
    first.push()
    second = remote_trial._Trial(tmp_path / "second", url)
    second.begin()
    (first.mirror.here / "metrics.jsonl").write_text("1\n2\n")
    (first.mirror.here / "train.json").write_text("{}")
    with pytest.raises(remote_trial.Superseded, match=str(os.getpid())):
        first.push()
    third = remote_trial._Trial(tmp_path / "third", url)
    third.begin()
    assert (third.mirror.here / "metrics.jsonl").read_text() == "1\n"
    assert not (third.mirror.here / "train.json").exists()


@pytest.mark.parametrize(
    "kept",
    [
        {"model/weights": b"w", "train.json": b'{"status": "ok", "weights": "a"}'},
        {"train.json": b'{"status": "ok"}', "weights_removed.json": b'{"reason": "keep: none"}'},
        {},
    ],
)
def test_weights_of_a_parent_come_with_what_is_recorded_of_them(kept, bucket, tmp_path):
    there = Mirror(tmp_path / "none", f"{bucket}/run/trials/t")
    for name, content in kept.items():
        there.system.pipe_file(f"{there.path}/{name}", content)
    parent = remote_inputs._parent(f"{bucket}/run", tmp_path, "t")
    here = (path for path in parent.rglob("*") if path.is_file())
    assert {path.relative_to(parent).as_posix(): path.read_bytes() for path in here} == kept


@pytest.mark.parametrize(
    ("removed", "told"),
    [("keep: best", r"of first-\S+, were removed \(keep: best\)"), ("", "are not there")],
)
def test_start_that_has_no_weights_any_more_is_not_taken_for_the_grids_model(
    removed, told, chain, load, bucket, tmp_path
):
    resolved, folder = resolve(load(chain)), RunFolder(tmp_path / "run")
    by_stage = {trial.stage: trial for trial in trials.trials(resolved.grid)}
    first, url = by_stage["first"], f"{bucket}/chain"
    job = make(by_stage["second"], first, resolved, folder)._replace(stored=Stored(url, {}))
    if removed:
        folder.trial(first).model.mkdir(parents=True)
        folder.trial(first).remove_weights(removed)
        Mirror(folder.path, url).push()
    with remote_inputs.room(remote_inputs.cache_of(url)) as room:
        brought = remote_inputs.brought(job, room).of(job, room)
        with pytest.raises(FileNotFoundError, match=told):
            scoring.start_weights(brought)
    assert make(first, by_stage["base"], resolved, folder).parent_folder is None


def test_trial_at_work_asks_its_store_as_often_as_the_docs_say(bucket, tmp_path, monkeypatch):
    trial = remote_trial._Trial(tmp_path / "t", f"{bucket}/run/trials/t")
    trial.begin()

    def grow() -> None:
        with open(trial.mirror.here / "metrics.jsonl", "a") as curves:
            curves.write("{}\n")
        files.write_json(trial.mirror.here / SIGNS, {"time": files.now()})
        trial.push()

    grow()
    asked: list[str] = []
    for name in ("cat_file", "pipe_file", "put_file", "rm_file", "find"):
        request = getattr(trial.mirror.system, name)

        def counted(*given, does=request):
            asked.append(str(given[0]))
            return does(*given)

        monkeypatch.setattr(trial.mirror.system, name, counted)
    grow()
    pushed = len(asked)
    stop_request.pass_on(trial.mirror, "x")
    asks = (len(asked) - pushed) * remote_trial.CURVES_EVERY / remote_trial.ASKED_EVERY
    page = (ROOT / "docs" / "object_store.md").read_text()
    assert pushed + asks == 6 and "six requests every 15 seconds" in page
    assert f"the six are {2000 * 6 / remote_trial.CURVES_EVERY:.0f} requests a second" in page


def test_store_that_is_away_for_a_while_is_asked_again():
    answers = [Unreachable("away"), Unreachable("away"), "here", Unreachable("away")]

    def ask():
        answer = answers.pop(0)
        if isinstance(answer, Unreachable):
            raise answer
        return answer

    with pytest.raises(Unreachable):
        remote_inputs.patiently(ask, (0.0,))
    assert remote_inputs.patiently(ask, (0.0, 0.0)) == "here"
    assert len(answers) == 1


def test_driver_knows_that_the_store_is_gone_and_that_it_is_back(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_driver, "FOLLOWED_EVERY", 0.02)
    monkeypatch.setattr(remote_driver, "GONE_AFTER", 0.2)
    said: list[str] = []
    folder = RunFolder(tmp_path / "run")
    with remote_driver.held(f"{bucket}/run", folder, said.append) as held:
        assert held is not None
        held.begun("trials/one")
        assert not held.away and not held.gone
        with monkeypatch.context() as cut:
            cut.setattr(held._mirror.system, "find", _away)
            wait_until(lambda: held.away)
            assert not held.gone
            wait_until(lambda: held.gone)
        wait_until(lambda: not held.away)
        assert not held.gone
    assert sum("tried again every" in line for line in said) == 1


def _away(*_, **__):
    raise OSError("the line is cut")


def test_trial_that_was_cut_off_from_the_store_has_not_failed_by_itself(tmp_path):
    folder = TrialFolder(tmp_path)
    for phase in ("train", "store", "store"):
        folder.log_attempt("failed", phase=phase, reason="")
    assert folder.failed() and folder.failures() == 1


def test_rooms_of_killed_processes_go_and_those_of_living_ones_stay(tmp_path):
    (tmp_path / "room-dead").mkdir()
    (tmp_path / "room-dead.lock").touch()
    with remote_inputs.room(tmp_path) as mine:
        assert not (tmp_path / "room-dead").exists()
        with remote_inputs.room(tmp_path) as other:
            assert mine.is_dir() and other.is_dir()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_driver_that_is_stopped_leaves_what_another_one_in_another_folder_goes_on_from(
    sent, tmp_path
):
    """Its trial runs in the driver's own process; both have nothing in common but the store."""
    store = tmp_path / "store"
    alone = Run(tmp_path / "alone", options=("--local",))
    first, second = (Run(tmp_path / name, options=("--local",)) for name in ("first", "second"))
    for one in (first, second):
        one.place = store.as_uri()
        one.environment = {"SWEEP_CACHE": str(one.folder / "cache")}
    process = first.start()
    saved = wait_until(
        lambda: next(store.glob("run/trials/second*/checkpoints/*/checksums.json"), None), process
    )
    process.send_signal(sent)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == (-9 if sent is signal.SIGKILL else 130), output
    done = {f.parent.name: f.stat().st_mtime_ns for f in store.glob("run/trials/*/train.json")}

    second.end()
    alone.end()
    assert judged(second.table(), alone.table()) == (0, 0, 0.0)
    after = {f.parent.name: f.stat().st_mtime_ns for f in store.glob("run/trials/*/train.json")}
    assert done and {name: after[name] for name in done} == done, "trained again"
    name = saved.parents[2].name
    events = [event["event"] for event in second.attempts()[second.path / "trials" / name]]
    assert events.count("started") == (1 if name in done else 2)
    assert ("resumed" in events) == (name not in done)


def test_probe_of_a_start_that_died_goes_with_the_next(tmp_path, monkeypatch):
    def away(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    url = f"file://{tmp_path}/run"
    with monkeypatch.context() as dies:
        dies.setattr(os, "remove", away)
        with pytest.raises(Unreachable):
            remote_run.reached(url)
    assert list((tmp_path / "run").iterdir())
    remote_run.reached(url)
    assert not list((tmp_path / "run").iterdir())
