"""The run folder: records are whole or not there, and one driver holds it."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from analysis.tables import load as results
from analysis.tables.errors import ResultsError
from sweep.plan import trials
from sweep.storage import run_folder
from sweep.storage.driver_lock import RunHeld
from sweep.storage.run_folder import RunFolder, TrialFolder
from trainers.files import Damaged, read_json, write_json, write_text

HOLDER = """
import sys, time
from pathlib import Path
from sweep.storage.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path/run."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")],
        cwd=Path(run_folder.__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_writing_leaves_the_record_and_nothing_else(tmp_path):
    write_json(tmp_path / "deep" / "record.json", {"a": [1, None, "ü"]})
    assert read_json(tmp_path / "deep" / "record.json") == {"a": [1, None, "ü"]}
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["record.json"]


def test_reader_never_sees_half_a_record(tmp_path):
    path = tmp_path / "record.json"
    texts = {letter * 300_000 for letter in "ab"}
    write_text(path, "a" * 300_000)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for text in texts:
                write_text(path, text)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = {path.read_text() for _ in range(300)}
    finally:
        stop.set()
        writer.join()
    assert seen <= texts


def test_record_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "record.json"
    write_json(path, {"value": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"value": float("nan")})
    with pytest.raises(TypeError):
        write_json(path, {"value": object()})
    assert read_json(path) == {"value": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_record_that_is_not_there_is_none(tmp_path):
    assert read_json(tmp_path / "record.json") is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"status": "ok"', bytes(20)])
def test_damaged_record_names_the_file_and_the_way_out(content, tmp_path):
    path = tmp_path / "train.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"train\.json: damaged .*; delete it to make it anew"):
        TrialFolder(tmp_path).training()


def test_record_that_is_no_text_is_damaged_too(tmp_path):
    (tmp_path / "train.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"train\.json: damaged"):
        TrialFolder(tmp_path).training()


@pytest.mark.parametrize(
    "content",
    ["[]", '"ok"', "{}", '{"status": 7}', '{"status": "great"}', '{"status": "ok", "steps": -1}'],
)
def test_record_that_no_training_leaves_is_refused_by_name(content, tmp_path):
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(ValueError, match=r"train\.json: .*; delete it to"):
        TrialFolder(tmp_path).training()


def test_attempts_are_read_in_order(tmp_path):
    folder = TrialFolder(tmp_path / "trial")
    assert folder.attempts() == []
    folder.log_attempt("started", attempt=1)
    folder.log_attempt("failed", attempt=1, phase="train", reason="why\nnot")
    events = folder.attempts()
    assert [event["event"] for event in events] == ["started", "failed"]
    assert events[1]["reason"] == "why\nnot"
    assert {event["pid"] for event in events} == {os.getpid()}


def test_cut_line_of_attempts_costs_only_itself(tmp_path):
    folder = TrialFolder(tmp_path)
    folder.log_attempt("started", attempt=1)
    path = tmp_path / "attempts.jsonl"
    path.write_bytes(path.read_bytes() + b'{"event": "fai')
    folder.log_attempt("started", attempt=2)
    assert [event["attempt"] for event in folder.attempts()] == [1, 2]
    assert path.read_text().count("\n") == 3


def test_trial_of_another_arm_or_stage_than_before_stays_in_its_folder(load, small, tmp_path):
    folder = RunFolder(tmp_path / "run")

    def plan(text: str) -> dict[str, list]:
        """Writes it; key, stage, arm and folder of each trained trial by the records."""
        planned = folder.kept(trials.trials(grid := load(text)))
        folder.write_plan(grid, planned)
        records = map(read_json, folder.path.glob("trials/*/trial.json"))
        return {r["key"]: [r["stage"], r["arm"], r["kind"]] for r in records}

    arms = "    arms: [{name: as_is, set: {}}, {name: longer, set: {steps: 4}}]\n    steps: 3"
    before = plan(small)
    names = {path.name for path in folder.path.glob("trials/*")}
    with_arms = plan(small.replace("    steps: 3", arms))
    assert before.keys() < with_arms.keys()
    assert {with_arms[key][1] for key in before if before[key][0] == "sft"} == {"as_is"}
    assert names < {path.name for path in folder.path.glob("trials/*")}
    with open(folder.path / "plan.csv") as rows:
        assert names < {row["folder"] for row in csv.DictReader(rows)}
    renamed = plan(small.replace("  sft:", "  tuned:"))
    assert {key: renamed[key] for key in before} == {
        key: ["tuned", "", "sft"] if stage == "sft" else [stage, arm, kind]
        for key, (stage, arm, kind) in before.items()
    }
    assert plan(small).items() >= before.items(), "back again"


@pytest.mark.parametrize("copy", ["tune-lr1-{key}", "{name}.bak", "{name} (copy)", "{name}-copy"])
def test_two_folders_of_one_trial_are_refused(copy, load, small, tmp_path):
    folder = RunFolder(tmp_path / "run")
    planned = trials.trials(grid := load(small))
    folder.write_plan(grid, planned)
    one = folder.trial(planned[-1]).path
    two = one.with_name(copy.format(key=planned[-1].key, name=one.name))
    two.mkdir()
    assert folder.kept(planned) == planned, "nothing is in it"
    (two / "trial.json").write_bytes((one / "trial.json").read_bytes())
    with pytest.raises(Damaged) as refused:
        folder.kept(planned)
    write_json(folder.manifest, {"name": "small"})
    with pytest.raises(ResultsError) as unread:
        results.read(folder.path)
    for told in (refused, unread):
        assert str(one) in str(told.value) and str(two) in str(told.value)
        assert f"of one trial ({planned[-1].key}); delete one of them" in str(told.value)


def test_second_driver_is_refused_and_told_who_holds_the_folder(holder, tmp_path):
    with (
        pytest.raises(RunHeld, match=f"held by process {holder.pid} on .* since 20"),
        RunFolder(tmp_path / "run").lock(),
    ):
        pass
    assert holder.poll() is None
    assert json.loads((tmp_path / "run" / "driver.json").read_text())["pid"] == holder.pid


def test_command_with_a_held_folder_exits_4_and_starts_nothing(
    holder, tmp_path, small, grid_file, command
):
    (tmp_path / "run").mkdir(exist_ok=True)
    run = command(grid_file(small.replace("name: small", "name: run")), "--runs", tmp_path)
    assert run.returncode == 4
    assert f"held by process {holder.pid}" in run.stderr
    assert not (tmp_path / "run" / "trials").exists()


def test_lock_of_a_killed_driver_is_taken_over(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / "driver.json").exists(), "it had no time to tidy up"
    with RunFolder(tmp_path / "run").lock():
        assert json.loads((tmp_path / "run" / "driver.json").read_text())["pid"] == os.getpid()


def test_lock_is_let_go_after_use_and_after_an_error(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(KeyError), folder.lock():
        raise KeyError
    with folder.lock():
        pass
    assert not (tmp_path / "run" / "driver.json").exists()


def test_trial_is_done_when_training_has_ended_and_each_score_is_there(tmp_path):
    folder = TrialFolder(tmp_path)
    assert not folder.done([])
    write_json(tmp_path / "train.json", {"status": "ok"})
    assert folder.done([])
    assert not folder.done(["aa", "bb"])
    write_json(folder.scores("aa"), {})
    assert folder.missing(["aa", "bb"]) == ["bb"]
    assert not folder.done(["aa", "bb"])
    write_json(folder.scores("bb"), {})
    assert folder.done(["aa", "bb"])


def test_diverged_trial_is_done_without_scores_and_no_start_for_others(tmp_path):
    folder = TrialFolder(tmp_path)
    write_json(tmp_path / "train.json", {"status": "diverged"})
    assert folder.done(["aa"])
    assert not folder.usable()


def test_attempts_killed_for_want_of_memory_are_told_from_other_ends(tmp_path):
    folder = TrialFolder(tmp_path)

    def started(kills: int | None) -> None:
        folder.log_attempt("started", memory_kills_here=kills)

    started(3)
    assert folder.memory_kills() == 0
    started(3)  # ended without a word, killed by hand
    assert folder.memory_kills() == 0
    started(5)
    assert folder.memory_kills() == 1
    folder.log_attempt("failed", phase="train", reason="a bug")
    started(9)  # others were killed while it was not running
    assert folder.memory_kills() == 1
    started(None)  # another system
    started(10)
    assert folder.memory_kills() == 1
    started(11)
    assert folder.memory_kills() == 2
    folder.log_attempt("halved", reason="process 1 of 2 ran out of memory")
    started(11)  # preempted after that, and on another machine
    assert folder.memory_kills() == 3


def test_folder_of_a_killed_driver_is_not_held(holder, tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.driver().at_work
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / "driver.json").exists()
    assert not folder.driver().at_work
