"""Tokens at a time on a GPU, from what the process may still allocate."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainers.inference.prefix_attention import Like
from trainers.inference.token_budget import Budget
from trainers.ops import memory
from trainers.processes import devices

TOTAL = 80 * 2**30
WEIGHTS = 2 * 134_515_008
"""Bytes, in bfloat16."""

SMOLLM2 = SimpleNamespace(
    num_attention_heads=9, hidden_size=576, intermediate_size=1536, num_hidden_layers=30
)


def decoder() -> Any:
    config = SimpleNamespace(get_text_config=lambda: SMOLLM2)
    like = Like(torch.device("cuda"), torch.bfloat16, 3)
    return SimpleNamespace(config=config, like=like, vocabulary=49_152)


def budget(share: float, held: int, monkeypatch) -> Budget:
    fraction = devices.memory_fraction(share, TOTAL)
    cached, others = held + (5 << 30), TOTAL // 4  # the cache grows from benchmark to benchmark
    free = TOTAL - cached - others
    monkeypatch.setattr(
        memory, "room_on", lambda _: memory.room(TOTAL, free, fraction, cached, held)
    )
    return Budget(decoder(), 2048)


def slots(found: Budget) -> int:
    return found.keys // (found.key_bytes * 1536)


@pytest.mark.parametrize("share", [0.25, 0.5, 1])
def test_slots_of_a_share_are_enough_and_the_same_in_every_benchmark(share, monkeypatch):
    first = budget(share, WEIGHTS, monkeypatch)
    assert slots(first) >= 190
    assert vars(budget(share, WEIGHTS, monkeypatch)) == vars(first)
    assert first.tokens == 1 << 15


def test_a_share_of_half_has_half(monkeypatch):
    half, quarter = (budget(share, 0, monkeypatch).keys for share in (0.5, 0.25))
    assert quarter == pytest.approx(half / 2, rel=0.03)


def test_a_full_share_still_gives_a_budget(monkeypatch):
    full = budget(0.25, TOTAL, monkeypatch)
    assert (full.tokens, full.keys) == (256, 0)
