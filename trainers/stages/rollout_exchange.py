"""Completions that several processes wrote, put together in each of them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import distributed as dist
from torch.nn.functional import pad

Batch = dict[str, torch.Tensor]
"""What TRL gives of completions: rows, padded to the longest, prompts on the left; or a sum."""


class Rollout(NamedTuple):
    """The completions of some prompts of a batch, group after group.

    `places`: of each completion's prompt; `rewards`: completions x functions; `truncated`: how many
    have no end; `kl`: from the start in nats, summed over tokens, where TRL takes it beforehand.
    """

    places: list[int]
    batch: Batch
    rewards: torch.Tensor
    truncated: float
    kl: float | None

    def to(self, device: torch.device | str) -> "Rollout":
        batch = {name: value.to(device) for name, value in self.batch.items()}
        return self._replace(batch=batch, rewards=self.rewards.to(device))


def gathered(here: Rollout | None) -> list[Rollout]:
    """What each process has, in all of them; None of one without a prompt."""
    parts: list[Rollout | None] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, None if here is None else here.to("cpu"))
    return [part for part in parts if part is not None]


def together(parts: Sequence[Rollout]) -> Rollout:
    """One rollout in the order of the prompts."""
    places = [place for part in parts for place in part.places]
    order = sorted(range(len(places)), key=places.__getitem__)
    kls = [part.kl for part in parts if part.kl is not None]
    return Rollout(
        [places[index] for index in order],
        {
            name: _joined(name, [part.batch[name] for part in parts], order)
            for name in parts[0].batch
        },
        torch.cat([part.rewards for part in parts])[order],
        sum(part.truncated for part in parts),
        sum(kls) if kls else None,
    )


def _joined(name: str, values: list[torch.Tensor], order: list[int]) -> torch.Tensor:
    if values[0].dim() == 0:
        return torch.stack(values).sum()
    if values[0].dim() > 1:
        longest = max(value.shape[1] for value in values)
        missing = [longest - value.shape[1] for value in values]
        left = name.startswith("prompt")
        values = [
            pad(value, (more, 0) if left else (0, more))
            for value, more in zip(values, missing, strict=True)
        ]
    return torch.cat(values)[order]
