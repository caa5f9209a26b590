"""Running out of memory, on a GPU or on the host: how it is recognised, and a second try."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

SAID = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "DefaultCPUAllocator",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Parts of messages of errors that have no type of their own."""

Result = TypeVar("Result")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(part in str(error) for part in SAID)


def give_back() -> None:
    """Return what nobody refers to any more, and the blocks that torch keeps for use again."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def once_more(work: Callable[[], Result]) -> Result:
    """What `work` returns; where memory ran out it is called again after `give_back`."""
    try:
        return work()
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
    give_back()  # not in the handler: the error holds on to the tensors of the failed call
    return work()
