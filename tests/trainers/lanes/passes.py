"""Trainings of the tiny model, in lanes and alone, and what can be seen of them."""

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.trainers.weights import distance
from trainers import dispatch
from trainers.models import load
from trainers.specs.kinds import KINDS
from trainers.specs.result import StageResult

SFT = {
    "kind": "sft", "data": {"name": "world:sft", "examples": 60}, "learning_rate": 1e-3,
    "batch_size": 8, "heldout": 3, "max_length": 96, "dtype": "float32", "steps": 6,
    "warmup_steps": 1, "noise_scale_every": 2,
}  # fmt: skip

OWN_COLUMNS = ("seconds",)
"""Of a line of metrics.jsonl: the rest is decided by the spec."""


class Trained(NamedTuple):
    result: StageResult | Exception
    weights: dict[str, torch.Tensor]
    """As they were handed out; empty where they were not."""
    lines: list[dict[str, Any]]
    model: Any = None

    @property
    def figures(self) -> dict[str, Any]:
        assert isinstance(self.result, StageResult)
        return self.result.figures

    @property
    def flat(self) -> torch.Tensor:
        return torch.cat([weight.flatten() for weight in self.weights.values()])


def together(
    start: load.Loaded,
    cache: Path,
    folders: Sequence[Path],
    settings: Sequence[dict[str, Any]],
    save: Any = None,
    memory_kills: int = 0,
) -> list[Trained]:
    """One pass of lanes; `save` is called before the weights are taken."""
    kept: dict[int, dict[str, torch.Tensor]] = {}

    def take(number: int, loaded: load.Loaded, result: StageResult) -> None:
        if save is not None:
            save(number, loaded, result)
        assert number not in kept, "a lane ends once"
        kept[number] = weights(loaded.model)

    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    results = dispatch.train_lanes(
        [spec(one) for one in settings], copied(start), cache, "base", folders,
        math.inf, memory_kills, take,
    )  # fmt: skip
    return [
        Trained(result, kept.get(number, {}), lines(folder))
        for number, (result, folder) in enumerate(zip(results, folders, strict=True))
    ]


def alone(start: load.Loaded, cache: Path, folder: Path, settings: dict[str, Any]) -> Trained:
    folder.mkdir(parents=True, exist_ok=True)
    loaded = copied(start)
    result = dispatch.train(spec(settings), loaded, cache, "base", folder)
    model = result.model or loaded.model
    return Trained(result, weights(model), lines(folder), model)


def spec(settings: dict[str, Any]) -> Any:
    return KINDS[settings["kind"]].model_validate(settings)


def copied(start: load.Loaded) -> load.Loaded:
    return start._replace(model=copy.deepcopy(start.model))


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    read = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [
        {name: value for name, value in json.loads(line).items() if name not in OWN_COLUMNS}
        for line in read
    ]


def assert_as_alone(
    lane: Trained, other: Trained, start: load.Loaded, update: float = 1e-3
) -> None:
    """Losses of every step within 1e-4, what training adds to the weights within `update`, and the
    weights within 1e-3."""
    assert isinstance(lane.result, StageResult)
    assert isinstance(other.result, StageResult)
    assert lane.result.status == other.result.status
    assert len(lane.lines) == len(other.lines)
    for here, there in zip(lane.lines, other.lines, strict=True):
        assert here.keys() == there.keys()
        for name, value in there.items():
            loose = 1e-4 if "loss" in name else 1e-2
            assert abs(here[name] - value) <= loose * abs(value) + 1e-9, (name, here, there)
    before = torch.cat([p.detach().flatten() for p in start.model.parameters()])
    if other.flat.shape == before.shape:
        assert distance(lane.flat - before, other.flat - before) < update
    assert distance(lane.flat, other.flat) < 1e-3
