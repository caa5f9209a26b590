"""What a training holds in a GPU's memory, by the shapes of its model: an estimate for the plan.

Weights, gradients and the optimizer's state are counted; activations grow with the tokens of a
micro-batch, which `trainers/ops/memory.py` fits to what is left, down to `FEWEST` of them or to one
example: none is cut in two, and a pair is one example.
"""

import math
from typing import NamedTuple, get_args

from sweep.plan.trials import Trial
from trainers.models import adapters, at_hand, shapes
from trainers.specs.conditions import Sharding
from trainers.specs.optimizer import state_bytes
from trainers.specs.rlvr import RlvrSpec
from trainers.specs.training import TrainingSpec

GIB = 2**30
CARDS = (16, 24, 40, 48, 80, 141)
"""Memory of common GPUs, in GB."""

FEWEST = 1024
"""Tokens of the smallest micro-batch that training begins with."""

WORKSPACE = 3 * GIB
"""Bytes for logits and for libraries, as `trainers/ops/memory.py` leaves free."""

GPUS = (1, 2, 4, 8)
"""Of a trial, for tables."""

WEIGHT, GRADIENT, COPY = 4, 4, 2
"""Bytes of a weight and its gradient in float32, and of its copy in bfloat16 for a step."""

IN_4_BITS = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a frozen weight in NF4: 4 bits, of 64 weights a scale in 8 bits, and of 256 such scales
one in float32 (trainers/models/quantized.py)."""


class Memory(NamedTuple):
    """Bytes of one process of a trial."""

    held: int
    """Weights, their copies in bfloat16, gradients and the optimizer's state: its share of what is
    sharded, and what is whole for so long."""
    per_token: int
    """Activations that a micro-batch keeps of one token for the backward pass, in bfloat16."""
    longest: int = FEWEST
    """Tokens of the longest example that there may be."""
    shared: int = 0
    """Of `held`, frozen weights, which the lanes of a pass have in common."""

    @property
    def least(self) -> int:
        """Of a training whose micro-batches are the smallest."""
        return self.held + max(FEWEST, self.longest) * self.per_token + WORKSPACE

    def card(self, share: float = 1.0) -> int | None:
        """The smallest GPU of `CARDS`, in GB, of which it fits such a share; None where none is
        large enough."""
        return next((size for size in CARDS if self.least <= share * size * 10**9), None)

    def of_lanes(self, lanes: int) -> "Memory":
        """Of so many trainings in one pass."""
        held = self.shared + lanes * (self.held - self.shared)
        return self._replace(held=held, per_token=lanes * self.per_token)


def memory(trial: Trial, sharding: Sharding = "none", ranks: int = 1) -> Memory | None:
    """Of a trial's training; None where nothing is trained or the model's shapes are unknown."""
    if trial.spec is None:
        return None
    return of_training(trial.model.name, trial.spec, sharding, ranks)


def of_training(
    model: str, spec: TrainingSpec, sharding: Sharding = "none", ranks: int = 1
) -> Memory | None:
    """As `memory`, of a model by its name; None too where weights in 4 bits would be sharded."""
    shape, parameters = shapes.shape(model), at_hand.parameters(model)
    trained = shapes.trained(model, spec)
    if shape is None or parameters is None or trained is None:
        return None
    weights = parameters if spec.adapter is None else parameters + trained
    in_tables = shapes.trained_tables(model, spec)
    states = GRADIENT * trained + state_bytes(spec.optimizer, trained, in_tables)
    shared = 0  # sharded trainings and those on 4 bits have no lanes
    if adapters.in_4_bits(spec.adapter):
        if sharding != "none":
            return None
        held = _in_4_bits(shape, parameters) + (WEIGHT + COPY) * trained + states
    elif sharding == "none":
        held = (WEIGHT + COPY) * weights + states
        shared = (WEIGHT + COPY) * (weights - trained)
    else:
        writes = spec.FORM == "prompts"
        dora = spec.adapter is not None and spec.adapter.dora
        division = shape.division(parameters, dora)
        whole = division.whole(sharding, spec.adapter is None, bfloat16=not dora, writes=writes)
        held = (WEIGHT * weights + states) / ranks + whole
    if isinstance(spec, RlvrSpec) and spec.beta and spec.adapter is None:
        held += WEIGHT * parameters  # the reference, whole on each
    return Memory(math.ceil(held), shape.activations(spec.adapter), _longest(spec), shared)


def _longest(spec: TrainingSpec) -> int:
    """Tokens of the longest example: a text, both texts of a pair, or a prompt and what is written
    to it."""
    return 2 * spec.longest_text if spec.FORM == "pairs" else spec.longest_text


def _in_4_bits(shape: shapes.Shape, parameters: int) -> float:
    """Bytes of a model whose blocks are in 4 bits; one matrix at a time is unpacked to bfloat16."""
    top, blocks, _ = shape.division(parameters)
    largest = max(map(math.prod, shape.linear.values()))
    return IN_4_BITS * blocks + COPY * largest + (WEIGHT + COPY) * top


def of_scoring(model: str, in_4_bits: TrainingSpec | None = None) -> Memory | None:
    """Of the evaluation of a model, which each GPU of a trial holds whole, or `in_4_bits` with the
    adapter that such a training leaves on it; None where its size is not known."""
    shape, parameters = shapes.shape(model), at_hand.parameters(model)
    if parameters is None:
        return None
    if in_4_bits is None:
        return Memory((WEIGHT + COPY) * parameters, 0)
    trained = shapes.trained(model, in_4_bits)
    if shape is None or trained is None:
        return None
    return Memory(math.ceil(_in_4_bits(shape, parameters) + (WEIGHT + COPY) * trained), 0)


def by_sharding(model: str, spec: TrainingSpec) -> dict[Sharding, dict[int, Memory]]:
    """Of a training, each way of sharding it on each number of `GPUS`."""
    table: dict[Sharding, dict[int, Memory]] = {}
    for sharding in get_args(Sharding):
        gpus = GPUS if sharding == "none" else GPUS[1:]
        on_each = {ranks: of_training(model, spec, sharding, ranks) for ranks in gpus}
        table[sharding] = {ranks: held for ranks, held in on_each.items() if held is not None}
    return table
