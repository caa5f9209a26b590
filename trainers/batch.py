"""One effective batch -> micro-batches. The only home of batch arithmetic."""

from typing import NamedTuple


class Split(NamedTuple):
    """`per_device` examples at a time, `accumulation` times, make one optimizer step."""

    per_device: int
    accumulation: int


def split(batch_size: int, per_device_limit: int) -> Split:
    """The largest equal micro-batches within the limit that make up exactly `batch_size` examples.

    The loss of a step is summed over its tokens and divided by their number, so the split does
    not change
    the gradient beyond rounding.
    """
    per_device = next(
        n for n in range(min(batch_size, per_device_limit), 0, -1) if batch_size % n == 0
    )
    return Split(per_device, batch_size // per_device)
