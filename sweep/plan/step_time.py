"""How long a GPU takes for an optimizer step and for a step of decoding: an estimate, not measured.

The host launches kernel after kernel, the device works them off, and a step takes the longer of the
two: small batches wait for the host, so hours grow with the number of steps and not with tokens
alone. `tests/bench/bench_launches.py` counts what is launched, `--calibrate` measures the time.
"""

import json
import math
from typing import NamedTuple

from sweep.gridfile.keys.schema import Grid
from sweep.plan.trials import Trial
from trainers.models import at_hand, shapes
from trainers.specs.conditions import FEWEST_COMPILED
from trainers.specs.optimizer import STATE_BYTES

LAUNCH_SECONDS = 5e-6
"""Of the host, to launch one kernel from PyTorch."""

SHORTEST_SECONDS = 2e-6
"""Of the device, for a kernel however small."""

TRAINING_LAUNCHES = 48
"""Kernels of one compiled layer, forward and backward, for one micro-batch. This and those below
are counts of tests/bench/bench_launches.py and bench_lanes.py; a test holds them to these."""

DECODING_LAUNCHES = 43
"""Kernels of one layer for one token of every answer in progress."""

LANES_LAUNCHES = 55
"""Kernels of one compiled layer of all lanes of a pass, for one micro-batch."""

UNCOMPILED_LAUNCHES, UNCOMPILED_LANES_LAUNCHES = 145, 130
"""The same of layers that are not compiled, as in a training of few micro-batches."""

LANES_OTHER_LAUNCHES, LANE_LAUNCHES = 70, 5
"""Kernels of a step of a pass outside the layers, and those of each lane (its optimizer's)."""

OTHER_LAUNCHES = 85
"""Kernels of a step outside the layers: embeddings, head and loss, clipping, AdamW."""

OPTIMIZER_LAUNCHES = {"muon": 23, "adafactor": 19, "adamw_8bit": 1, "lion": 1}
"""Kernels for each matrix, of optimizers that take one after another; the others take all at once.
A test counts them."""

OPTIMIZER_WAITS = {"adafactor": 2}
"""Times that the host waits, for each matrix, for a number of the device."""

WAIT_SECONDS = 2e-5
"""Until the device has the next kernel after such a wait. An estimate."""

MATRICES = 7
"""Of a layer; an adapter on all of them has two for each."""

MUON_FLOPS = 310
"""Times the cube of the width, for each layer: five rounds of Newton and Schulz on its matrices
(Jordan et al. 2024; 4 m^2 n + 2 m^3 a round for m rows and n >= m columns)."""

MICRO_BATCH_TOKENS = 32_768
"""Where the spec does not say: what 80 GB hold of a model of 135M."""

STEP_BYTES = 12
"""Of a trained parameter in one step of the optimizer: weight and gradient are read and the weight
is written, each in float32; its own state is read and written beside them."""

FROZEN_PASSES, ADAPTER_PASSES = 4, 6
"""FLOPs for each token and parameter: a frozen one takes no gradient of its own."""

ADAPTER_LAUNCHES = 1.5
"""Times the kernels of a layer that one with an adapter on all its modules launches: two small
matrix products and a sum beside each, forward and backward. An estimate."""

ACTIVATION_BYTES = 160
"""Of a token, for each unit of width of each layer: what norms, rotations, activations and
residuals read and write forward and backward in bfloat16, beside the matrix products."""

SLOTS = 256
"""Answers in progress at once (trainers/inference/generation.py)."""


class Device(NamedTuple):
    """What one trial has of a GPU; where several trials share it, its share."""

    flops_per_second: float
    """That matrix products reach."""
    bytes_per_second: float | None
    """Of the memory; None leaves its time out."""


