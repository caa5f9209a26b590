"""Keys and values of the answers in progress, in buffers that are allocated once."""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from trainers.inference.prefix_attention import Like


class Prompts(NamedTuple):
    """Which tokens of a pass go to which place of which slot; three alike tensors of indices."""

    tokens: torch.Tensor
    slots: torch.Tensor
    places: torch.Tensor


class Slots:
    """Keys and values of the answers in progress, which are the first slots; a step's attention."""

    def __init__(self, like: Like, layers: int, count: int, length: int):
        self.like, self.layers, self.count, self.length = like, layers, count, length
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self.mask = torch.full((count, 1, 1, length), float("-inf"), dtype=like.dtype)
        self.mask = self.mask.to(like.device)

    def fill(self, layer: int, prompts: Prompts, key: torch.Tensor, value: torch.Tensor) -> None:
        """Prompts' keys and values out of `[heads, tokens, size]`, layer after layer."""
        if layer == len(self.keys):
            for buffers, states in ((self.keys, key), (self.values, value)):
                shape = (self.count, states.shape[0], self.length, states.shape[2])
                # zeros, since what is masked must be finite all the same
                buffers.append(torch.zeros(shape, dtype=states.dtype, device=states.device))
        for buffers, states in ((self.keys, key), (self.values, value)):
            read = states.index_select(1, prompts.tokens).transpose(0, 1)
            buffers[layer][prompts.slots, :, prompts.places] = read

    def open(self, slot: int, length: int) -> None:
        self.mask[slot] = float("-inf")
        self.mask[slot, ..., :length] = 0

    def move(self, source: int, target: int, length: int) -> None:
        for buffers in (self.keys, self.values):
            for buffer in buffers:
                buffer[target, :, :length] = buffer[source, :, :length]
        self.mask[target] = self.mask[source]

    def step(self, lengths: torch.Tensor, longest: int) -> None:
        """Make room for one more token in each of the first slots, after `lengths` of them, which
        are `longest` at most."""
        self.active = torch.arange(len(lengths), device=self.like.device)
        self.ends = lengths
        self.mask[self.active, 0, 0, self.ends] = 0
        self.longest = longest + 1
        if self.like.device.type == "cuda":
            self.longest = min(-(-self.longest // 8) * 8, self.length)

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        keys, values = self.keys[layer], self.values[layer]
        keys[self.active, :, self.ends] = key[0].transpose(0, 1)
        values[self.active, :, self.ends] = value[0].transpose(0, 1)
        count, heads = len(self.active), keys.shape[1]
        queries = query[0].transpose(0, 1).reshape(count, heads, -1, query.shape[-1])
        mask = self.mask[:count, :, :, : self.longest]
        seen = F.scaled_dot_product_attention(
            queries,
            keys[:count, :, : self.longest],
            values[:count, :, : self.longest],
            attn_mask=mask.expand(-1, -1, queries.shape[2], -1),
            scale=scale,
        )
        return seen.reshape(1, count, -1, value.shape[-1])
