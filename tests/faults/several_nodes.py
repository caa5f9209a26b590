"""Faults of trials that lie on two nodes each."""

import contextlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from tests.faults.clusters import Node, at_work_among, must_have_gone_on, node
from tests.faults.runs import Run, ended, must, none_left, wait_until

OVER_TWO_NODES = (
    "--set", "resources.nodes_per_trial=2", "--set", "resources.cpus_per_trial=2",
)  # fmt: skip


def second_node_dies(run: Run, chance: random.Random) -> None:
    """In the middle of a training that lies on two of three nodes: all of its processes end, and it
    goes on on the two that are left."""
    with nodes(run, 3) as three:
        process = run.start()
        victim, first, other = wait_until(lambda: over_two(run, three), process)
        ranks = [rank for node in (first, other) for rank in ranks_of(node)]
        other.kill()
        none_left(ranks, 60)
        ended(process, 0)
    must_have_gone_on(run, victim)


def process_killed(run: Run, chance: random.Random) -> None:
    """As when its memory runs out there."""
    with nodes(run, 2) as two:
        process = run.start()
        victim, first, other = wait_until(lambda: over_two(run, two), process)
        ranks = [rank for node in (first, other) for rank in ranks_of(node)]
        ranks_of(other)[0].kill()
        none_left(ranks, 60)
        ended(process, 0)
    must_have_gone_on(run, victim)
    failed = [event for event in run.attempts()[victim] if event["event"] == "failed"]
    must(
        len(failed) == 1 and failed[0]["killed"] and "on node 127.0.0." in failed[0]["reason"],
        f"it says: {failed}",
    )


def worker_killed(run: Run, chance: random.Random) -> None:
    """The process of the trial itself: none that it has on either node outlives it for long."""
    with nodes(run, 2) as two:
        process = run.start()
        victim, first, other = wait_until(lambda: over_two(run, two), process)
        ranks = [rank for node in (first, other) for rank in ranks_of(node)]
        psutil.Process(run.attempts()[victim][-1]["pid"]).kill()
        none_left(ranks, 20)
        ended(process, 0)
    must_have_gone_on(run, victim)


@contextlib.contextmanager
def nodes(run: Run, count: int) -> Iterator[list[Node]]:
    """So many nodes of one CPU beside a head of none, and the run's command on them, each trial on
    two."""
    with contextlib.ExitStack() as stack:
        head = stack.enter_context(node(run.folder, "--head", options=["--num-cpus=0"]))
        address = f"127.0.0.1:{head.port}"
        run.options = ("--address", address, *OVER_TWO_NODES)
        run.environment = head.environment
        yield [
            stack.enter_context(node(run.folder, f"--address={address}", f"127.0.0.{place}"))
            for place in range(2, 2 + count)
        ]


def over_two(run: Run, nodes: Sequence[Node]) -> tuple[Path, Node, Node] | None:
    """A trial in the middle of its training, past a checkpoint; its first node, and the other."""
    for first in nodes:
        if trial := at_work_among(run, first.workers()):
            others = [other for other in nodes if other is not first and ranks_of(other)]
            return (trial, first, others[0]) if len(others) == 1 and ranks_of(first) else None
    return None


def ranks_of(node: Node) -> list[psutil.Process]:
    """Processes that a trial has started on a node."""
    found = []
    for child in psutil.Process(node.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any("spawn_main" in word for word in child.cmdline()):
                found.append(child)
    return found
