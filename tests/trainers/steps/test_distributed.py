"""One training by several processes: the failure of one ends all, and so does that of their
parent."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
import torch

from trainers.specs.result import OutOfTime
from trainers.steps import distributed


def environment():
    return os.environ["RANK"], os.environ["WORLD_SIZE"], distributed.is_first()


def fails(number: int, how: str) -> None:
    """In the process `number`; the others would wait for ever."""
    if int(os.environ["RANK"]) != number:
        time.sleep(600)
    if how == "out of time":
        raise OutOfTime("over the time limit at step 3 of 9")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "device":
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
    raise ValueError("no such thing")


def test_work_is_done_by_each_and_the_first_answers():
    assert distributed.run(2, environment) == ("0", "2", True)
    assert "RANK" not in os.environ


def test_one_process_is_this_one():
    assert distributed.run(1, os.getpid) == os.getpid()


@pytest.mark.parametrize(
    ("number", "how", "error", "said"),
    [
        (0, "out of time", OutOfTime, "over the time limit at step 3 of 9"),
        (1, "error", distributed.RankFailed, "no such thing"),
        (1, "killed", distributed.RankFailed, "process 1 of 2"),
        (0, "device", distributed.RankFailed, "uncorrectable ECC"),
    ],
)
def test_failure_of_one_ends_all(number, how, error, said):
    with pytest.raises(error, match=said) as raised:
        distributed.run(2, fails, number, how)
    assert getattr(raised.value, "killed", False) == (how == "killed")
    assert getattr(raised.value, "of_device", False) == (how == "device")


@pytest.mark.parametrize(
    ("last", "of_device"),
    [
        ("torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:93", True),
        ("torch.AcceleratorError: CUDA error: device not ready", True),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`", False),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", False),
        ("ValueError: no CUDA error: at all", False),
    ],
)
def test_failures_of_gpus_are_told_from_those_of_a_training(last, of_device):
    told = distributed.RankFailed(f"process 1 of 8:\nTraceback:\n  File ...\n{last}\n")
    assert told.of_device is of_device


def meets_the_others() -> float:
    torch.distributed.init_process_group("gloo")
    sums = torch.ones(1)
    torch.distributed.all_reduce(sums)
    return float(sums)


def test_ranks_meet_at_the_store_of_their_parent():
    assert distributed.run(2, meets_the_others) == 2.0


def starts_ranks(folder: Path) -> None:
    distributed.run(2, writes_its_pid_and_hangs, folder)


def writes_its_pid_and_hangs(folder: Path) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])  # as inside NCCL
    (folder / os.environ["RANK"]).write_text(str(os.getpid()))
    time.sleep(600)


def test_ranks_end_with_a_killed_parent(tmp_path):
    parent = multiprocessing.get_context("spawn").Process(target=starts_ranks, args=(tmp_path,))
    parent.start()
    files = [tmp_path / "0", tmp_path / "1"]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    pids = [int(file.read_text()) for file in files]
    parent.kill()
    parent.join()
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def wait_until(condition) -> None:
    """The test's timeout ends it."""
    while not condition():
        time.sleep(0.1)
