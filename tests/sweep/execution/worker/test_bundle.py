"""Several trials in one pass: what each leaves, and what happens to one while it happens to all."""

import errno
import json
import shutil
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from sweep.execution.job import ALONE, TRAINED, WAITS, Job, Limits, make
from sweep.execution.worker import bundle, training, trial
from sweep.execution.worker.watchdog import Watchdog
from sweep.plan import trials
from sweep.resolve.resolve import resolve
from sweep.storage.run_folder import RunFolder
from sweep.storage.trial_folder import TrialFolder
from trainers import files
from trainers.lanes import room
from trainers.models import adapters
from trainers.processes import attempt
from trainers.specs.adapter import Adapter

GRID = """\
name: lanes
model: tiny
stages:
  sft:
    kind: sft
    data: {name: world:sft, examples: 24}
    steps: 6
    save_every_steps: 2
    heldout: 8
    max_length: 128
    grid: {learning_rate: [0.001, 0.002, 100], batch_size: [4]}
evaluate: {benchmarks: []}
"""


@pytest.fixture
def jobs(load, tmp_path) -> list[Job]:
    """Of learning rates 0.001, 0.002 and 100, which diverges at once."""
    resolved, run = resolve(load(GRID)), RunFolder(tmp_path / "run")
    cells = [one for one in trials.trials(resolved.grid) if one.spec is not None]
    cells.sort(key=lambda one: one.spec.learning_rate)
    for cell in cells:
        run.trial(cell).path.mkdir(parents=True)
    return [make(cell, None, resolved, run) for cell in cells]


def folder(job: Job) -> TrialFolder:
    return TrialFolder(Path(job.folder))


def statuses(jobs: list[Job]) -> list[str]:
    return [outcome.status for outcome in bundle.train(jobs)]


def events(job: Job) -> list[str]:
    return [event["event"] for event in folder(job).attempts()]


def steps(job: Job) -> int:
    return folder(job).last_step().get("step", 0)


def when(true: Callable[[], bool], does: Callable[[], None]) -> None:
    """Do it in a thread as soon as it is true."""

    def wait() -> None:
        end = time.monotonic() + 60
        while not true() and time.monotonic() < end:
            time.sleep(0.001)
        does()

    threading.Thread(target=wait, daemon=True).start()


def test_whole_run_with_lanes_has_the_table_of_one_without(chain, chain_run, drive, tmp_path):
    ended = drive(chain, tmp_path / "chain", "--set", "resources.lanes=3")
    assert ended.code == 0, ended.output
    names = ["key", "benchmark", "metric"]
    here, there = (
        pd.read_csv(run.path / "results.csv")
        .drop(columns=["train_seconds", "eval_seconds"])
        .sort_values(names, ignore_index=True)
        for run in (ended, chain_run)
    )
    pd.testing.assert_frame_equal(here, there, rtol=1e-3)
    passes = [
        event["lanes"]
        for file in ended.path.glob("trials/second*/attempts.jsonl")
        for event in files.read_events(file)
        if event["event"] == "started" and "lanes" in event
    ]
    assert passes == [2, 2]
    kept = [
        {path.relative_to(run.path).as_posix() for path in run.path.glob("trials/*/**/*")}
        for run in (ended, chain_run)
    ]
    assert kept[0] == kept[1]


def test_each_lane_leaves_what_a_trial_alone_leaves_and_is_then_scored(jobs):
    assert statuses(jobs) == [TRAINED, TRAINED, "diverged"]
    assert [events(job) for job in jobs] == [["started", "trained"]] * 2 + [["started", "done"]]
    for job, rate in zip(jobs[:2], (0.001, 0.002), strict=True):
        assert folder(job).has_weights() and not folder(job).checkpoints.exists()
        record = folder(job).training()
        assert (record["status"], record["steps"], record["lanes"]) == ("ok", 6, 3)
        assert record["learning_rate_sum"] == pytest.approx(rate * 3.5)
        assert trial.run(job).status == "ok"
        assert events(job)[2:] == ["started", "done"]
    assert folder(jobs[2]).training()["status"] == "diverged"
    assert statuses(jobs) == [TRAINED] * 3, "nothing is trained again"


