"""Tasks that the driver sends to a certain node of the cluster."""

from typing import Any

# isort: split

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.execution import processes
from sweep.execution.backends.ray_local import CannotRun
from sweep.execution.worker import hub_files
from trainers.hub import Needs

_ending: list[ray.ObjectRef] = []
"""Tasks of `end_attempt`: Ray cancels what nobody refers to."""


def end_attempt(started: dict[str, Any]) -> None:
    """End the process of an attempt, given its `started` event, on the node where it runs."""
    task = ray.remote(num_cpus=0, max_retries=0)(processes.end).options(
        name="end an attempt",
        scheduling_strategy=NodeAffinitySchedulingStrategy(started["node"], soft=False),
    )
    _ending.append(task.remote(started["pid"], started["process_created"]))


def fetch_on_other_nodes(needed: Needs) -> None:
    """What the driver has fetched for its own node, for each of the others that are there now.

    Raises:
        CannotRun: a node cannot fetch it.
    """
    here = ray.get_runtime_context().get_node_id()
    hub_files.note(needed, here)
    others = [n["NodeID"] for n in ray.nodes() if n["Alive"] and n["NodeID"] != here]
    task = ray.remote(num_cpus=0)(hub_files.fetch)
    waiting = [
        task.options(
            name="fetch from the hub",
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote(needed, node)
        for node in others
    ]
    try:
        ray.get(waiting)
    except RayError as error:
        raise CannotRun(f"on another node: {getattr(error, 'cause', None) or error}") from error
