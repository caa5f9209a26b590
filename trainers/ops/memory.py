"""How many tokens a micro-batch may have where the spec does not say, and what running out means.

A process may use its fraction of the GPU (`torch.cuda.set_per_process_memory_fraction`, 1 by
default) and no more than what others leave. What it holds itself in torch's cache counts as free.
"""

import gc
from collections.abc import Callable
from typing import TypeVar

import psutil
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from transformers import PreTrainedModel

from trainers.ops.packed_attention import Example, rows

ON_CPU = 1024
"""Measured with SmolLM2-135M on two cores: more tokens at a time are no faster."""

FORWARD_ON_CPU = 4096
"""As `ON_CPU`, for passes without a gradient."""

SMALLEST_BUDGET = 64
"""Tokens of a micro-batch; what does not fit with this does not fit."""

MOST_ON_GPU = 65_536
FEWEST_ON_GPU = 1024

SHARE = 0.6
"""Of the memory that is left for activations: the rest is for what passes quickly, and for
fragments."""

WORKSPACE = 3 * 2**30
"""Bytes for the logits of a piece in float32 and bfloat16 (`chunked_loss.PIECE`), and for the
workspaces of the libraries."""

SAMPLE = 128
"""Tokens of the shorter of two forward passes that are weighed; the other has twice as many."""

SIGNS = (
    "not enough memory", "DefaultCPUAllocator", "out of memory", "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
)  # fmt: skip
"""Parts of messages that say that memory ran out, on a GPU or on the host."""

GB = 1e9

Result = TypeVar("Result")


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out, on a GPU or on the host."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        sign in str(error) for sign in SIGNS
    )


def release() -> None:
    """Give back what the process no longer uses."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class NoRoom(MemoryError):
    """Something does not fit, and no smaller step helps; the message says what would."""


def with_room(what: str, work: Callable[[], Result]) -> Result:
    """`work()`; once more with emptied caches if memory ran out, as for loading or copying a model
    beside the leftovers of an earlier one. `what` it does, in words, such as "loading the model".

    Raises:
        NoRoom: memory ran out again.
    """
    try:
        return work()
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
    release()  # not in the handler: the error holds the tensors of the failed attempt
    try:
        return work()
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise NoRoom(f"out of memory in {what}, twice: {_what_there_is()}") from error


def _what_there_is() -> str:
    """How much this process may use, and what to change."""
    if not torch.cuda.is_available():
        memory = psutil.virtual_memory()
        return (
            f"of {memory.total / GB:.1f} GB {memory.available / GB:.1f} GB are free; run fewer "
            "trials at once (resources.max_concurrent, or more cpus_per_trial), or take a smaller "
            "model"
        )
    device = torch.device("cuda", torch.cuda.current_device())
    total = torch.cuda.mem_get_info(device)[1]
    allowed = torch.cuda.get_per_process_memory_fraction(device) * total
    return (
        f"this trial may use {allowed / GB:.1f} GB of the GPU's {total / GB:.1f} GB and "
        f"{room_on(device) / GB:.1f} GB of that are left; raise resources.gpus_per_trial, so that "
        "fewer trials share the GPU, end what else runs on it, or take a smaller model"
    )


def room(total: int, free: int, fraction: float, reserved: int, allocated: int) -> int:
    """Bytes that this process may still allocate on a GPU of `total` bytes, `free` of them unused
    by any process.

    `fraction` is its share of the GPU, `reserved` what it holds with its cache and `allocated` what
    its tensors take.
    """
    own_limit = int(fraction * total) - allocated
    others_leave = free + reserved - allocated
    return max(min(own_limit, others_leave), 0)


def room_on(device: torch.device) -> int:
    """`room` of a CUDA device, now; of the current one where it has no number."""
    if device.index is None:  # which the share of a process does not take
        device = torch.device("cuda", torch.cuda.current_device())
    free, total = torch.cuda.mem_get_info(device)
    fraction = torch.cuda.get_per_process_memory_fraction(device)
    reserved, allocated = torch.cuda.memory_reserved(device), torch.cuda.memory_allocated(device)
    return room(total, free, fraction, reserved, allocated)


def free_share() -> float:
    """Of the memory of this process's GPU, what nobody holds."""
    release()
    free, total = torch.cuda.mem_get_info()
    return free / total


def tokens_per_micro_batch(
    model: PreTrainedModel, packed: bool, bfloat16: bool, state_bytes: float
) -> int:
    """On a CPU a constant; on a GPU what fits, from the room and two weighed passes. `state_bytes`
    are the optimizer's."""
    gradients = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    return tokens_beside(model, packed, bfloat16, gradients + state_bytes)


def tokens_beside(model: PreTrainedModel, packed: bool, bfloat16: bool, taken: float) -> int:
    """As `tokens_per_micro_batch`, where `taken` bytes of the room are for other things."""
    if model.device.type != "cuda":
        return ON_CPU
    return fitting(model.device, taken, bytes_per_token(model, packed, bfloat16))


def fitting(device: torch.device, taken: float, per_token: float) -> int:
    """Tokens of a micro-batch on a GPU, `taken` bytes of whose room are for other things."""
    return _between(SHARE * (room_on(device) - taken - WORKSPACE) / per_token)


def tokens_per_forward(model: PreTrainedModel) -> int:
    """As `tokens_per_micro_batch`, for a pass without a gradient: one layer's tensors at a time."""
    if model.device.type != "cuda":
        return FORWARD_ON_CPU
    config = model.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    per_token = 4 * (16 * config.hidden_size + 4 * inner)
    return _between(SHARE * (room_on(model.device) - WORKSPACE) / per_token)


def _between(tokens: float) -> int:
    return max(min(int(tokens), MOST_ON_GPU), FEWEST_ON_GPU)


def bytes_per_token(model: PreTrainedModel, packed: bool, bfloat16: bool) -> float:
    """What a forward pass keeps of one more token for its backward pass; copies of weights in
    another dtype, which are kept too, are the same for any number of tokens."""
    short, long = (_kept(model, packed, bfloat16, tokens) for tokens in (SAMPLE, 2 * SAMPLE))
    return (long - short) / SAMPLE


def _kept(model: PreTrainedModel, packed: bool, bfloat16: bool, tokens: int) -> int:
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[StorageWeakRef, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[StorageWeakRef(storage)] = storage.nbytes()
        return tensor.detach()  # an output that its own node keeps would never be freed

    ids = torch.arange(tokens + 1) % model.config.get_text_config().vocab_size
    row = rows([Example(ids, ids)], packed, model.device)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16),
    ):
        output = model.base_model(**row.options)  # noqa: F841  (holds the graph)
        # what a part of the graph kept that is gone again, as DoRA's of its weights, is no longer
        return sum(size for storage, size in kept.items() if not storage.expired())
