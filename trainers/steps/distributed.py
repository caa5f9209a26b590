"""One training by several processes of one node, on a GPU each; on CPUs they share the cores.

The effective batch is divided over them exactly (exact_batches.py). A process that fails or is
killed ends the others, and so does the end of the process that started them.
"""

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

from trainers import devices, process
from trainers.attempt import Stopped, Superseded
from trainers.specs.result import BudgetTooLarge, OutOfTime

TIMEOUT = 600
"""Seconds that a rank waits for the others in one exchange of gradients: the first rank may be
writing a checkpoint meanwhile. torch's default is 1800."""

LOCALHOST = "127.0.0.1"
ENDS = (OutOfTime, Stopped, Superseded, BudgetTooLarge)
"""Exceptions of one process that are no failure of the others, which end with it."""


class RankFailed(Exception):
    """One of the processes failed; the message has its number and its traceback."""

    def __init__(self, message: str, killed: bool):
        super().__init__(message)
        self.killed = killed
        """Whether a signal killed it without a traceback, as when memory runs out."""


def is_first() -> bool:
    """Whether this process writes the records of its training."""
    return int(os.environ.get("RANK", 0)) == 0


def run(ranks: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Call `work(*arguments)` in `ranks` processes, set up as torchrun does; returns what the first
    of them returned.

    `work`, its arguments and its result are pickled on their way between processes.

    Raises:
        OutOfTime, Stopped, Superseded, BudgetTooLarge: so a process ended.
        RankFailed: a process failed in another way.
    """
    if ranks == 1:
        return work(*arguments)
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]
    from torch.multiprocessing.spawn import ProcessException, spawn

    # Bound here and kept open, so that no other process takes the port before the ranks meet.
    store = TCPStore(LOCALHOST, 0, is_master=True, wait_for_workers=False)
    results = multiprocessing.get_context("spawn").SimpleQueue()
    try:
        spawn(
            _rank,
            (ranks, os.getpid(), store.port, results, work, arguments),
            nprocs=ranks,
            daemon=True,
        )
    except ProcessException as error:
        ended = None if results.empty() else results.get()
        if isinstance(ended, ENDS):  # the others failed because it ended
            raise ended from error
        killed = getattr(error, "signal_name", None) == "SIGKILL"
        raise RankFailed(f"process {error.error_index} of {ranks}: {error}", killed) from error
    return results.get()


def _rank(
    number: int,
    ranks: int,
    parent: int,
    port: int,
    results: Any,
    work: Callable[..., Any],
    arguments: Any,
) -> None:
    process.end_with(parent)
    os.environ |= devices.rank_environment(number, ranks, port)
    # the parent has the store, as under torchrun
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(number)
    try:
        result = work(*arguments)
    except ENDS as error:
        results.put(error)
        raise
    if number == 0:
        results.put(result)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
