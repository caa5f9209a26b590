"""One training whose processes lie on several nodes, as many on each.

Each node starts its own (`distributed.Processes`) and answers when they have ended. A process that
fails, or a node that is lost, ends all at once: those of this node are killed here, the others with
whoever stands for their node (`trainers/processes/nodes.py`).
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from trainers.processes import process
from trainers.processes.nodes import Node, NodeLost, Reply
from trainers.steps.distributed import ENDS, Part, Processes, RankFailed, meeting_point

LOOK_SECONDS = 0.5

REASON_SECONDS = 30.0
"""For the other nodes to say why their processes ended: Ray needs some 20 s to know that one is
lost, and what is seen here first is a connection that was closed."""


class Share(NamedTuple):
    """What another node does."""

    node: Node
    arguments: tuple[Any, ...]
    """Of the work, as they are there."""


def run(
    ranks: int,
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
    address: str,
    shares: Sequence[Share],
) -> Any:
    """As `distributed.run`, in as many processes here, at this `address` of the cluster's network,
    as on each of the other nodes.

    Raises:
        OutOfTime, Stopped, Superseded, BudgetTooLarge: so a process ended.
        RankFailed: a process failed in another way.
        NodeLost: a node is gone.
    """
    here = ranks // (1 + len(shares))
    store = meeting_point(address)
    others = [
        _Other(
            share.node,
            share.node.ask(
                take_part,
                Part(ranks, place * here, here, address, store.port),
                work,
                share.arguments,
            ),
        )
        for place, share in enumerate(shares, 1)
    ]
    own = Processes(Part(ranks, 0, here, address, store.port), work, arguments)
    failures: list[Exception] = []
    try:
        while not failures and not own.ended(LOOK_SECONDS):
            failures = _failures(others)
    except (*ENDS, RankFailed) as error:
        failures = [error]
    finally:
        own.kill()
    if not failures:
        return own.result()
    if not isinstance(failures[0], ENDS):
        end = time.monotonic() + REASON_SECONDS
        while not all(other.reply.done() for other in others) and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
        failures += _failures(others)
    raise _cause(failures)


def take_part(part: Part, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """What another node is asked: its part, until it has ended.

    Raises: as `distributed.run`.
    """
    before = process.memory_kills()
    own = Processes(part, work, arguments)
    try:
        while not own.ended():
            pass
    except RankFailed as error:
        now = process.memory_kills()
        of_memory = error.killed and before is not None and now is not None and now > before
        raise RankFailed(str(error), error.killed, of_memory) from None


class _Other(NamedTuple):
    node: Node
    reply: Reply


def _failures(others: Sequence[_Other]) -> list[Exception]:
    failures: list[Exception] = []
    for node, reply in others:
        if not reply.done():
            continue
        try:
            reply.result()
        except RankFailed as error:
            about = f"on node {node.name}: {error}"
            failures.append(RankFailed(about, error.killed, error.of_memory, node.id))
        except Exception as error:
            failures.append(error)
    return failures


def _cause(failures: list[Exception]) -> Exception:
    """What the other failures follow from, of those that are known, the earliest first."""
    for is_cause in (_is_end, _is_lost, _was_killed):
        if causes := list(filter(is_cause, failures)):
            return causes[0]
    return failures[0]


def _is_end(failure: Exception) -> bool:
    return isinstance(failure, ENDS)


def _is_lost(failure: Exception) -> bool:
    return isinstance(failure, NodeLost)


def _was_killed(failure: Exception) -> bool:
    return isinstance(failure, RankFailed) and failure.killed
