"""One training by several processes, on a GPU each; on CPUs they share the cores. Those of one node
are started here; over_nodes.py adds those of others.

The effective batch is divided over them exactly (exact_batches.py). A process that fails or is
killed ends the others, and so does the end of the process that started them.
"""

import multiprocessing
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from trainers.processes import devices, nodes, process
from trainers.processes.attempt import Stopped, Superseded
from trainers.specs.result import BudgetTooLarge, OutOfTime

TIMEOUT = 1800
"""Seconds that a rank waits for the others in one exchange: the first may be writing a checkpoint
of 100 GB to shared storage meanwhile. torch's default is that for gloo, and 600 for NCCL."""

LOCALHOST = "127.0.0.1"
ENDS = (OutOfTime, Stopped, Superseded, BudgetTooLarge)
"""Exceptions of one process that are no failure of the others, which end with it."""


DEVICE_ERROR = re.compile(
    r"^[\w.]*((RuntimeError|AcceleratorError): (CUDA (unknown )?error|No CUDA)(?!.*ALLOC)"
    r"|DistBackendError: )",
    re.MULTILINE,
)
"""In a traceback, a failure that no training brings about."""


class RankFailed(Exception):
    """One of the processes failed; the message has its number and its traceback."""

    def __init__(self, message: str, killed: bool = False, of_memory: bool = False, node: str = ""):
        super().__init__(message, killed, of_memory, node)
        self.killed = killed
        """Whether a signal killed it without a traceback, as when memory runs out."""
        self.of_memory = of_memory
        """Whether another node than the trial's first killed it for want of memory."""
        self.node = node
        """The id of that other node."""

    def __str__(self) -> str:
        return self.args[0]

    @property
    def of_device(self) -> bool:
        """Whether its traceback ends with a failure of a GPU, or of the line between GPUs."""
        return DEVICE_ERROR.search(self.args[0]) is not None


class Part(NamedTuple):
    """Those of a training's processes that one node has, and where all of them meet."""

    ranks: int
    """In all."""
    first: int
    """The number of the first of them here."""
    here: int
    address: str
    port: int


def is_first() -> bool:
    """Whether this process writes the records of its training."""
    return int(os.environ.get("RANK", 0)) == 0


def check_same(number: int, what: str, device: Any) -> None:
    """
    Raises:
        RuntimeError: the processes of a training, each on its `device`, have different numbers.
    """
    import torch
    from torch import distributed as dist

    if not dist.is_initialized():
        return
    ends = torch.tensor([number, -number], device=device)
    dist.all_reduce(ends, dist.ReduceOp.MAX)
    highest, lowest = int(ends[0]), -int(ends[1])
    if lowest != highest:
        raise RuntimeError(f"{what} is {lowest} in one process and {highest} in another")


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
    store = meeting_point(LOCALHOST)
    here = Processes(Part(ranks, 0, ranks, LOCALHOST, store.port), work, arguments)
    while not here.ended():
        pass
    return here.result()


def meeting_point(address: str) -> Any:
    """Where ranks meet, at an address of this node; bound here and kept open, so that no other
    process takes the port before they do."""
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    return TCPStore(address, 0, is_master=True, wait_for_workers=False)


class Processes:
    """The part of a training's processes that is started by this one."""

    def __init__(self, part: Part, work: Callable[..., Any], arguments: tuple[Any, ...]):
        from torch.multiprocessing.spawn import spawn

        self._part = part
        self._results = multiprocessing.get_context("spawn").SimpleQueue()
        given = (part, os.getpid(), self._results, work, arguments)
        self._context: Any = spawn(_rank, given, nprocs=part.here, join=False, daemon=True)

    def ended(self, seconds: float | None = None) -> bool:
        """Whether all have ended well; waits so many seconds for something to happen.

        Raises: as `run`; then all have ended.
        """
        from torch.multiprocessing.spawn import ProcessException

        try:
            return self._context.join(seconds)
        except ProcessException as error:
            ended = None if self._results.empty() else self._results.get()
            if isinstance(ended, ENDS):  # the others failed because it ended
                raise ended from error
            killed = getattr(error, "signal_name", None) == "SIGKILL"
            number = self._part.first + error.error_index
            message = f"process {number} of {self._part.ranks}: {error}"
            raise RankFailed(message, killed) from error

    def result(self) -> Any:
        """What the first of all returned, when it is one of these and they have ended."""
        return self._results.get()

    def kill(self) -> None:
        for one in self._context.processes:
            one.kill()
        for one in self._context.processes:
            one.join()


def _rank(
    place: int,
    part: Part,
    parent: int,
    results: Any,
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    process.end_with(parent)
    number = part.first + place
    os.environ |= devices.rank_environment(
        number, place, part.ranks, part.here, part.address, part.port
    )
    if part.here < part.ranks and (interface := nodes.interface_towards(part.address)):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    # a parent has the store, as under torchrun
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(place)
    try:
        result = work(*arguments)
    except ENDS as error:
        results.put(error)
        raise
    if number == 0:
        results.put(result)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
