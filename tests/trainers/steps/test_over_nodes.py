"""One training by processes of several nodes: a process of this machine stands for each other
node, as one of Ray's does on a cluster."""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import torch

from trainers.processes import nodes, replicas
from trainers.processes.nodes import NodeLost
from trainers.specs.result import OutOfTime
from trainers.steps import over_nodes
from trainers.steps.distributed import LOCALHOST, RankFailed


class Reply(NamedTuple):
    future: Future[Any]

    def done(self) -> bool:
        return self.future.done()

    def result(self) -> Any:
        try:
            return self.future.result()
        except BrokenProcessPool as error:
            raise NodeLost("the other node is lost", "id of other") from error


class Node:
    name, id = "other", "id of other"

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, spawn)
        self.pid = self._pool.submit(os.getpid).result()

    def ask(self, work, *arguments) -> Reply:
        return Reply(self._pool.submit(work, *arguments))

    def end(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(self.pid).kill()
        self._pool.shutdown()


@pytest.fixture
def node() -> Iterator[Node]:
    other = Node()
    yield other
    other.end()


def run(node: Node, ranks: int, work, *arguments) -> Any:
    shares = [over_nodes.Share(node, arguments)]
    return over_nodes.run(ranks, work, arguments, LOCALHOST, shares)


def meets_the_others() -> tuple[float, dict[str, str]]:
    torch.distributed.init_process_group("gloo")
    sums = torch.tensor(float(os.environ["RANK"]))
    torch.distributed.all_reduce(sums)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    every: list[Any] = [None] * 4
    torch.distributed.all_gather_object(every, [os.environ[name] for name in names])
    return float(sums), {numbers[0]: " ".join(numbers[1:]) for numbers in every}


@pytest.mark.slow
def test_processes_of_two_nodes_meet(node):
    sums, numbers = run(node, 4, meets_the_others)
    assert sums == 0 + 1 + 2 + 3
    assert numbers == {"0": "0 4 2", "1": "1 4 2", "2": "0 4 2", "3": "1 4 2"}


def fails(number: int, how: str, folder: Path) -> None:
    """In the process `number`; the others would wait for ever."""
    (folder / os.environ["RANK"]).write_text(str(os.getpid()))
    if int(os.environ["RANK"]) != number:
        time.sleep(600)
    while len(list(folder.iterdir())) < 4:
        time.sleep(0.05)
    if how == "out of time":
        raise OutOfTime("over the time limit at step 3 of 9")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "node lost":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)
    raise ValueError("no such thing")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "how", "error", "said"),
    [
        (3, "out of time", OutOfTime, "over the time limit at step 3 of 9"),
        (2, "error", RankFailed, "(?s)on node other: process 2 of 4.*no such thing"),
        (3, "killed", RankFailed, "on node other: process 3 of 4"),
        (2, "node lost", NodeLost, "the other node is lost"),
        (1, "error", RankFailed, "(?s)^process 1 of 4.*no such thing"),
    ],
)
def test_failure_of_one_ends_all(number, how, error, said, node, tmp_path, monkeypatch):
    monkeypatch.setattr(over_nodes, "REASON_SECONDS", 1.0)
    with pytest.raises(error, match=said) as raised:
        run(node, 4, fails, number, how, tmp_path)
    assert getattr(raised.value, "killed", False) == (how == "killed")
    elsewhere = error in (RankFailed, NodeLost) and number > 1
    assert getattr(raised.value, "node", "") == ("id of other" if elsewhere else "")
    node.end()
    pids = [int(file.read_text()) for file in tmp_path.iterdir()]
    while any(map(psutil.pid_exists, pids)):  # the test's timeout ends it
        time.sleep(0.05)


def test_cause_is_what_the_others_follow_from():
    closed, killed = RankFailed("connection closed"), RankFailed("killed", True, node="b")
    lost, ended = NodeLost("gone", "b"), OutOfTime("late")
    assert over_nodes._cause([closed, killed]) is killed
    assert over_nodes._cause([closed, killed, lost]) is lost
    assert over_nodes._cause([closed, lost, ended]) is ended
    assert over_nodes._cause([closed, RankFailed("another")]) is closed


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "full"])
def test_two_nodes_take_the_steps_of_one_process_and_go_on_from_their_checkpoints(
    sharding, node, tmp_path
):
    from tests.trainers.steps.test_sharding import all_of, assert_same, train, without_last_steps

    train(tmp_path / "one", "none", {})
    run(node, 2, all_of, tmp_path, [("two", sharding, {})])
    assert_same(tmp_path / "two", tmp_path / "one")
    resumed = without_last_steps(tmp_path / "two", tmp_path / "resumed")
    run(node, 2, all_of, tmp_path, [("resumed", sharding, {})])
    assert_same(resumed, tmp_path / "one")


class Loaded(NamedTuple):
    model: str


def opened(model: str) -> Loaded:
    return Loaded(model)


def where(loaded: Loaded, share: int) -> tuple[int, str, int]:
    return share, loaded.model, os.getppid()


def dies(loaded: Loaded, share: int) -> None:
    if share == 3:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_scores_are_divided_over_nodes_in_order(node):
    setting = replicas.ReplicaSetting(4, 1, 0.0, opened, ("here",))
    elsewhere = [replicas.RemoteReplicas(node, None, ("there",))]
    with replicas.started(setting, Loaded("here"), elsewhere):
        assert replicas._current is not None
        results = replicas._current.run(where, [(n,) for n in range(4)])
        assert [result[0] for result in results] == [0, 1, 2, 3]
        assert [result[1] for result in results] == ["here", "here", "there", "there"]
        assert [result[2] == node.pid for result in results] == [False, False, True, True]
        fewer = replicas._current.run(where, [(n,) for n in range(3)])
        assert [result[0] for result in fewer] == [0, 1, 2]
        with pytest.raises(replicas.ReplicaFailed, match="on node other: process 3 of 4 died"):
            replicas._current.run(dies, [(n,) for n in range(4)])
        psutil.Process(node.pid).kill()
        with pytest.raises(replicas.ReplicaFailed, match=r"on node other: .*lost") as raised:
            replicas._current.run(where, [(n,) for n in range(4)])
        assert isinstance(raised.value.__cause__, NodeLost)


def test_interface_is_that_of_the_address():
    assert nodes.interface_towards("127.0.0.1") == "lo"
