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

import torch
from transformers import PreTrainedModel

from trainers.inference import prefix_attention, proof
from trainers.inference.prefix_attention import Attend, Ids, Like
from trainers.inference.proof import Unservable
from trainers.processes import attempt


class Decoder:
    def __init__(self, model: PreTrainedModel, proved: bool = False):
        """
        Raises:
            Unservable: packed forwards are not right for the model's architecture, or not `proved`
                to be.
        """
        self.model = model
        self.config: Any = model.config
        self.vocabulary = _head(model).weight.shape[0]
        self.like = _like(model)
        if not proved:
            proof.check(self)

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

    def body(self, tokens: Ids, positions: Ids, attend: Attend) -> torch.Tensor:
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