class Size(NamedTuple):
    """Of a model: its parameters, decoder layers and, under an adapter, the adapter's own weights,
    which then are all that is trained; of how many lanes of a pass it is one; and whether a long
    training compiles its layers, which none does of sharded weights or of weights in 4 bits."""

    parameters: int
    layers: int
    adapter: int | None = None
    lanes: int = 1
    compiles: bool = True

    @property
    def trained(self) -> int:
        return self.parameters if self.adapter is None else self.adapter

    @property
    def training_flops(self) -> int:
        """For each token: 2 forward and 4 backward for each weight that is trained."""
        own = ADAPTER_PASSES * self.trained
        return own if self.adapter is None else own + FROZEN_PASSES * self.parameters

    @property
    def width(self) -> float:
        """Hidden size of a decoder with 12 width^2 parameters a layer."""
        return math.sqrt(self.parameters / (12 * self.layers))


def size_of(grid: Grid, trial: Trial, lanes: int = 1) -> Size | None:
    """Of a trial's model and its adapter; None where either is not known. Without layers where
    those are not."""
    parameters = at_hand.parameters(trial.model.name)
    if parameters is None:
        return None
    size, spec = Size(parameters, layers(trial.model.name) or 0, lanes=lanes), trial.spec
    if spec is None:
        return size
    own = None if spec.adapter is None else shapes.trained(trial.model.name, spec)
    if spec.adapter is not None and own is None:
        return None
    sharded = grid.trial_resources(trial.stage).sharding != "none"
    in_4_bits = spec.adapter is not None and spec.adapter.base_weights == "nf4"
    return size._replace(adapter=own, compiles=not (sharded or in_4_bits))


def layers(model: str) -> int | None:
    """Decoder layers of a model, without loading or downloading; None where unknown."""
    folder = at_hand.folder(model)
    if folder is not None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return config.get("num_hidden_layers")
    known = shapes.KNOWN.get(model)
    return None if known is None else known.layers


def training_step(
    size: Size,
    tokens: float,
    device: Device,
    tokens_per_micro_batch: int | None,
    optimizer: str = "adamw",
    steps: float = math.inf,
) -> float:
    """Seconds of an optimizer step on `tokens` tokens, one of so many `steps`; of one lane of
    several, its share of the step of all."""
    budget = tokens_per_micro_batch or MICRO_BATCH_TOKENS
    micro_batches = math.ceil(size.lanes * tokens / budget)
    compiled = size.compiles and steps * micro_batches >= FEWEST_COMPILED
    each, others = TRAINING_LAUNCHES if compiled else UNCOMPILED_LAUNCHES, OTHER_LAUNCHES
    if size.lanes > 1:
        each = LANES_LAUNCHES if compiled else UNCOMPILED_LANES_LAUNCHES
        others = LANES_OTHER_LAUNCHES + size.lanes * LANE_LAUNCHES
    if size.adapter is not None:
        each *= ADAPTER_LAUNCHES
    matrices = size.layers * MATRICES * (1 if size.adapter is None else 2)
    launches = (micro_batches * size.layers * each + others) / size.lanes
    launches += OPTIMIZER_LAUNCHES.get(optimizer, 0) * matrices
    waits = OPTIMIZER_WAITS.get(optimizer, 0) * matrices
    moved = (STEP_BYTES + 2 * STATE_BYTES[optimizer]) * size.trained
    moved += ACTIVATION_BYTES * size.width * size.layers * tokens
    flops = size.training_flops * tokens
    if optimizer == "muon" and size.adapter is None:
        flops += MUON_FLOPS * size.layers * size.width**3
    return _seconds(launches, flops, moved, device) + waits * WAIT_SECONDS


def decoding(size: Size, answers: int, tokens: int, device: Device) -> float:
    """Seconds for so many answers of so many tokens each, `SLOTS` at a time."""
    steps = math.ceil(answers / SLOTS) * tokens
    launches = size.layers * DECODING_LAUNCHES
    flops = 2 * size.parameters * min(answers, SLOTS)
    return steps * _seconds(launches, flops, 2 * size.parameters, device)


def _seconds(launches: float, flops: float, moved: float, device: Device) -> float:
    work = flops / device.flops_per_second + moved / (device.bytes_per_second or math.inf)
    return seconds(launches, work)


def seconds(launches: float, work: float) -> float:
    """The host's time or the device's, whichever is longer; of the device the `work` in seconds,
    and beside it the least time of each kernel."""
    return max(launches * LAUNCH_SECONDS, launches * SHORTEST_SECONDS + work)
