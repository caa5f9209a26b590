"""DPO and reward models on two data-parallel processes take the step of one."""

import copy
from pathlib import Path

import pytest
import torch

from tests.trainers.weights import EXACT, distance, flat, in_two_processes
from trainers import dispatch
from trainers.models import load
from trainers.specs.kinds import KINDS

pytestmark = pytest.mark.slow

COMMON = {
    "data": {"name": "world:preferences", "examples": 40}, "learning_rate": 1e-3, "batch_size": 7,
    "heldout": 8, "max_length": 128, "dtype": "float32", "steps": 3, "noise_scale_every": 1,
    "tokens_per_micro_batch": 150,
}  # fmt: skip


def update(kind: str, folder: Path) -> tuple[torch.Tensor, dict]:
    """What training adds to the body's weights, and its figures."""
    spec = KINDS[kind].model_validate(COMMON | {"kind": kind})
    loaded = load.load("tiny")
    start = copy.deepcopy(loaded.model.base_model)
    folder.mkdir(parents=True, exist_ok=True)
    result = dispatch.train(spec, loaded, folder / "data", "start", folder)
    return flat(loaded.model.base_model) - flat(start), result.figures


def test_two_ranks_take_the_step_of_one(tmp_path):
    in_two_processes(_rank, str(tmp_path))
    for kind in ("dpo", "reward"):
        found = torch.load(tmp_path / f"{kind}.pt", weights_only=True)
        expected, figures = update(kind, tmp_path / f"{kind}-alone")
        assert distance(found["update"], expected) < EXACT
        theirs = found["figures"]
        for name in ("final_loss", "rewards_margin", "rewards_accuracy"):
            assert theirs[name] == pytest.approx(figures[name], rel=1e-3, abs=1e-5)
        # a difference of squared norms, in which their rounding grows
        assert theirs["noise_scale"] == pytest.approx(figures["noise_scale"], rel=1e-2)


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    for kind in ("dpo", "reward"):
        found, figures = update(kind, Path(folder) / kind)
        if rank == 0:
            names = ("final_loss", "rewards_margin", "rewards_accuracy", "noise_scale")
            kept = {"update": found, "figures": {name: figures[name] for name in names}}
            torch.save(kept, Path(folder) / f"{kind}.pt")
