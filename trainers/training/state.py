"""What a training is, at a step, beyond its spec: taken from a trainer, and put back into one."""

import json
from pathlib import Path

import torch
from torch.optim import Optimizer
from transformers import PreTrainedModel

from trainers import attempt, files

WEIGHT = "weight"
RANDOM = "random"


def tensors(model: PreTrainedModel, optimizer: Optimizer) -> dict[str, torch.Tensor]:
    """Weights, the optimizer's state of each, and torch's random state, by name."""
    states = {f"{RANDOM}.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states[f"{RANDOM}.cuda"] = torch.cuda.get_rng_state()
    for name, parameter in model.named_parameters():
        states[f"{WEIGHT}.{name}"] = parameter.detach()
        for entry, value in optimizer.state[parameter].items():
            states[f"{entry}.{name}"] = value
    return states


@torch.no_grad()
def restore(saved: dict[str, torch.Tensor], model: PreTrainedModel, optimizer: Optimizer) -> None:
    """Put back what `tensors` took."""
    torch.set_rng_state(saved[f"{RANDOM}.cpu"].clone())
    if torch.cuda.is_available() and f"{RANDOM}.cuda" in saved:
        torch.cuda.set_rng_state(saved[f"{RANDOM}.cuda"].clone())
    for name, parameter in model.named_parameters():
        parameter.copy_(saved[f"{WEIGHT}.{name}"])
        optimizer.state[parameter] = {
            entry: saved[f"{entry}.{name}"].clone().to(parameter.device)
            for entry in ("step", "exp_avg", "exp_avg_sq")
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
