"""Processes that hold the same model as this one, each on another GPU of the trial, of this node or
of others, so that work without a gradient can be divided: scores, texts, log-probabilities.

Each gets its share with all that it needs, and sends back its answers; nothing is reduced, so that
the result is that of one process. One that fails fails the work, with its own message.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, TypeVar

from trainers.processes import attempt, process
from trainers.processes.attempt import Attempt
from trainers.processes.nodes import Node, NodeLost

Result = TypeVar("Result")


class ReplicaFailed(Exception):
    """One of the processes failed; the message has its number and what it says."""


class ReplicaSetting(NamedTuple):
    """Of the processes of one trial; all of it is pickled."""

    ranks: int
    """Processes in all, with the one that asks the others."""
    threads: int
    gpus: float
    open_model: Callable[..., Any]
    """Opens the model, in each process when its first work comes."""
    arguments: tuple[Any, ...]


class RemoteReplicas(NamedTuple):
    """Another node with as many of the processes as this one."""

    node: Node
    attempt: Attempt | None
    """As it is there."""
    arguments: tuple[Any, ...]
    """Of `ReplicaSetting.open_model`, as they are there."""


class Replicas:
    """For one model, `loaded` in this process."""

    def __init__(
        self, setting: ReplicaSetting, loaded: Any, elsewhere: Sequence[RemoteReplicas] = ()
    ):
        self.ranks = setting.ranks
        self.loaded = loaded
        self._elsewhere = elsewhere
        self._setting = setting
        self._here = setting.ranks // (1 + len(elsewhere))
        self._pools = _Pools(range(1, self._here), attempt.current(), setting)

    def run(
        self,
        work: Callable[..., Result],
        shares: Sequence[tuple[Any, ...]],
        first: Callable[[], Any] | None = None,
    ) -> list[Any]:
        """`work(loaded, *share)` for each share, one a process, the first of them here; that one by
        `first()` where it is given.

        Raises:
            ReplicaFailed: a process failed, or was killed.
        """
        waiting = self._pools.submit(work, shares[1 : self._here])
        replies = []
        for start in range(self._here, len(shares), self._here):
            node, this, arguments = self._elsewhere[start // self._here - 1]
            setting = self._setting._replace(arguments=arguments)
            theirs = shares[start : start + self._here]
            reply = node.ask(_serve, this, setting, start, self._here, work, theirs)
            replies.append((node, reply))
        results = [work(self.loaded, *shares[0]) if first is None else first()]
        results += _results(waiting, 1, self.ranks)
        for node, reply in replies:
            try:
                results += reply.result()
            except (ReplicaFailed, NodeLost) as error:
                raise ReplicaFailed(f"on node {node.name}: {error}") from error
        return results

    def close(self) -> None:
        self._pools.close()


class _Pools:
    """The processes of one node, each with the device whose number is its place among them."""

    def __init__(self, places: range, this: Attempt | None, setting: ReplicaSetting):
        spawn = multiprocessing.get_context("spawn")
        begin = (os.getpid(), this, setting)
        self._pools = [ProcessPoolExecutor(1, spawn, _begin, (place, *begin)) for place in places]

    def submit(
        self, work: Callable[..., Any], shares: Sequence[tuple[Any, ...]]
    ) -> list[Future[Any]]:
        pairs = zip(self._pools, shares, strict=False)
        return [pool.submit(_work, work, share) for pool, share in pairs]

    def close(self) -> None:
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)


def _results(waiting: Sequence[Future[Any]], first: int, ranks: int) -> list[Any]:
    """Of processes whose numbers begin with `first`."""
    results = []
    for rank, future in enumerate(waiting, first):
        who = f"process {rank} of {ranks}"
        try:
            results.append(future.result())
        except BrokenProcessPool as error:
            raise ReplicaFailed(f"{who} died (killed, or out of memory)") from error
        except Exception as error:
            raise ReplicaFailed(f"{who}: {type(error).__name__}: {error}") from error
    return results


_serving: list[_Pools] = []
"""Of the process that stands for its node."""


def _serve(
    this: Attempt | None,
    setting: ReplicaSetting,
    first: int,
    here: int,
    work: Callable[..., Any],
    shares: Sequence[tuple[Any, ...]],
) -> list[Any]:
    """What another node is asked; its processes stay for further work."""
    if not _serving:
        _serving.append(_Pools(range(here), this, setting))
    return _results(_serving[0].submit(work, shares), first, setting.ranks)


_current: Replicas | None = None


@contextmanager
def started(
    setting: ReplicaSetting, loaded: Any, elsewhere: Sequence[RemoteReplicas] = ()
) -> Iterator[None]:
    """Until the end of the block, work with the model of `loaded` can be divided; with one rank
    this starts nothing."""
    global _current
    if setting.ranks == 1:
        yield
        return
    before, here = _current, Replicas(setting, loaded, elsewhere)
    _current = here
    try:
        yield
    finally:
        _current = before
        here.close()


def of(loaded: Any) -> Replicas | None:
    """Those that hold this model; None where it is in this process alone."""
    return _current if _current is not None and _current.loaded.model is loaded.model else None


class _Here(NamedTuple):
    attempt: Attempt | None
    setting: ReplicaSetting


_here: list[_Here] = []
_loaded: list[Any] = []
"""Of a process beside the first."""


def _begin(place: int, parent: int, this: Attempt | None, setting: ReplicaSetting) -> None:
    process.end_with(parent)
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(place)
    process.prepare(setting.threads, setting.gpus)
    _here[:] = [_Here(this, setting)]


def _work(work: Callable[..., Result], share: tuple[Any, ...]) -> Result:
    this, setting = _here[0]
    with nullcontext() if this is None else attempt.joined(this):
        if not _loaded:
            _loaded.append(setting.open_model(*setting.arguments))
        return work(_loaded[0], *share)
