"""The launches that a plan takes a step for, against those of the code as it is now."""

from unittest import mock

import pytest
from torch.utils import _foreach_utils

from sweep.plan import step_time
from tests.bench import bench_lanes
from tests.bench import bench_launches as bench
from trainers.ops import chunked_loss

pytestmark = pytest.mark.slow

FIFTH = 0.2
"""Share by which a constant may be off."""


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(bench, "mixture", lambda: {"name": "world:sft", "examples": 40})
    monkeypatch.setattr(_foreach_utils, "_get_foreach_kernels_supported_devices", lambda: ["cpu"])
    with mock.patch.dict(chunked_loss.PIECE, {"cpu": chunked_loss.PIECE["cuda"]}):
        yield


def launches(kind: str, tokenizer) -> tuple[float, float]:
    """Of a layer, and of the step outside the layers."""
    return split(*bench.traced(kind, 4, tokenizer))


def split(few: bench.Count, many: bench.Count) -> tuple[float, float]:
    """Of a layer, and of the step outside the layers."""
    whole, one = few.at(many, bench.LAYERS), few.at(many, 1)
    layer = (whole.operators - one.operators) / (bench.LAYERS - 1)
    return layer, whole.operators - bench.LAYERS * layer


def test_a_training_step_launches_what_the_plan_says(tiny):
    layer, others = launches("sft", tiny.tokenizer)
    compiled = bench.kernels_of_a_layer()
    assert layer == pytest.approx(step_time.UNCOMPILED_LAUNCHES, rel=FIFTH)
    assert compiled == pytest.approx(step_time.TRAINING_LAUNCHES, rel=FIFTH)
    assert others == pytest.approx(step_time.OTHER_LAUNCHES, rel=FIFTH)


def test_a_step_of_a_pass_launches_what_the_plan_says(tiny):
    others = {}
    compiled = bench_lanes.kernels_of_a_layer(3)
    assert compiled == pytest.approx(step_time.LANES_LAUNCHES, rel=FIFTH)
    for lanes in (2, 10):
        few, many = (bench_lanes.counted(n, 4, lanes, tiny.tokenizer) for n in bench.TRACED)
        layer, others[lanes] = split(few, many)
        assert layer == pytest.approx(step_time.UNCOMPILED_LANES_LAUNCHES, rel=FIFTH)
    each = (others[10] - others[2]) / 8
    assert each == pytest.approx(step_time.LANE_LAUNCHES, rel=FIFTH)
    assert others[2] - 2 * each == pytest.approx(step_time.LANES_OTHER_LAUNCHES, rel=FIFTH)


def test_a_decoding_step_launches_what_the_plan_says(tiny):
    layer, _ = launches("decode", tiny.tokenizer)
    assert layer == pytest.approx(step_time.DECODING_LAUNCHES, rel=FIFTH)
