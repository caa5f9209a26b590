"""What is reset inside accelerate, so that one process can train several models in turn.

By names that may change: tests/trainers/training/test_compat_accelerate.py fails when they do.
"""

from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState


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
