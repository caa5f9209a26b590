"""How many tokens at a time: bounds memory, and never a score.

On a GPU the bound follows from the process's share of the memory and what its tensors hold of it;
running out of memory all the same halves it and repeats. A CPU that runs out of memory is killed,
so there the bound is small and fixed, which costs nothing: a few hundred tokens already keep the
cores busy.
"""

from collections.abc import Callable
from typing import Any

import torch

from trainers.inference.decoder import Decoder
from trainers.inference.prefix_attention import Carry, Span
from trainers.inference.prefix_tree import Prefixes
from trainers.ops import memory
from trainers.ops.memory import out_of_memory

CPU_TOKENS = 1024
"""Tokens of a micro-batch."""

CPU_KEYS = 3 << 29
"""Bytes for the keys and values of answers in progress."""

CPU_HEAD = 1 << 25
"""Bytes of logits at a time: they stay in the processor's cache."""

GPU_TOKENS = 1 << 15

GPU_HEAD = 1 << 29

GPU_SHARE = 0.4
"""Of what the process may still allocate, for keys and values; as much again for a
micro-batch."""


class Budget:
    def __init__(self, decoder: Decoder, longest: int):
        """For sequences of at most `longest` tokens."""
        config: Any = decoder.config.get_text_config()
        heads = config.num_attention_heads
        width, inner = config.hidden_size, getattr(config, "intermediate_size", None)
        size = getattr(config, "head_dim", None) or width // heads
        bytes_each = decoder.like.dtype.itemsize
        per_layer = 2 * (heads // decoder.like.queries_per_key) * size * bytes_each
        self.key_bytes = config.num_hidden_layers * per_layer
        """Keys and values of one token."""
        if decoder.like.device.type == "cuda":
            free = memory.room_on(decoder.like.device) * GPU_SHARE
            activations = 12 * width + 3 * (inner or 4 * width) + 6 * heads * size
            mask = 2 * longest * decoder.like.queries_per_key
            self.tokens = int(free / ((activations + mask) * bytes_each + 3 * per_layer))
            self.tokens = max(min(self.tokens, GPU_TOKENS), 256)
            self.keys, head = int(free), GPU_HEAD
        else:
            self.tokens, self.keys, head = CPU_TOKENS, CPU_KEYS, CPU_HEAD
        self.head = max(head // (4 * decoder.vocabulary), 16)
        """Positions whose logits are computed at a time."""

    def halve(self) -> None:
        """
        Raises:
            MemoryError: there is nothing left to halve.
        """
        if self.tokens <= 16:
            raise MemoryError("out of memory with 16 tokens at a time")
        self.tokens, self.keys, self.head = self.tokens // 2, self.keys // 2, max(self.head // 2, 1)
        memory.release()


class Forward:
    """The body over distinct prefixes, from the first to the last, in as many spans as it takes."""

    def __init__(self, decoder: Decoder, prefixes: Prefixes, budget: Budget):
        self.decoder, self.prefixes, self.budget = decoder, prefixes, budget
        self.place = 0
        self.carry: Carry | None = None

    def up_to(
        self,
        stop: int,
        use: Callable[[Span, torch.Tensor], None],
        span_type: type[Span] = Span,
    ) -> None:
        """Go on until the place `stop`; `use` gets each span and its hidden states, and may get
        the same places twice."""
        while self.place < stop:
            end = min(self.place + self.budget.tokens, stop)
            try:
                span = span_type(self.prefixes, self.place, end, self.carry, self.decoder.like)
                tokens, depths = self.prefixes.tokens, self.prefixes.depths
                hidden = self.decoder.body(tokens[self.place : end], depths[self.place : end], span)
                use(span, hidden)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                span = hidden = None  # what the failed attempt holds is given back first
            if span is None:
                self.budget.halve()
            else:
                self.place, self.carry = end, span.next_carry()
