"""Processes that hold the same model as this one, each on another GPU of the trial, so that work
without a gradient can be divided: scores, texts, log-probabilities.

Each gets its share with all that it needs, and sends back its answers; nothing is reduced, so that
the result is that of one process. One that fails fails the work, with its own message.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, TypeVar

from trainers import attempt, process
from trainers.attempt import Attempt

Result = TypeVar("Result")


class HelperFailed(Exception):
    """One of the processes failed; the message has its number and what it says."""


class Setting(NamedTuple):
    """Of the processes of one trial; all of it is pickled."""

    ranks: int
    """Processes in all, with the one that has the helpers."""
    threads: int
    gpus: float
    open_model: Callable[..., Any]
    """Opens the model, in each process when its first work comes."""
    arguments: tuple[Any, ...]


class Helpers:
    """For one model, `loaded` in this process."""

    def __init__(self, setting: Setting, loaded: Any):
        self.ranks = setting.ranks
        self.loaded = loaded
        spawn = multiprocessing.get_context("spawn")
        begin = (os.getpid(), attempt.current(), setting)
        self._pools = [
            ProcessPoolExecutor(1, spawn, _begin, (rank, *begin)) for rank in range(1, self.ranks)
        ]

    def run(
        self,
        work: Callable[..., Result],
        shares: Sequence[tuple[Any, ...]],
        first: Callable[[], Any] | None = None,
    ) -> list[Any]:
        """`work(loaded, *share)` for each share, one a process, the first of them here; that one by
        `first()` where it is given.

        Raises:
            HelperFailed: a process failed, or was killed.
        """
        others = zip(self._pools, shares[1:], strict=False)
        waiting = [pool.submit(_work, work, share) for pool, share in others]
        results = [work(self.loaded, *shares[0]) if first is None else first()]
        for rank, future in enumerate(waiting, 1):
            who = f"process {rank} of {self.ranks}"
            try:
                results.append(future.result())
            except BrokenProcessPool as error:
                raise HelperFailed(f"{who} died (killed, or out of memory)") from error
            except Exception as error:
                raise HelperFailed(f"{who}: {type(error).__name__}: {error}") from error
        return results

    def close(self) -> None:
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)


_current: Helpers | None = None


@contextmanager
def started(setting: Setting, loaded: Any) -> Iterator[None]:
    """Until the end of the block, work with the model of `loaded` can be divided; with one rank
    this starts nothing."""
    global _current
    if setting.ranks == 1:
        yield
        return
    before, here = _current, Helpers(setting, loaded)
    _current = here
    try:
        yield
    finally:
        _current = before
        here.close()


def of(loaded: Any) -> Helpers | None:
    """Those that hold this model; None where it is in this process alone."""
    return _current if _current is not None and _current.loaded.model is loaded.model else None


class _Here(NamedTuple):
    attempt: Attempt | None
    setting: Setting


_here: list[_Here] = []
_loaded: list[Any] = []
"""Of a helper's process."""


def _begin(rank: int, parent: int, this: Attempt | None, setting: Setting) -> None:
    process.end_with(parent)
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(rank)
    process.prepare(setting.threads, setting.gpus)
    _here[:] = [_Here(this, setting)]


def _work(work: Callable[..., Result], share: tuple[Any, ...]) -> Result:
    this, setting = _here[0]
    with nullcontext() if this is None else attempt.joined(this):
        if not _loaded:
            _loaded.append(setting.open_model(*setting.arguments))
        return work(_loaded[0], *share)
