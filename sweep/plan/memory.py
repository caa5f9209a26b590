"""What a training holds in a GPU's memory, by the shapes of its model: an estimate for the plan.

Weights, gradients and the optimizer's state are counted; activations grow with the tokens of a
micro-batch, which `trainers/ops/memory.py` fits to what is left, down to `FEWEST` of them.
"""

import math
from typing import NamedTuple

from sweep.plan.trials import Trial
from trainers.models import load, shapes
from trainers.models.shapes import Shape
from trainers.specs.adapter import Adapter
from trainers.specs.optimizer import STATE_BYTES

GIB = 2**30
CARDS = (16, 24, 40, 48, 80, 141)
"""Memory of common GPUs, in GB."""

FEWEST = 1024
"""Tokens of the smallest micro-batch that training begins with."""

WORKSPACE = 3 * GIB
"""Bytes for logits and for libraries, as `trainers/ops/memory.py` leaves free."""

WEIGHT, GRADIENT, COPY = 4, 4, 2
"""Bytes of a weight and its gradient in float32, and of its copy in bfloat16 for a step."""


class Memory(NamedTuple):
    """Bytes of one process of a trial."""

    held: int
    """Weights, their copies in bfloat16, gradients and the optimizer's state."""
    per_token: int
    """Activations that a micro-batch keeps of one token for the backward pass, in bfloat16."""

    @property
    def least(self) -> int:
        """Of a training whose micro-batches are the smallest."""
        return self.held + FEWEST * self.per_token + WORKSPACE

    @property
    def card(self) -> int | None:
        """The smallest GPU of `CARDS` that it fits, in GB; None where none is large enough."""
        return next((size for size in CARDS if self.least <= size * 10**9), None)


def memory(trial: Trial) -> Memory | None:
    """Of a trial's training; None where nothing is trained or the model's shapes are unknown."""
    spec = trial.spec
    shape, parameters = shapes.shape(trial.model.name), load.parameters(trial.model.name)
    if spec is None or shape is None or parameters is None:
        return None
    trained = shapes.trained(trial.model.name, spec)
    if trained is None:
        return None
    added = 0 if spec.adapter is None else trained
    weights = (WEIGHT + COPY) * (parameters + added)
    states = (GRADIENT + STATE_BYTES[spec.optimizer]) * trained
    return Memory(math.ceil(weights + states), activations(shape, spec.adapter))


def activations(shape: Shape, adapter: Adapter | None) -> int:
    """`Memory.per_token`. Source of the factors: `memory.bytes_per_token` on Llamas of five shapes
    under bfloat16 autocast (tests/sweep/plan/test_memory.py)."""
    width = 30 if adapter is None else 24
    layer = width * shape.width + 4 * shape.keys + 8 * shape.inner
    if adapter is not None:
        layer += 2 * adapter.rank * len(shape.linear)
    return shape.layers * layer + 10 * shape.width
