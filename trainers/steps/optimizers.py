"""The optimizer of a stage, from torch or bitsandbytes, with its numbers as the spec has them."""

import math
from collections.abc import Collection
from typing import Any

import torch
from torch.optim import SGD, Adafactor, AdamW, Muon, Optimizer
from transformers import PreTrainedModel, Trainer

from trainers.specs.optimizer import OptimizerSpec
from trainers.specs.optimizer import state_bytes as bytes_of_state

Groups = list[dict[str, Any]]

ADAFACTOR_FLOOR = 1e-3
"""Least size of a weight that the learning rate of Adafactor is relative to; torch's default."""


class AnyRateAdafactor(Adafactor):
    """torch's takes 1 / sqrt(step) for each learning rate above it, and so all of these alike. Here
    the step of such a rate is as much longer; it holds the weights once more meanwhile."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        shortened = [
            (weight, weight * (1 - group["lr"] * group["weight_decay"]), times)
            for group in self.param_groups
            for weight in group["params"]
            if weight.grad is not None and (times := self._times(group["lr"], weight)) > 1
        ]
        loss = super().step(closure)
        for weight, start, times in shortened:
            weight.copy_(start.lerp_(weight, times))
        return loss

    def _times(self, rate: float, weight: torch.Tensor) -> float:
        """How much longer than torch's the next step of a weight is."""
        return rate * math.sqrt(float(self.state[weight].get("step", 0)) + 1)


def optimizer(
    spec: OptimizerSpec, adam_beta2: float, model: PreTrainedModel, decaying: Collection[str]
) -> Optimizer:
    """Over the weights of `model` that are trained; `decaying` names those with weight decay.

    Raises:
        ImportError: bitsandbytes is not installed, or does not run here.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    adamw = {
        "lr": spec.learning_rate,
        "betas": (spec.adam_beta1, adam_beta2),
        "eps": spec.adam_epsilon,
    }

    def groups(names: Collection[str]) -> Groups:
        decays = [trained[name] for name in names if name in decaying]
        others = [trained[name] for name in names if name not in decaying]
        parts = ((decays, spec.weight_decay), (others, 0.0))
        return [{"params": some, "weight_decay": decay} for some, decay in parts if some]

    every = list(trained)
    match spec.optimizer:
        case "adamw":
            return AdamW(groups(every), **adamw, fused=True)
        case "sgd":
            return SGD(
                groups(every),
                lr=spec.learning_rate,
                momentum=spec.sgd_momentum,
                nesterov=spec.sgd_nesterov,
            )
        case "adafactor":
            return AnyRateAdafactor(
                groups(every),
                lr=spec.learning_rate,
                beta2_decay=spec.adafactor_beta2_decay,
                eps=(None, ADAFACTOR_FLOOR),
                d=spec.adafactor_clip,
            )
        case "lion":
            from bitsandbytes.optim.lion import Lion

            betas = (spec.lion_beta1, spec.lion_beta2)
            return Lion(groups(every), lr=spec.learning_rate, betas=betas)
        case "adamw_8bit":
            from bitsandbytes.optim.adamw import AdamW8bit

            tables = _embeddings(model)  # bitsandbytes advises 32 bits for them
            some = [name for name in every if id(trained[name]) not in tables]
            rest = [name for name in every if id(trained[name]) in tables]
            parts: list[Optimizer] = [AdamW8bit(groups(some), **adamw)]
            return _together(
                [*parts, *([AdamW(groups(rest), **adamw, fused=True)] if rest else [])]
            )
        case "muon":
            tables = _embeddings(model)
            layers = {id(p) for p in model.base_model.parameters() if p.ndim == 2} - tables
            some = [name for name in every if id(trained[name]) in layers]
            rest = [name for name in every if id(trained[name]) not in layers]
            parts = [
                Muon(
                    groups(some),
                    lr=spec.learning_rate,
                    momentum=spec.muon_momentum,
                    adjust_lr_fn="match_rms_adamw",
                )
            ]
            return _together(
                [*parts, *([AdamW(groups(rest), **adamw, fused=True)] if rest else [])]
            )


def state_bytes(spec: OptimizerSpec, model: PreTrainedModel) -> float:
    """Of the optimizer's state, once it has taken a step."""
    trained = [p for p in model.parameters() if p.requires_grad]
    tables = _embeddings(model)
    in_tables = sum(p.numel() for p in trained if id(p) in tables)
    return bytes_of_state(spec.optimizer, sum(p.numel() for p in trained), in_tables)


def _embeddings(model: PreTrainedModel) -> set[int]:
    tables = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    return {id(table.weight) for table in tables}


def _together(parts: list[Optimizer]) -> Optimizer:
    return parts[0] if len(parts) == 1 else Together(parts)


def decaying(model: PreTrainedModel) -> set[str]:
    """Names of the weights that decay, as transformers' Trainer chooses them: no biases, no
    norms."""
    trainer: Any = Trainer
    return set(trainer.get_decay_parameter_names(None, model))


class Together(Optimizer):
    """Several optimizers that step as one; groups and state are theirs."""

    def __init__(self, parts: list[Optimizer]):
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Accelerate loads the optimizer's own state into it, which makes groups and state anew."""
        super().__setstate__(state)
        self._share()

    def _share(self) -> None:
        at = 0
        for part in self.parts:
            end = at + len(part.param_groups)
            part.param_groups, part.state, at = self.param_groups[at:end], self.state, end

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for part in self.parts:
            part.step()
