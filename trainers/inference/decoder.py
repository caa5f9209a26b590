"""A causal model of transformers on packed tokens: its body on all, its head where asked.

    decoder = Decoder(model)
    with decoder.attached():
        hidden = decoder.body(tokens, positions, attend)      # [tokens, width]
        logits = decoder.head(hidden[some])                   # [some, vocabulary]

The model is as it was afterwards: attention, training mode and weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from trainers import attempt
from trainers.inference import prefix_attention
from trainers.inference.prefix_attention import Attend, Carry, Like, Span
from trainers.inference.prefix_tree import find

PROBE = ((0, 1, 2, 3, 4, 5), (0, 1, 2, 6, 7), (0, 1, 2, 6, 8, 9, 3), (5, 4))
"""Sequences of token ids, some with shared beginnings, computed in both ways."""

PROBE_SPAN = 5

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.05}
"""Largest difference of a log-probability between the two ways to compute the probe."""


class Unservable(Exception):
    """The model has something that packed forwards do not cover; the message says what."""


class Decoder:
    def __init__(self, model: PreTrainedModel):
        """
        Raises:
            Unservable: see `Unservable`.
        """
        self.model = model
        self.config: Any = model.config
        self.vocabulary = _head(model).weight.shape[0]
        self.like = _like(model)
        with torch.inference_mode():
            _agree(self)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Inside, the model takes packed tokens; afterwards it is as it was."""
        implementation, training = self.config._attn_implementation, self.model.training
        with torch.inference_mode():
            try:
                self.config._attn_implementation = prefix_attention.NAME
                self.model.eval()
                yield
            finally:
                self.config._attn_implementation = implementation
                self.model.train(training)

    def body(self, tokens: np.ndarray, positions: np.ndarray, attend: Attend) -> torch.Tensor:
        """Token ids and position ids of one packed row -> last hidden states, `[tokens, width]`."""
        attempt.sign("evaluation")
        body: Any = self.model.base_model
        return body(
            input_ids=self.like.index(tokens)[None],
            position_ids=self.like.index(positions)[None],
            use_cache=False,
            packed=attend,
        ).last_hidden_state[0]

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        return _head(self.model)(hidden)


def _head(model: PreTrainedModel) -> Any:
    head = model.get_output_embeddings()
    if head is None:
        raise Unservable("it has no output embeddings")
    return head


def _like(model: PreTrainedModel) -> Like:
    config: Any = model.config
    if config.is_encoder_decoder:
        raise Unservable("it has an encoder")
    if not getattr(model, "_supports_attention_backend", False):
        raise Unservable("its attention cannot be exchanged")
    if config._attn_implementation not in ("sdpa", "eager") and "flash" not in str(
        config._attn_implementation
    ):
        raise Unservable(f"its attention is {config._attn_implementation}")
    text = config.get_text_config()
    if getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True):
        raise Unservable("its attention has a sliding window")
    rope = (getattr(text, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in ("dynamic", "longrope"):
        raise Unservable(f"its positions ({rope}) depend on the length of the batch")
    heads = text.num_attention_heads
    key_heads = getattr(text, "num_key_value_heads", None) or heads
    if model.device.type not in prefix_attention.GROUP_AREA:
        raise Unservable(f"its device is {model.device.type}")
    return Like(model.device, model.dtype, heads // key_heads)


def _agree(decoder: Decoder) -> None:
    """Compare packed forwards in small spans with the model's own on a few tokens.

    Raises:
        Unservable: they differ, or the model does not take them.
    """
    model: Any = decoder.model
    training = model.training
    model.eval()
    try:
        expected = [
            model(torch.tensor([sequence], device=model.device)).logits[0] for sequence in PROBE
        ]
    finally:
        model.train(training)
    prefixes = find(PROBE)
    carry: Carry | None = None
    spans = []
    try:
        with decoder.attached():
            for start in range(0, len(prefixes.tokens), PROBE_SPAN):
                stop = min(start + PROBE_SPAN, len(prefixes.tokens))
                span = Span(prefixes, start, stop, carry, decoder.like)
                spans.append(
                    decoder.body(prefixes.tokens[start:stop], prefixes.depths[start:stop], span)
                )
                carry = span.next_carry()
            logits = decoder.head(torch.cat(spans))
    except (NotImplementedError, TypeError, AttributeError, RuntimeError) as error:
        raise Unservable(f"packed tokens: {type(error).__name__}: {error}") from error
    found = [logits[decoder.like.index(path)] for path in prefixes.paths]
    difference = max(
        float((_finite(a) - _finite(b)).abs().max()) for a, b in zip(expected, found, strict=True)
    )
    if not difference <= TOLERANCE.get(model.dtype, 0.0):
        raise Unservable(f"packed tokens give other log-probabilities, by {difference:.2g}")


def _finite(logits: torch.Tensor) -> torch.Tensor:
    """Log-probabilities; those of weights that diverged are alike if they are no numbers."""
    return logits.float().log_softmax(-1).nan_to_num()
