"""Which kernels a training runs on a GPU, by the profiler's names: `python -m pytest -m gpu`."""

from collections import Counter

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from tests.trainers.small_models import example, small
from trainers.ops import half_weights, packed_attention
from trainers.ops.packed_attention import rows
from trainers.processes import process
from trainers.training import compiled

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

LAYERS = 4
LENGTHS = (37, 5, 120, 64)


@pytest.fixture
def model():
    process.prepare(1)
    return small(
        hidden_size=256, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=LAYERS
    ).cuda()


def kernels(model) -> Counter[str]:
    """Names of the kernels of one forward and backward pass, with their numbers of launches."""
    texts = [example(length, length - 1, seed) for seed, length in enumerate(LENGTHS)]
    row = rows(texts, True, model.device)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            hidden = half_weights.forward(model.base_model, row.options).last_hidden_state
        hidden.float().square().mean().backward()
        torch.cuda.synchronize()

    step()  # what is built once is not counted
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        step()
    return Counter(
        event.name
        for event in profiler.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    )


def launches(found: Counter[str], *parts: str) -> int:
    """Of kernels whose name has all these parts."""
    return sum(count for name, count in found.items() if all(part in name for part in parts))


def test_attention_is_flash_attentions_kernel_once_a_layer(model):
    with packed_attention.used(model.train(), bfloat16=True) as packed:
        assert packed
        found = kernels(model.train())
    assert launches(found, "flash", "fwd") == LAYERS, sorted(found)
    assert not launches(found, "cudnn"), sorted(found)
    assert not launches(found, "fmha"), sorted(found)


def test_compiled_layers_launch_fewer_kernels(model):
    with packed_attention.used(model, bfloat16=True):
        plain = kernels(model.train())
        with compiled.layers(model, "") as compilation:
            assert compilation.used, compilation.reason
            fused = kernels(model.train())
    assert launches(fused, "flash", "fwd") == LAYERS
    assert 2 * fused.total() < plain.total()
