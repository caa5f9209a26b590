"""The disturbances are what they are called."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from tests.crash_points import verdict
from tests.crash_points.operations import MAIN, SHORT_BYTES, Disturbance, Operation, Recorder
from trainers import files


def done_to(root: Path, disturbance: Disturbance, work: Callable[[], None]) -> int:
    """Do the work in a process of its own, one of its operations disturbed; its exit code, which is
    70 where the work itself failed."""
    child = os.fork()
    if not child:
        signal.alarm(20)
        Recorder(root, disturbance).start()
        try:
            work()
        except OSError as error:
            os._exit(error.errno)
        except BaseException:  # or a second pytest would go on from here
            traceback.print_exc()
            os._exit(70)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_operations_are_numbered_in_their_order(root):
    def work():
        recorder = Recorder(root)
        recorder.start()
        files.write_text(root / "a" / "record.json", "{}")
        (root / "a" / "record.json").unlink()
        names = [operation.name for operation in recorder.operations[MAIN]]
        assert names == ["mkdir", "open", "fsync", "rename", "fsync", "unlink"], names

    assert done_to(root, Disturbance("kill", 10_000), work) == 0


def test_a_lock_and_a_removal_below_a_folder_are_numbered_with_their_paths(root):
    def work():
        recorder = Recorder(root)
        recorder.start()
        with FileLock(root / "lock"):
            (root / "a").mkdir()
        (root / "a" / "record").touch()
        shutil.rmtree(root / "a")
        words = [operation.words(root) for operation in recorder.operations[MAIN]]
        assert words[-3:] == ["open a/record", "unlink a/record", "rmdir a"], words
        assert words[:4] == ["open lock", "lock lock", "mkdir a", "lock lock"], words

    assert done_to(root, Disturbance("kill", 10_000), work) == 0


def test_operations_of_another_thread_have_their_own_numbers(root):
    def work():
        (root / "mine").mkdir()
        thread = threading.Thread(target=(root / "other").mkdir, name="page")
        thread.start()
        thread.join()
        (root / "never").mkdir()

    assert done_to(root, Disturbance("kill", 0, "page"), work) == -signal.SIGKILL
    assert [path.name for path in root.iterdir()] == ["mine"]


def test_a_short_write_fails_and_what_comes_after_does_not(root):
    def work():
        with pytest.raises(OSError, match="File too large"):
            (root / "record").write_text("x" * 1000)
        (root / "folder").mkdir()
        (root / "folder" / "record").write_text("x" * 1000)

    assert done_to(root, Disturbance("short", 0), work) == 0
    assert (root / "record").stat().st_size == SHORT_BYTES
    assert (root / "folder" / "record").stat().st_size == 1000


def test_a_file_that_no_operation_wrote_is_told(root):
    operations = {MAIN: [Operation("open", str(root / "known"))]}
    (root / "known").touch()
    assert not verdict.unnumbered(root, operations)
    (root / "round the seam").touch()
    assert verdict.unnumbered(root, operations) == ["round the seam"]


@pytest.mark.parametrize("kind", ["EIO", "ENOSPC"])
def test_an_operation_fails_and_nothing_is_left(root, kind):
    import errno

    rename = Disturbance(kind, 2)
    work = lambda: files.write_text(root / "record.json", "{}")  # noqa: E731
    assert done_to(root, rename, work) == getattr(errno, kind)
    assert not list(root.iterdir())


def test_killed_before_the_rename_the_old_record_stands(root):
    files.write_text(root / "record.json", "old")
    work = lambda: files.write_text(root / "record.json", "new")  # noqa: E731
    assert done_to(root, Disturbance("kill", 2), work) == -signal.SIGKILL
    assert (root / "record.json").read_text() == "old"


def test_a_torn_file_has_half_of_what_was_written(root):
    def work():
        (root / "torn").write_text("x" * 1000)
        (root / "next").write_text("")

    assert done_to(root, Disturbance("torn", 0), work) == -signal.SIGKILL
    assert (root / "torn").stat().st_size == 500
    assert not (root / "next").exists()


def test_power_cut_takes_what_was_not_flushed(root):
    (root / "old").write_text("before")

    def work():
        for text in ("one", "two", "{}"):
            files.write_text(root / "record.json", text)
        (root / "careless").write_text("never flushed")
        with open(root / "old", "a") as file:
            file.write(" and after")
        (root / "careless").replace(root / "renamed")
        (root / "end").mkdir()

    assert done_to(root, Disturbance("power", 15), work) == -signal.SIGKILL
    assert (root / "record.json").read_text() == "{}"
    assert (root / "old").read_text() == "before"
    assert not (root / "renamed").exists()
    assert (root / "careless").read_text() == ""


def crash_points(*options: str) -> subprocess.CompletedProcess[str]:
    """The command, in a process that has not trained: it forks."""
    command = [sys.executable, "-m", "tests.crash_points", *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])


@pytest.mark.slow
@pytest.mark.parametrize("place", ["folder", "store"])
def test_points_drawn_at_random_lose_nothing(place):
    ended = crash_points("--place", place, "--share", "0.01")
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_runs_that_compute_everything_anew_end_in_the_same_way():
    drawn = ("--kinds", "kill", "EIO", "power", "--thread", "main", "--share", "0.006", "--lines")
    once, anew = (crash_points(*drawn, *more) for more in ((), ("--plain",)))
    of_points = [
        [line for line in ended.stdout.splitlines() if " at main " in line]
        for ended in (once, anew)
    ]
    assert of_points[0] == of_points[1]
    assert len(of_points[0]) > 5
