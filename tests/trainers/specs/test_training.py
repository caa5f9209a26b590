"""Specs: strict, frozen, and right about steps, examples and warmup."""

import pytest
from pydantic import ValidationError

from trainers.specs.data import DataSpec
from trainers.specs.identity import identity
from trainers.specs.preference import DpoSpec
from trainers.specs.rlvr import RlvrSpec
from trainers.specs.training import SftSpec

PLAIN = {"kind": "sft", "data": "world:sft", "learning_rate": 1e-3, "batch_size": 8}


def spec(**settings) -> SftSpec:
    return SftSpec.model_validate(PLAIN | settings)


@pytest.mark.parametrize(
    ("settings", "examples", "steps", "seen"),
    [
        ({}, 16, 2, 16),
        ({}, 17, 3, 17),
        ({}, 7, 1, 7),
        ({"epochs": 2}, 17, 6, 34),
        ({"epochs": 1.5}, 17, 5, 17 + 16),
        ({"epochs": 0.01}, 17, 1, 8),
        ({"epochs": 1e-9}, 17, 1, 8),
        ({"steps": 3}, 100, 3, 24),
        ({"steps": 4}, 17, 4, 17 + 8),
        ({"batch_size": 1}, 5, 5, 5),
    ],
)
def test_steps_and_examples_follow_from_epochs_or_steps(settings, examples, steps, seen):
    found = spec(**settings)
    assert found.optimizer_steps(examples) == steps
    assert found.examples_after(steps, examples) == seen


@pytest.mark.parametrize(
    ("settings", "steps", "warmup"),
    [
        ({}, 100, 0),
        ({"warmup_ratio": 0.03}, 100, 3),
        ({"warmup_ratio": 0.03}, 101, 4),
        ({"warmup_ratio": 0.03}, 1, 1),
        ({"warmup_ratio": 0.0}, 100, 0),
        ({"warmup_ratio": 1.0}, 10, 10),
        ({"warmup_steps": 7}, 100, 7),
        ({"warmup_steps": 0}, 100, 0),
        ({"warmup_ratio": 0.1}, 250, 25),
    ],
)
def test_warmup_is_a_ratio_rounded_up_or_a_number_of_steps(settings, steps, warmup):
    assert spec(**settings).warmup(steps) == warmup


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"learning_rate": "0.1"},
        {"batch_size": 0},
        {"batch_size": 4.0},
        {"batch_size": True},
        {"seed": -1},
        {"epochs": 0},
        {"steps": 0},
        {"warmup_ratio": 1.1},
        {"warmup_steps": -1},
        {"schedule": "step"},
        {"adam_beta2": 1},
        {"max_length": 1},
        {"loss_on": "user"},
        {"dtype": "float16"},
        {"divergence_factor": 1},
        {"heldout": -1},
        {"data": {"name": "a", "exmaples": 3}},
        {"data": ""},
        {"batchsize": 4},
        {"epochs": 1, "steps": 1},
        {"steps": 1, "tokens": 1},
        {"epochs": 1, "steps": 1, "tokens": 1},
        {"warmup_steps": 1, "warmup_tokens": 1},
        {"adam_beta2": 0.99, "adam_beta2_half_life_tokens": 1e6},
        {"adam_beta2": None},
        {"decay_ratio": 0},
        {"loss": "sum"},
        {"tokens_per_micro_batch": 0},
        {"divergence_steps": 0},
        {"save_every_minutes": 0},
        {"warmup_ratio": 0.1, "warmup_steps": 1},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        spec(**settings)


def test_setting_that_nothing_reads_says_why():
    assert spec().unread == {"decay_ratio": "schedule is linear, not warmup_stable_decay"}
    assert spec(schedule="warmup_stable_decay").unread == {}
    assert "save_every_minutes" in spec(save_every_steps=10).unread
    rlvr = RlvrSpec.model_validate(PLAIN | {"kind": "rlvr"})
    assert rlvr.unread["reward_model_weight"] == "there is no reward_model"


def test_minutes_beside_steps_are_those_of_the_reference_pass():
    given = {"kind": "dpo", "save_every_minutes": 5, "save_every_steps": 10}
    assert "save_every_minutes" not in DpoSpec.model_validate(PLAIN | given).unread


def test_an_arm_may_take_back_what_its_stage_gave():
    found = spec(adam_beta2=None, adam_beta2_half_life_tokens=1e6, epochs=None, steps=3)
    assert (found.adam_beta2, found.optimizer_steps(100)) == (None, 3)
    assert spec(warmup_ratio=None).warmup(100) == 0


def test_specs_are_frozen():
    with pytest.raises(ValidationError):
        spec().learning_rate = 1.0


def test_data_may_be_a_name_alone():
    assert spec(data="a/b").data == DataSpec(name="a/b")


def test_identity_leaves_out_what_does_not_decide_the_weights():
    speed = {"tokens_per_micro_batch": 1, "save_every_steps": 1, "noise_scale_every": 0}
    assert identity(spec(**speed)) == identity(spec())
    assert identity(spec(seed=1)) != identity(spec())
