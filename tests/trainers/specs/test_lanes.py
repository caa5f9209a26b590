"""Which trainings share a pass, known without torch."""

import pytest

from trainers.specs.kinds import KINDS
from trainers.specs.lanes import lane_key

PLAIN = {"kind": "sft", "data": "world:sft", "learning_rate": 1e-3, "batch_size": 8}


def key(**settings):
    return lane_key(KINDS["sft"].model_validate(PLAIN | settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 2e-3}, {"weight_decay": 0.1}, {"adam_beta1": 0.5}, {"adam_beta2": 0.9},
        {"adam_beta2": None, "adam_beta2_half_life_tokens": 1e4}, {"adam_epsilon": 1e-6},
        {"max_grad_norm": 0.0}, {"schedule": "cosine"}, {"warmup_ratio": 0.1},
        {"divergence_factor": 5.0},
    ],
    ids=str,
)  # fmt: skip
def test_numbers_of_the_optimizer_may_differ(settings):
    assert key(**settings) == key() is not None


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 4}, {"seed": 1}, {"steps": 10}, {"epochs": 2.0}, {"tokens": 1000},
        {"data": "world:pretrain"}, {"max_length": 100}, {"loss": "example_mean"},
        {"heldout": 5}, {"dtype": "bfloat16"}, {"noise_scale_every": 0}, {"optimizer": "sgd"},
        {"tokens_per_micro_batch": 100}, {"save_every_steps": 5}, {"data_seed": 1},
        {"adapter": {"rank": 4}},
    ],
    ids=str,
)  # fmt: skip
def test_all_else_may_not(settings):
    assert key(**settings) != key()


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "lion"}, {"adapter": {"dropout": 0.1}}, {"adapter": {"dora": True}},
        {"adapter": {"base_weights": "nf4"}},
    ],
    ids=str,
)  # fmt: skip
def test_what_has_no_lanes_has_no_key(settings):
    assert key(**settings) is None


def test_rlvr_has_no_lanes():
    spec = KINDS["rlvr"].model_validate(
        {"kind": "rlvr", "data": "world:rlvr", "learning_rate": 1e-3, "batch_size": 8}
    )
    assert lane_key(spec) is None
