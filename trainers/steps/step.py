"""What is known of one optimizer step when it has been taken."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from trainers.steps.noise_scale import Measurement


class Diverged(Exception):
    """The loss or the gradient of a step is not finite, and the weights are those before the step;
    or the loss has been far above its start for long enough."""


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

    def check(self, number: int) -> None:
        """`number` counts steps from 1.

        Raises:
            Diverged: the loss or the gradient is not finite.
        """
        if not math.isfinite(self.loss):
            raise Diverged(f"loss {self.loss} at step {number}")
        if not math.isfinite(self.grad_norm):
            raise Diverged(f"gradient norm {self.grad_norm} at step {number}")


def step(
    examples: Sequence[Any],
    loss: float,
    grad_norm: float,
    noise: Measurement | None,
    facts: dict[str, float],
) -> Step:
    """Of the `examples` of the whole batch."""
    return Step(
        loss=loss,
        grad_norm=grad_norm,
        examples=len(examples),
        tokens=sum(example.tokens for example in examples),
        loss_tokens=sum(example.loss_tokens for example in examples),
        noise=noise,
        facts=facts,
    )
