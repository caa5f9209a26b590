"""One training by several processes of one node, on a GPU each; on CPUs they share the cores.

The effective batch is divided over them exactly (engine.py). A process that fails or is killed ends
the others.
"""

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

from trainers.attempt import Stopped, Superseded
from trainers.specs.spec import OutOfTime

ENDS = (OutOfTime, Stopped, Superseded)
"""What the first process may end with that is no failure of the others."""


class RankFailed(Exception):
    """One of the processes failed; the message has its number and its traceback."""

    def __init__(self, message: str, killed: bool):
        super().__init__(message)
        self.killed = killed
        """Whether it went without a word, as for want of memory."""


def is_first() -> bool:
    """Whether this process writes the records of its training."""
    return int(os.environ.get("RANK", 0)) == 0


def run(ranks: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Call `work(*arguments)` in `ranks` processes, set up as torchrun does; returns what the first
    of them returned.

    `work` and what it takes and returns are pickled on their way between processes.

    Raises:
        OutOfTime, Stopped, Superseded: so the first process ended.
        RankFailed: a process failed in another way.
    """
    if ranks == 1:
        return work(*arguments)
    from accelerate.utils.other import get_free_port
    from torch.multiprocessing.spawn import ProcessException, spawn

    found = multiprocessing.get_context("spawn").SimpleQueue()
    try:
        spawn(_rank, (ranks, get_free_port(), found, work, arguments), nprocs=ranks, daemon=True)
    except ProcessException as error:
        first = None if found.empty() else found.get()
        if isinstance(first, ENDS):  # the others waited for it in vain
            raise first from error
        killed = getattr(error, "signal_name", None) == "SIGKILL"
        raise RankFailed(f"process {error.error_index} of {ranks}: {error}", killed) from error
    return found.get()


def _rank(
    number: int, ranks: int, port: int, found: Any, work: Callable[..., Any], arguments: Any
) -> None:
    os.environ |= {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(number)
    try:
        result = work(*arguments)
    except ENDS as error:
        found.put(error)
        raise
    if number == 0:
        found.put(result)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
