"""What the plan takes an optimizer's own step for, and which trainings it takes for compiled."""

from collections import Counter

import pytest
import torch
from torch.optim import Adafactor, Muon
from torch.utils._python_dispatch import TorchDispatchMode

from sweep.plan import lane_gain, step_time, trials

SMOLLM2_1_7B = step_time.Size(1_711_376_384, 24)
H200 = step_time.Device(4e14, 4.8e12)


class Operators(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count[str(func)] += 1
        return func(*args, **(kwargs or {}))


def step(optimizer: type, **settings) -> Counter:
    """Operators of its second step, for each of four matrices."""
    weights = [torch.nn.Parameter(torch.randn(64, 96)) for _ in range(4)]
    chosen = optimizer(weights, lr=1e-3, **settings)
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    chosen.step()
    with Operators() as operators:
        chosen.step()
    return Counter({name: count // 4 for name, count in operators.count.items()})


READS = "aten._local_scalar_dense.default"
NO_KERNEL = ("aten.permute.default", READS)


@pytest.mark.parametrize(
    ("name", "optimizer", "settings"),
    [("muon", Muon, {"adjust_lr_fn": "match_rms_adamw"}), ("adafactor", Adafactor, {})],
)
def test_an_optimizer_launches_what_the_plan_says(name, optimizer, settings):
    operators = step(optimizer, **settings)
    kernels = sum(count for op, count in operators.items() if op not in NO_KERNEL)
    assert kernels == step_time.OPTIMIZER_LAUNCHES[name]
    of_the_step_count = 1  # which lies on the host
    waits = max(operators[READS] - of_the_step_count, 0)
    assert waits == step_time.OPTIMIZER_WAITS.get(name, 0)


def test_muon_pays_for_its_rounds_whatever_the_batch():
    few, many = (
        step_time.training_step(SMOLLM2_1_7B, tokens, H200, 10**6, "muon")
        - step_time.training_step(SMOLLM2_1_7B, tokens, H200, 10**6)
        for tokens in (2_800, 280_000)
    )
    rounds = 24 * (4 * 30 * 2048**3 + 3 * (5 * (4 * 2048**2 * 8192 + 2 * 2048**3)))
    assert few == pytest.approx(rounds / H200.flops_per_second, rel=0.5)
    assert many == pytest.approx(few, rel=0.2)


def test_adafactor_waits_for_the_device_at_each_matrix():
    small = step_time.Size(134_515_008, 30)
    adafactor, adamw = (
        step_time.training_step(small, 1000, H200, 10**6, name) for name in ("adafactor", "adamw")
    )
    waited = 2 * 30 * step_time.MATRICES * step_time.WAIT_SECONDS
    assert adafactor - adamw > waited


GRID = """\
name: some
model: HuggingFaceTB/SmolLM2-1.7B
stages:
  sft:
    kind: sft
    data: {name: org/rows, examples: 100000}
    epochs: 1
    batch_size: 4
    grid: {learning_rate: [1e-5, 2e-5, 4e-5, 8e-5]}
evaluate: {benchmarks: [arc]}
resources: {gpus_per_trial: 2}
"""
LORA = "stages.sft.adapter={rank: 16}"


def size(load, *overrides) -> step_time.Size:
    grid = load(GRID, *overrides)
    return step_time.size_of(grid, trials.trials(grid)[-1])


def test_sharded_weights_and_those_in_4_bits_are_never_compiled(load):
    assert size(load).compiles and size(load, LORA).compiles
    shared = size(load, "resources={gpus_per_trial: 2, ranks_per_trial: 2, sharding: full}")
    assert not shared.compiles
    assert not size(load, "stages.sft.adapter={rank: 16, base_weights: nf4}").compiles
    asked = (2_000, H200, None, "adamw", 1e6)
    assert step_time.training_step(shared, *asked) > step_time.training_step(size(load), *asked)


def test_lanes_of_adapters_are_judged_as_such(load):
    grid = load(GRID, LORA, "resources={gpus_per_trial: 1, lanes: auto}")
    cell = trials.trials(grid)[-1]
    assert step_time.size_of(grid, cell, lanes=8).adapter is not None
    full = load(GRID, "resources={gpus_per_trial: 1, lanes: auto}")
    assert lane_gain.pays(grid, cell, 8)
    assert not lane_gain.pays(full, trials.trials(full)[-1], 8)