def test_a_request_to_stop_stops_all_and_the_next_pass_goes_on(jobs):
    first = folder(jobs[0]).path
    when(lambda: steps(jobs[1]) >= 1, lambda: attempt.ask_to_stop(first, "enough"))
    assert statuses(jobs[:2]) == ["stopped", "stopped"]
    saved = [folder(job).progress()[1] for job in jobs[:2]]
    assert saved[0] == saved[1] > 0
    assert statuses(jobs[:2]) == [TRAINED, TRAINED]
    for job in jobs[:2]:
        assert events(job) == ["started", "stopped", "started", "resumed", "trained"]
        lines = (folder(job).path / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_a_lane_that_cannot_write_ends_alone(jobs):
    (folder(jobs[0]).path / "metrics.jsonl").mkdir()
    assert statuses(jobs) == [ALONE, TRAINED, "diverged"]
    failure = folder(jobs[0]).attempts()[-1]
    assert failure["event"] == "unbundled" and "metrics.jsonl" in failure["reason"]
    (folder(jobs[0]).path / "metrics.jsonl").rmdir()
    assert trial.run(jobs[0]).status == "ok"


def test_a_lane_that_was_superseded_writes_nothing_more_and_the_others_go_on(jobs):
    lost = folder(jobs[0])
    other = {"id": "other", "pid": 7, "host": "elsewhere"}
    when(lambda: steps(jobs[0]) >= 1, lambda: files.write_json(lost.path / attempt.HOLDER, other))
    assert statuses(jobs) == ["failed", TRAINED, "diverged"]
    assert events(jobs[0]) == ["started", "superseded"]
    assert not lost.trained() and not lost.has_weights()


def test_trials_at_one_step_share_a_pass_and_others_wait(jobs):
    (folder(jobs[1]).checkpoints / "step-00000002").mkdir(parents=True)
    assert statuses(jobs) == [TRAINED, WAITS, "diverged"]
    assert events(jobs[1]) == []
    assert statuses(jobs[:2]) == [TRAINED, ALONE]


def test_a_pass_that_died_between_two_checkpoints_goes_on_as_one(jobs):
    when(lambda: steps(jobs[0]) >= 4, lambda: attempt.ask_to_stop(folder(jobs[0]).path, "enough"))
    statuses(jobs[:2])
    ahead, behind = (folder(job) for job in jobs[:2])
    for one in (ahead, behind):
        lines = (one.path / "attempts.jsonl").read_text().splitlines(keepends=True)
        (one.path / "attempts.jsonl").write_text(lines[0])  # killed, and not stopped
    newest, before, *_ = ahead.checkpoint_steps()
    shutil.rmtree(behind.checkpoints / f"step-{newest:08}")
    signs = [attempt.signed_at(one.path) for one in (ahead, behind)]
    assert statuses(jobs[:2]) == [TRAINED, TRAINED]
    for one, sign in zip((ahead, behind), signs, strict=True):
        starts = [event for event in one.attempts() if event["event"] == "started"]
        assert [start["previous_sign"] for start in starts] == [None, sign]
    assert events(jobs[0]) == ["started", "started", "refused", "resumed", "trained"]
    for one in (ahead, behind):
        assert [e["step"] for e in one.attempts() if e["event"] == "resumed"] == [before]


def test_what_passes_have_brought_nowhere_is_trained_alone(jobs):
    for _ in range(bundle.FRUITLESS):
        folder(jobs[0]).log_attempt("started", lanes=3, progress=[0, 0, 0])
    assert statuses(jobs) == [ALONE, TRAINED, "diverged"]


def test_memory_that_holds_fewer_lanes_trains_fewer(jobs, monkeypatch):
    monkeypatch.setattr(room, "lanes_that_fit", lambda model, optimizer, bfloat16, lanes: 2)
    outcomes = bundle.train(jobs)
    assert [outcome.status for outcome in outcomes] == [TRAINED, TRAINED, WAITS]
    assert "memory holds 2 lanes of the 3" in outcomes[2].reason
    assert folder(jobs[0]).training()["lanes"] == 2
    assert events(jobs[2]) == ["started", "unbundled"]


def test_memory_for_one_lane_trains_each_alone(jobs, monkeypatch):
    monkeypatch.setattr(room, "lanes_that_fit", lambda model, optimizer, bfloat16, lanes: 1)
    assert statuses(jobs) == [ALONE] * 3


def test_a_pass_has_the_time_of_all_its_trials(jobs):
    assert Limits(max_seconds=10).of_lanes(3).max_seconds == 30
    late = [job._replace(limits=Limits(max_seconds=1e-9)) for job in jobs[:2]]
    outcomes = bundle.train(late)
    assert [outcome.status for outcome in outcomes] == ["failed"] * 2
    failure = folder(jobs[0]).attempts()[-1]
    assert failure["out_of_time"] and "over the time limit at step 1" in failure["reason"]
    assert folder(jobs[0]).failures() == 1


def test_other_code_trains_nothing_and_is_told_by_each_trial_alone(jobs):
    assert statuses([job._replace(code="other") for job in jobs]) == [ALONE] * 3
    assert "WrongCode" in folder(jobs[0]).attempts()[-1]["reason"]


def test_a_disk_too_full_to_watch_a_trial_is_the_reason_of_its_failure(jobs, monkeypatch):
    def no_room(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Watchdog, "__enter__", no_room)
    assert statuses(jobs) == [ALONE] * 3
    with pytest.raises(trial.TrialFailed, match="No space left"):
        trial.run(jobs[0])
    assert folder(jobs[0]).attempts()[-1]["phase"] == "disk"


@pytest.mark.parametrize("trained", [False, True])
def test_a_pass_that_fails_of_its_machine_is_for_another_pass_until_a_lane_is_trained(
    jobs, monkeypatch, trained
):
    def fails(*_):
        if trained:
            record = {"status": "ok", "train_seconds": 1.0}
            files.write_json(folder(jobs[0]).path / "train.json", record)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(bundle._Pass, "_train", fails)
    if trained:
        assert statuses(jobs) == [TRAINED, ALONE, ALONE]
        return
    with pytest.raises(trial.TrialFailed, match="Input/output error"):
        bundle.train(jobs)
    assert [events(job) for job in jobs] == [["started", "failed"]] * 3


class Model:
    """Stands for what is large."""


def test_an_adapter_that_is_kept_merged_leaves_the_weights_of_the_other_lanes(fresh, tmp_path):
    spec = SimpleNamespace(LEAVES="reward")  # whose head belongs on no model of the grid
    job: Any = SimpleNamespace(trial=SimpleNamespace(spec=spec, model=None), folder=tmp_path)
    adapters.attach(fresh.model, Adapter(rank=2), 0)
    before = {name: p.detach().clone() for name, p in fresh.model.named_parameters()}
    for name, weight in fresh.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(weight)
    with attempt.begun(tmp_path):
        training.keep(fresh, job, shared=True)
    kept = load_file(tmp_path / "model" / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj"
    after = dict(fresh.model.named_parameters())[f"{name}.base_layer.weight"]
    assert torch.equal(after, before[f"{name}.base_layer.weight"])
    assert not torch.equal(kept[f"{name}.weight"], after)


def test_an_error_that_is_kept_holds_no_model():
    kept: list[weakref.ref[Model]] = []

    def fails() -> None:
        model = Model()
        kept.append(weakref.ref(model))
        try:
            raise MemoryError("of the first kind")
        except MemoryError as error:
            raise ValueError("of the second") from error

    try:
        fails()
    except ValueError as error:
        stays = error
    assert kept[0]() is not None
    trial.let_go(stays)
    assert kept[0]() is None and "of the first kind" in "".join(traceback.format_exception(stays))
