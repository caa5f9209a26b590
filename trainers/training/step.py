"""What is known of one optimizer step when it has been taken."""

from typing import NamedTuple

from trainers.training.noise_scale import Measurement


class Step(NamedTuple):
    """What one optimizer step was made from, over all ranks."""

    loss: float
    grad_norm: float
    """Before clipping."""
    examples: int
    tokens: int
    loss_tokens: int
    noise: Measurement | None
    facts: dict[str, float]
    """Means over the batch of what the kind of training records beside the loss."""
