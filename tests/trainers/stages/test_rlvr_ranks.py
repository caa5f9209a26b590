"""RLVR on two processes writes the completions of one and takes its step, also where they share the
weights."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
import torch

from trainers import dispatch
from trainers.models import load
from trainers.processes import process
from trainers.specs.conditions import Conditions, Sharding
from trainers.specs.kinds import KINDS
from trainers.steps import distributed
from trainers.training.callbacks import Monitor

pytestmark = pytest.mark.slow

REWARD = """\
def told(prompts, completions, **columns):
    return [sum(map(ord, said[0]["content"])) % 7 / 7 for said in completions]
"""
"""Of every letter that is written."""

COMMON: dict[str, Any] = {
    "kind": "rlvr", "data": {"name": "world:prompts", "examples": 24}, "learning_rate": 1e-3,
    "batch_size": 12, "group_size": 4, "heldout": 4, "max_length": 128, "max_new_tokens": 10,
    "dtype": "float32", "steps": 3, "tokens_per_micro_batch": 200,
}  # fmt: skip

EXACT = 1e-4
"""Of the relative distance between updates of the weights."""

EQUAL = (
    "step", "reward", "reward_std", "verified_reward", "zero_advantage_share", "completion_tokens",
    "truncated_share", "tokens", "loss_tokens",
)  # fmt: skip
"""What is recorded of completions, and so the same where these are."""

CASES: dict[str, dict[str, Any]] = {
    "grpo": {},
    "rloo": {"algorithm": "rloo"},
    "fewer_prompts_than_processes": {"batch_size": 4},
    "adapter": {"adapter": {"rank": 4}},
    "adapter_on_4_bits": {"adapter": {"rank": 4, "base_weights": "nf4"}},
}
"""Three prompts a step, if not told otherwise: one process has two of them."""


class Trained(NamedTuple):
    """What training adds to the weights, and its records."""

    update: np.ndarray
    records: list[dict[str, Any]]


def train(settings: dict[str, Any], folder: Path, sharding: Sharding = "none") -> None:
    process.prepare(1)
    reward = f"{folder.parent / 'reward.py'}:told"
    spec = KINDS["rlvr"].model_validate(COMMON | {"reward": reward} | settings)
    loaded = load.load("tiny", on_cpu=sharding != "none")
    before = flat(loaded.model.parameters())
    folder.mkdir(parents=True, exist_ok=True)
    conditions = Conditions(sharding=sharding)
    result = dispatch.train(spec, loaded, folder / "data", "start", folder, conditions)
    assert result.status == "ok", result.reason
    if distributed.is_first():
        model = result.model or loaded.model
        adapter = [weight for name, weight in model.named_parameters() if "lora_B" in name]
        update = flat(adapter) if adapter else flat(model.parameters()) - before  # B starts at 0
        np.save(folder / "update.npy", update)


def trained(folder: Path) -> Trained:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return Trained(np.load(folder / "update.npy"), [json.loads(line) for line in lines])


def flat(weights: Iterable[torch.Tensor]) -> np.ndarray:
    return torch.cat([weight.detach().flatten() for weight in weights]).numpy()


def distance(update: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(update - expected) / np.linalg.norm(expected))


def train_each(folder: Path, sharding: Sharding = "none") -> None:
    """Every case, in one process or in each of several."""
    for name, settings in CASES.items():
        if sharding == "none" or name != "adapter_on_4_bits":  # which a grid file may not ask for
            train(settings, folder / name, sharding)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("ranks")
    for part in (path, path / "one", *(path / sharding for sharding in get_args(Sharding))):
        part.mkdir(exist_ok=True)
        (part / "reward.py").write_text(REWARD)
    return path


@pytest.fixture(scope="module")
def of_one(folder) -> Path:
    """A folder with one in it for every case."""
    train_each(folder / "one")
    return folder / "one"


@pytest.fixture(scope="module", params=get_args(Sharding))
def of_two(folder, request) -> Path:
    distributed.run(2, train_each, folder / request.param, request.param)
    return folder / request.param


@pytest.mark.parametrize("case", CASES)
def test_two_processes_take_the_steps_of_one(of_one, of_two, case):
    if not (of_two / case).exists():
        pytest.skip("weights of 4 bits are not sharded")
    one, two = trained(of_one / case), trained(of_two / case)
    assert distance(two.update, one.update) < EXACT
    for here, there in zip(one.records, two.records, strict=True):
        for name in EQUAL:
            assert there[name] == pytest.approx(here[name], rel=1e-6), name
        assert there["loss"] == pytest.approx(here["loss"], abs=1e-5)
        assert there["kl"] == pytest.approx(here["kl"], rel=1e-3, abs=1e-6)
    assert any(record["reward_std"] > 0 for record in one.records)


def test_killed_training_goes_on_in_another_number_of_processes(folder, monkeypatch):
    settings = {"steps": 4, "save_every_steps": 2}
    train(settings, folder / "whole")

    def killed(self, last):
        if self.progress.steps == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Monitor, "_check_start", killed)
        train(settings, folder / "killed")
    distributed.run(2, train, settings, folder / "killed")
    whole, resumed = trained(folder / "whole"), trained(folder / "killed")
    assert [record["step"] for record in resumed.records] == [1, 2, 3, 4]
    assert distance(resumed.update, whole.update) < EXACT
