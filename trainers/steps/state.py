"""What a training is, at a step, beyond its spec: taken from a trainer, and put back into one."""

import json
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel

from trainers import files
from trainers.processes import attempt
from trainers.steps import sharding

WEIGHT = "weight"
RANDOM = "random"
NUMBER = "number:"
"""Begins the name of an entry that the optimizer holds as a number and not as a tensor."""

SMALL = 4096
"""Bytes up to which a copy costs nothing."""


class HasState(Protocol):
    """An optimizer, or what shows and takes back the state of one."""

    @property
    def state(self) -> MutableMapping[Any, dict[str, Any]]: ...


def tensors(model: PreTrainedModel, optimizer: HasState) -> dict[str, torch.Tensor]:
    """The weights that are trained, the optimizer's state of each, and torch's random state, by
    name. Of sharded weights they are whole in the first process, and each process has to ask."""
    by_name = {f"{RANDOM}.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        by_name[f"{RANDOM}.cuda"] = torch.cuda.get_rng_state()
    for name, parameter in _trained(model).items():
        by_name[f"{WEIGHT}.{name}"] = sharding.whole(parameter.detach())
        for entry, value in optimizer.state[parameter].items():
            if isinstance(value, torch.Tensor):
                by_name[f"{entry}.{name}"] = _own(sharding.whole(value))
            elif value is not None:
                by_name[f"{NUMBER}{entry}.{name}"] = torch.tensor(value)
    return by_name


def _own(value: torch.Tensor) -> torch.Tensor:
    """Memory of its own: bitsandbytes' tables are one for all weights."""
    whole = value.untyped_storage().nbytes() == value.nbytes
    return value if whole and value.nbytes > SMALL else value.clone()


@torch.no_grad()
def restore(saved: dict[str, torch.Tensor], model: PreTrainedModel, optimizer: HasState) -> None:
    """Put back what `tensors` took, and numbers of steps where the optimizer makes them."""
    torch.set_rng_state(saved[f"{RANDOM}.cpu"].clone())
    if torch.cuda.is_available() and f"{RANDOM}.cuda" in saved:
        torch.cuda.set_rng_state(saved[f"{RANDOM}.cuda"].clone())
    states: dict[str, dict[str, Any]] = {}
    for key, value in saved.items():
        entry, _, name = key.partition(".")
        if entry not in (WEIGHT, RANDOM):
            number = entry.startswith(NUMBER)
            states.setdefault(name, {})[entry.removeprefix(NUMBER)] = (
                value.item() if number else value
            )
    steps_on_cpu = _with_steps_on_cpu(optimizer)
    for name, parameter in _trained(model).items():
        parameter.copy_(sharding.like(saved[f"{WEIGHT}.{name}"], parameter))
        kept = dict(states.get(name, {}))
        for entry, value in kept.items():
            if isinstance(value, torch.Tensor):
                counts = value.dim() == 0 and id(parameter) in steps_on_cpu
                kept[entry] = value.clone() if counts else sharding.like(value, parameter)
        optimizer.state[parameter] = kept


def _with_steps_on_cpu(optimizer: HasState) -> set[int]:
    """Ids of the weights of whose steps torch's optimizers keep count on the CPU: on a GPU each
    step would wait for them."""
    groups = getattr(optimizer, "param_groups", [])
    apart = [group for group in groups if not (group.get("fused") or group.get("capturable"))]
    return {id(weight) for group in apart for weight in group["params"]}


def _trained(model: PreTrainedModel) -> dict[str, torch.nn.Parameter]:
    return {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }


def cut(metrics: Path, step: int) -> None:
    """Leave the lines of metrics.jsonl up to `step`: the others will be written anew. The file is
    replaced, so that lines of an attempt that was superseded go nowhere.

    Raises:
        Superseded: another attempt holds the trial folder.
    """
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True) if step else []
    kept = []
    for line in lines:
        try:
            if json.loads(line)["step"] > step:
                break
        except json.JSONDecodeError:  # cut off as the process was killed
            break
        kept.append(line)
    attempt.check()
    files.write_text(metrics, "".join(kept))
