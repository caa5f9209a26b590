"""One training by several processes: the batch is the same, and none of them is waited for in
vain."""

import os
import signal
import time

import pytest

from trainers.specs.spec import OutOfTime
from trainers.training import distributed


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
    ],
)
def test_failure_of_one_ends_all(number, how, error, said):
    with pytest.raises(error, match=said) as raised:
        distributed.run(2, fails, number, how)
    assert getattr(raised.value, "killed", False) == (how == "killed")
