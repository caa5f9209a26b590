"""Reinforcement learning with verifiable rewards: a thin reading of TRL's GRPO and RLOO trainers.

What TRL does not do is in rollouts.py, sampling.py and rollout_exchange.py. PPO, which Tulu 3 and
SmolTulu use, is not in TRL any more: it needs a value function, started from a reward model; here
each completion is held against the others of its prompt instead.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.rloo_config import RLOOConfig

from trainers.data.forms import preference_pairs
from trainers.data.prepare import Prepared
from trainers.models import load
from trainers.ops.judge import scores_of
from trainers.ops.memory import with_room
from trainers.ops.packed_attention import Example
from trainers.rewards import graders, own_function
from trainers.specs.conditions import DEFAULTS, Conditions
from trainers.specs.result import StageResult
from trainers.specs.rlvr import RlvrSpec
from trainers.stages.rollouts import Grpo, Rloo
from trainers.training import loop

Reward = Callable[..., list[float]]
"""As TRL calls it: told completions, and the columns of their rows by name."""


def verified(
    completions: list[Any], dataset: list[str], ground_truth: list[str], **_: Any
) -> list[float]:
    """1 or 0 for each completion, by the grader of its row."""
    return [
        graders.reward(said[0]["content"], name, truth)
        for said, name, truth in zip(completions, dataset, ground_truth, strict=True)
    ]


def own(reward: str) -> Reward:
    """A reward function of the user's, with the columns of its rows."""

    def rewards(
        prompts: list[Any], completions: list[Any], completion_ids: Any, columns: Any, **_: Any
    ) -> list[float]:
        return own_function.rewards(reward, prompts, completions, completion_ids, columns)

    return rewards


def judged(judge: load.Loaded, dtype: str) -> Reward:
    """The score that a reward model gives the prompt with each completion."""

    def reward(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
        texts = [
            preference_pairs.judged(asked, said, judge.tokenizer)
            for asked, said in zip(prompts, completions, strict=True)
        ]
        ids = judge.tokenizer(texts, add_special_tokens=False)["input_ids"]
        examples = [Example(torch.tensor(tokens), torch.tensor(tokens)) for tokens in ids]
        return scores_of(judge, examples, dtype).tolist()

    return reward


def train(
    spec: RlvrSpec,
    loaded: load.Loaded,
    data: Prepared,
    folder: Path,
    conditions: Conditions = DEFAULTS,
) -> StageResult:
    """Train `loaded.model` in place; see `loop.train`. Examples are completions, tokens those of
    prompts and completions, loss tokens those of completions.

    Each step's record and, smoothed over the steps, `figures` have besides: reward and reward_std
    over the batch's completions, verified_reward without the reward model, zero_advantage_share
    (groups whose rewards are all the same, which without a KL teach nothing), unrewarded_share
    (completions to which a function of the user's gives no reward), kl from the start in nats a
    token (where beta is not 0), completion_tokens, truncated_share (completions without an end).

    The smoothed loss is no measure of progress here; a stage diverges where the loss or the
    gradient is not finite, or the KL in the loss grows beyond `divergence_factor`.

    Raises:
        ModelUnavailable: there is no reward model in the folder.
        OutOfTime: the monotonic clock has passed the deadline.
    """
    is_own = spec.reward is not None and own_function.is_own(spec.reward)
    functions = [own(str(spec.reward)) if is_own else verified]
    weights = [1.0]
    if spec.reward_model is not None:
        judge = with_room(
            f"loading the reward model {spec.reward_model}",
            partial(load.load_judge, spec.reward_model),
        )
        functions.append(judged(judge, spec.dtype))
        weights.append(spec.reward_model_weight)
    shared = {
        "num_generations": spec.group_size,
        "beta": spec.beta,
        "temperature": spec.temperature,
        "max_completion_length": spec.max_new_tokens,
        "reward_weights": weights,
        "activation_checkpointing": False,
        "disable_dropout": True,
        "top_k": 0,
        # of a policy that has no probabilities any more the loss tells, not the sampling
        "generation_kwargs": {"remove_invalid_values": True},
    }
    options = {"reward_funcs": functions}
    match spec.algorithm:
        case "grpo":
            own_settings = {"loss_type": "dapo", "use_bias_correction_kl": True}
            arguments = partial(_arguments, GRPOConfig, **shared, **own_settings)
            kind = loop.Kind(Grpo, arguments, None, "grpo", options)
        case "rloo":
            kind = loop.Kind(Rloo, partial(_arguments, RLOOConfig, **shared), None, "rloo", options)
    rows = data.train.select_columns(["asked", "input_ids"])
    return loop.train(kind, spec, loaded.model, loaded.tokenizer, data, rows, folder, conditions)


def _arguments(config: Any, num_generations: int, **given: Any) -> Any:
    """`per_device_train_batch_size` is one group: TRL wants whole ones."""
    given["per_device_train_batch_size"] = num_generations
    return config(num_generations=num_generations, steps_per_generation=1, **given)
