"""The loss of direct preference optimisation, of each pair."""

from typing import Literal, NamedTuple, assert_never

import torch
from torch.nn.functional import logsigmoid


class Losses(NamedTuple):
    """Of each pair, (pairs,), with lanes before that where the policy has them."""

    loss: torch.Tensor
    chosen: torch.Tensor
    """Rewards: beta times the log-ratio, per token of the answer for `dpo_norm`."""
    rejected: torch.Tensor


def losses(
    policy: torch.Tensor,
    reference: torch.Tensor,
    tokens: torch.Tensor,
    loss: Literal["dpo_norm", "sigmoid"],
    beta: float,
) -> Losses:
    """-log sigmoid(reward of the chosen - reward of the rejected), the reward of an answer y being
    beta log(policy(y) / reference(y)), for `dpo_norm` divided by y's tokens (Lambert et al. 2024,
    arXiv 2411.15124, equation 6).

    `policy` and `reference` have the answers' log-probabilities, `tokens` their numbers of tokens,
    each (pairs, 2): chosen and rejected. `policy` may have lanes before that.
    """
    rewards = beta * (policy - reference)
    match loss:
        case "dpo_norm":
            rewards = rewards / tokens
        case "sigmoid":
            pass
        case _:
            assert_never(loss)
    chosen, rejected = rewards.unbind(dim=-1)
    return Losses(-logsigmoid(chosen - rejected), chosen, rejected)
