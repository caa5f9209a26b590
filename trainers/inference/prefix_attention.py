"""Attention for tokens of many sequences packed into one row, without padding elsewhere.

Every layer but attention treats tokens one by one, so a micro-batch is a single row of tokens, each
with its own position. Only here do they meet: rows of like length are gathered, each with all the
places it sees, and go through one masked `scaled_dot_product_attention` per group. The query heads
that share a key head ride along as further queries, so that keys are never repeated for them.

It is plugged into a model of transformers by `AttentionInterface` and found there under `NAME`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from trainers.inference.prefix_tree import Prefixes, Row, carried, rows

NAME = "lr_bs_packed"

UNSUPPORTED = ("sliding_window", "softcap", "s_aux", "position_bias")
"""Arguments of an attention that this one does not have."""

WASTE = 0.25
"""Share of a group's masked area that padding may add before a further group is opened."""

GROUP_AREA = {"cpu": 4096, "cuda": 1 << 20}
"""Queries times keys that take about as long as opening a further group."""


Ids = np.ndarray | torch.Tensor


class Attend(Protocol):
    """What the packed tokens see: `[1, heads, tokens, size]` each -> `[1, tokens, heads, size]`."""

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor: ...


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    scaling: float | None = None,
    packed: Attend | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface. `packed` comes through the model's own forward.

    Raises:
        NotImplementedError: the model's attention has more to it than this one.
    """
    more = [name for name in UNSUPPORTED if others.get(name) is not None]
    if more or packed is None:
        raise NotImplementedError(f"its attention takes {more}" if more else "it drops `packed`")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return packed.attend(module.layer_idx, query, key, value, scale), None


AttentionInterface.register(NAME, attention)


class Group(NamedTuple):
    """Rows of like length, padded to the longest: `[rows, queries]` and `[rows, keys]`."""

    queries: torch.Tensor
    keys: torch.Tensor
    mask: torch.Tensor
    """Additive, `[rows, 1, query heads per key head * queries, keys]`."""


class Carry(NamedTuple):
    """Keys and values that later spans see: the path to where the last one stopped."""

    places: np.ndarray
    layers: list[tuple[torch.Tensor, torch.Tensor]]


class Span:
    """Attention of one micro-batch: the places from `start` to `stop` of all distinct prefixes.

    `carry` has what they see of earlier spans, `next_carry()` what later ones see of this.
    """

    def __init__(
        self, prefixes: Prefixes, start: int, stop: int, carry: Carry | None, like: "Like"
    ):
        self.like = like
        self.carry = carry if carry is not None and len(carry.places) else None
        self.start, self.stop = start, stop
        self.before = len(self.carry.places) if self.carry else 0
        self.groups: list[Group] = []
        picked = np.empty(stop - start, dtype=np.int64)
        filled = 0
        for members in _alike(list(rows(prefixes, start, stop)), GROUP_AREA[like.device.type]):
            longest = max(row.length for row in members)
            for row in members:
                picked[row.start : row.start + row.length] = filled + np.arange(row.length)
                filled += longest
            self.groups.append(self._group(members, longest))
        self.picked = like.index(picked)
        self.next_places = carried(prefixes, stop)
        self.keep = like.index(self.where(self.next_places))
        self.kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def where(self, path: np.ndarray) -> np.ndarray:
        """Places -> indices into carried and own keys, one after the other."""
        inside = path >= self.start
        return np.where(inside, path - self.start + self.before, np.arange(len(path)))

    def next_carry(self) -> Carry:
        return Carry(self.next_places, self.kept)

    def _group(self, members: list[Row], longest: int) -> Group:
        widest = max(len(row.path) for row in members)
        if self.like.device.type == "cuda":
            widest = -(-widest // 8) * 8  # the kernels want aligned masks
        queries = np.zeros((len(members), longest), dtype=np.int64)
        keys = np.zeros((len(members), widest), dtype=np.int64)
        depths = np.empty(len(members), dtype=np.int64)
        for number, row in enumerate(members):
            queries[number, : row.length] = np.arange(row.start, row.start + row.length)
            keys[number, : len(row.path)] = self.where(row.path)
            depths[number] = len(row.path) - row.length
        # A query sees its own depth and all before; what pads the keys lies beyond every depth.
        last = self.like.index(depths)[:, None] + self.like.index(np.arange(longest))
        hidden = self.like.index(np.arange(widest)) > last[..., None]
        mask = torch.zeros(hidden.shape, dtype=self.like.dtype, device=self.like.device)
        mask = mask.masked_fill_(hidden, float("-inf")).repeat(1, self.like.queries_per_key, 1)
        return Group(self.like.index(queries), self.like.index(keys), mask[:, None])

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        if self.carry is not None:
            old_key, old_value = self.carry.layers[layer]
            key = torch.cat([old_key, key], dim=2)
            value = torch.cat([old_value, value], dim=2)
        self.store(layer, key, value)
        parts = [_grouped(group, query[0], key[0], value[0], scale) for group in self.groups]
        return torch.cat(parts).index_select(0, self.picked)[None]

    def store(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Keep what later spans see; called once for each layer, in their order."""
        if len(self.next_places):
            self.kept.append((key.index_select(2, self.keep), value.index_select(2, self.keep)))


class Like(NamedTuple):
    """What attention has to know of the model."""

    device: torch.device
    dtype: torch.dtype
    queries_per_key: int
    """Query heads that share a key head."""

    def index(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, values: Ids
    ) -> torch.Tensor:
        """On the model's device; what is there already stays."""
        given = values if isinstance(values, torch.Tensor) else torch.from_numpy(values)
        return given.to(self.device)


def _alike(group: list[Row], group_area: int) -> Iterator[list[Row]]:
    """The rows in groups of like length, so that padding stays below `WASTE` of the area."""
    group.sort(key=lambda row: (round(2 * np.log2(row.length)), len(row.path)))
    members: list[Row] = []
    area = longest = widest = 0
    for row in group:
        exact = area + row.length * len(row.path)
        longer, wider = max(longest, row.length), max(widest, len(row.path))
        if members and (len(members) + 1) * longer * wider > (1 + WASTE) * exact + group_area:
            yield members
            members, exact = [], row.length * len(row.path)
            longer, wider = row.length, len(row.path)
        members.append(row)
        area, longest, widest = exact, longer, wider
    yield members


def _grouped(
    group: Group, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
) -> torch.Tensor:
    """`[heads, tokens, size]` each -> `[rows * queries, heads, size]`, padding included."""
    count, longest = group.queries.shape
    key_heads, size = key.shape[0], value.shape[-1]
    picked = query.index_select(1, group.queries.view(-1))
    picked = picked.view(key_heads, -1, count, longest, query.shape[-1]).permute(2, 0, 1, 3, 4)
    keys, values = (
        states.index_select(1, group.keys.view(-1))
        .view(key_heads, count, -1, states.shape[-1])
        .transpose(0, 1)
        for states in (key, value)
    )
    seen = F.scaled_dot_product_attention(
        picked.flatten(2, 3), keys, values, attn_mask=group.mask, scale=scale
    )
    seen = seen.view(count, key_heads, -1, longest, size).permute(0, 3, 1, 2, 4)
    return seen.reshape(count * longest, -1, size)
