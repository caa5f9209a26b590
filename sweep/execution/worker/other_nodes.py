"""The other nodes of a trial that lies on several (resources.nodes_per_trial), for its processes
there. How they are reached the backend says (`backends/ray_nodes.py`).

The trial's own process is on the first of its nodes. It writes all records; the others read.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from sweep.execution.job import Job
from trainers.processes import attempt
from trainers.processes.attempt import Attempt
from trainers.processes.nodes import Node


class OtherNode(Node, Protocol):
    @property
    def job(self) -> Job:
        """The trial as it can be worked on there."""
        ...


class Nodes(Protocol):
    @property
    def address(self) -> str:
        """Of this node, for the others."""
        ...

    def opened(self, id: str, awaited: str) -> AbstractContextManager[list[OtherNode]]:
        """The other nodes, each ready for work of the attempt with this id, until the end of the
        block: each sees the file `awaited` of the trial's folder.

        Raises:
            NodeLost: one is gone, or sees no such file.
        """
        ...


_current: Nodes | None = None


@contextmanager
def reached(nodes: Nodes | None) -> Iterator[None]:
    """Until the end of the block this process works on a trial that has these other nodes."""
    global _current
    before, _current = _current, nodes
    try:
        yield
    finally:
        _current = before


def address() -> str:
    """Of this node, where there are others."""
    assert _current is not None, "the trial lies on one node"
    return _current.address


@contextmanager
def at_work(job: Job, awaited: str) -> Iterator[list[OtherNode]]:
    """See `Nodes.opened`; none where the trial lies on one node."""
    if job.nodes == 1:
        yield []
        return
    this = attempt.current()
    assert _current is not None and this is not None
    with _current.opened(this.id, awaited) as nodes:
        yield nodes


def attempt_at(node: OtherNode) -> Attempt:
    """The attempt of this process, as the node has it."""
    this = attempt.current()
    assert this is not None
    return Attempt(Path(node.job.folder), this.id)
