"""The other nodes of a trial that lies on several, reached by Ray.

The trial is one of Tune's, and its placement group has a bundle on each of its nodes
(STRICT_SPREAD). Tune's own actor has the first bundle and does all that a trial on one node does;
for each piece of work that others take part in (a training, an evaluation) it starts an actor in
each of the other bundles. So Ray kills them with it, however it ends. Ray Train would bring a
controller, checkpoints and retries of its own between the two, beside those that trials have.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

# isort: split

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from sweep.execution.job import Job
from sweep.execution.worker import hub_files, remote_reader
from sweep.execution.worker.other_nodes import OtherNode
from trainers.hub import FetchFailed
from trainers.processes import attempt, devices
from trainers.processes.nodes import NodeLost

START_SECONDS = 180.0
"""For a worker to start on a node that has its bundle free."""

END_SECONDS = 10.0
"""For it to clear up after work that has ended well."""


class RayNodes:
    """Those of one trial, for the actor in its first bundle."""

    def __init__(self, job: Job):
        self.address = ray.util.get_node_ip_address()
        self._job = job
        """As it was planned, before this node has made it its own."""

    @contextlib.contextmanager
    def opened(self, id: str, awaited: str) -> Iterator[list[OtherNode]]:
        group = ray.util.get_current_placement_group()
        assert group is not None
        job = self._job
        actors: list[Any] = [
            _TrialNode.options(
                num_cpus=group.bundle_specs[place].get("CPU", 0),
                num_gpus=group.bundle_specs[place].get("GPU", 0),
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, place),
            ).remote(job)
            for place in range(1, job.nodes)
        ]
        try:
            nodes = [_Node(actor, place) for place, actor in enumerate(actors, 1)]
            waiting = [actor.begin.remote(id, awaited) for actor in actors]
            for node, reply in zip(nodes, waiting, strict=True):
                while not ray.wait([reply], timeout=hub_files.SIGNS_EVERY)[0]:
                    attempt.sign("waiting for the other nodes")
                node.job = _Reply(reply, node).result()
            yield list(nodes)
            with contextlib.suppress(RayError):
                ray.get([actor.end.remote() for actor in actors], timeout=END_SECONDS)
        finally:
            for actor in actors:
                ray.kill(actor)


@ray.remote(max_restarts=0)
class _TrialNode:
    """Stands for a further node of a trial; what it starts there ends with it."""

    def __init__(self, job: Job):
        self._job = job
        self._stack = contextlib.ExitStack()
        devices.restrict(job.gpus / job.nodes)

    def where(self) -> tuple[str, str]:
        return ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id()

    def begin(self, id: str, awaited: str) -> Job:
        address, node = self.where()
        try:
            hub_files.ensure(self._job.needed, node)
        except FetchFailed as error:
            raise NodeLost(f"node {address} of the trial: {error}", node) from error
        return self._stack.enter_context(remote_reader.here(self._job, id, awaited))

    def do(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        return work(*arguments)

    def end(self) -> None:
        self._stack.close()


class _Node:
    """For the first node of the trial."""

    job: Job

    def __init__(self, actor: Any, place: int):
        """
        Raises:
            NodeLost: no worker starts there.
        """
        self._actor = actor
        self.name, self.id = f"{place} of the trial", ""
        try:
            self.name, self.id = ray.get(actor.where.remote(), timeout=START_SECONDS)
        except GetTimeoutError:
            why = f"node {self.name}: no worker has started there for {START_SECONDS:.0f} s"
            raise NodeLost(why) from None
        except RayError as error:
            raise _lost(self, error) from error

    def ask(self, work: Callable[..., Any], *arguments: Any) -> "_Reply":
        return _Reply(self._actor.do.remote(work, arguments), self)


class _Reply:
    def __init__(self, reference: Any, node: _Node):
        self._reference = reference
        self._node = node

    def done(self) -> bool:
        return bool(ray.wait([self._reference], timeout=0)[0])

    def result(self) -> Any:
        try:
            return ray.get(self._reference)
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            raise _lost(self._node, error) from error


def _lost(node: _Node, error: RayError) -> NodeLost:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return NodeLost(
        f"node {node.name} of the trial is lost ({type(error).__name__}: {first})", node.id
    )
