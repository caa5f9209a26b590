"""What is reset inside accelerate, so that one process can train several models in turn, and what
it is told of other processes.

By names that may change: tests/trainers/training/test_compat_accelerate.py fails when they do.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedType

ALONE = {"distributed_type": DistributedType.NO, "num_processes": 1, "process_index": 0}


def forget_process_state() -> None:
    """Clear accelerate's process-wide singletons, or the next trial inherits this one's
    precision."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def forget_prepared(accelerator: Accelerator) -> None:
    """Let go of the models and optimizers that were prepared: what `Accelerator.free_memory` does,
    without its collection of garbage (0.2 s), which the caller does once."""
    accelerator._models.clear()
    accelerator._optimizers.clear()


@contextmanager
def alone() -> Iterator[None]:
    """Let accelerate know of no process but this one: what it gathers is what is here."""
    states = (PartialState._shared_state, AcceleratorState._shared_state)
    before = [{key: state[key] for key in ALONE} for state in states]
    for state in states:
        state.update(ALONE)
    try:
        yield
    finally:
        for state, values in zip(states, before, strict=True):
            state.update(values)
