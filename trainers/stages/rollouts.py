"""Batches of completions for TRL's GRPO and RLOO: a batch is so many prompts, each answered by a
group of completions, and the effective batch is exact whatever the memory.

TRL writes the completions, grades them, and has the advantages and the loss; it takes its
micro-batches from a fixed number of completions, padded to the longest of all. Here one item of the
data loader is one effective batch, answered as a whole by the policy that is about to be stepped,
and the engine (exact_batches.py) cuts it by the token budget.
"""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer
from trl.trainer.utils import add_fused_lm_head

from trainers.data.rlvr_prompts import Prompt, read_prompts
from trainers.models import adapters
from trainers.ops.memory import with_room
from trainers.steps.step import Step
from trainers.training.exact_batches import ExactBatches


class Completion(NamedTuple):
    """One answer of the batch in hand."""

    place: int
    """Its row in what TRL gave of the batch."""
    prompt_tokens: int
    loss_tokens: int
    """Tokens of the answer, its end token too."""

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.loss_tokens

    length = tokens


class Rollouts(ExactBatches):
    """To be mixed into TRL's trainer; one process alone, as the groups of a batch are compared."""

    num_generations: int
    beta: float
    temperature: float
    ref_model: Any
    max_completion_length: int
    reward_weights: torch.Tensor
    _metrics: dict[str, dict[str, list[float]]]

    def __init__(self, *, args: Any, **options: Any):
        """`args.beta` says how the KL counts; its reference is the model as it is now, a copy or,
        under an adapter, without it, where TRL would load the one that the configuration names."""
        beta, args.beta = args.beta, 0.0
        del options["data_collator"]  # TRL sets its own; the data loader has `collate`
        super().__init__(args=args, **options)
        if self.args.world_size > 1:
            raise ValueError("rlvr trains on one process; set resources.ranks_per_trial: 1")
        args.beta = self.beta = beta
        model = options["model"]
        if beta and adapters.attached(model):  # the reference is the model without it
            model.disable_adapter = partial(adapters.off, model)
        elif beta:
            reference = with_room(
                "copying the model as the reference (beta: 0 needs none)",
                lambda: copy.deepcopy(model),
            )
            reference.__dict__.pop("forward", None)
            reference.requires_grad_(False)
            add_fused_lm_head(reference, temperature=self.temperature)
            self.ref_model = self.accelerator.prepare_model(reference, evaluation_mode=True)

    collate = staticmethod(read_prompts)

    def worth(self, examples: Sequence[Any]) -> list[float]:
        return [1 / len(examples)] * len(examples)

    def training_step(
        self, model: Any, inputs: Any, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """A step on completions of the prompts `inputs`.

        Raises:
            Diverged: the loss or the gradient is not finite.
        """
        model.train()
        completions = self._roll_out(inputs)
        loss = super().training_step(model, completions, num_items_in_batch)
        step: Step = self.taken
        self.taken = step._replace(facts={**self._facts(), **step.facts})
        self.batch, self.rewards = {}, torch.empty(0)
        for values in self._metrics["train"].values():
            values.clear()
        return loss

    def _roll_out(self, asked: Sequence[Prompt]) -> list[Completion]:
        """Write and grade the completions of each prompt. What is drawn depends on the seed and the
        step alone, so a training that goes on draws what it would have drawn."""
        drawn = np.random.SeedSequence([self.args.seed, self.state.global_step])
        torch.manual_seed(int(drawn.generate_state(1)[0]))
        rows = [
            {
                "prompt": prompt.messages,
                "dataset": prompt.dataset,
                "ground_truth": prompt.ground_truth,
                "columns": prompt.columns,
            }
            for prompt in asked
            for _ in range(self.num_generations)
        ]
        longest = max(sum(len(m["content"]) for m in prompt.messages) for prompt in asked)
        most = longest + self.max_completion_length  # a token has at least one character
        trl: Any = self
        # how many the passes without a gradient take at a time
        trl.args.per_device_train_batch_size = max(self.budget.tokens // most, 1)
        with self.accelerator.autocast():
            self.batch: dict[str, Any] = trl._generate_and_score_completions(rows)
        counts = (self.batch[f"{part}_mask"].sum(1).tolist() for part in ("prompt", "completion"))
        return [
            Completion(place, prompt, answer)
            for place, (prompt, answer) in enumerate(zip(*counts, strict=True))
        ]

    def _calculate_rewards(self, *arguments: Any, **named: Any) -> torch.Tensor:
        trl: Any = super()
        self.rewards: torch.Tensor = trl._calculate_rewards(*arguments, **named)
        return self.rewards

    def _facts(self) -> dict[str, float]:
        """Of the batch in hand, before the step."""
        weights = self.reward_weights.to(self.rewards.device)
        rewards = (self.rewards * weights).sum(dim=1)
        groups = rewards.view(-1, self.num_generations)
        alike = groups.amax(dim=1) - groups.amin(dim=1) < 1e-8
        metrics = self._metrics["train"]
        padded = {
            "reward": float(rewards.mean()),
            "reward_std": float(rewards.std()),
            "verified_reward": float(self.rewards[:, 0].mean()),
            "zero_advantage_share": float(alike.float().mean()),
            "completion_tokens": metrics["completions/mean_length"][-1],
            "truncated_share": metrics["completions/clipped_ratio"][-1],
        }
        return padded | ({"kl": metrics["kl"][-1]} if metrics.get("kl") else {})

    def _part(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """What TRL gave of these completions, without the padding that the others need."""
        device = self.args.device
        places = torch.tensor([completion.place for completion in completions], device=device)
        prompt = max(completion.prompt_tokens for completion in completions)
        answer = max(completion.loss_tokens for completion in completions)
        rows = {}
        for name, value in self.batch.items():
            if value.dim() == 0:
                rows[name] = value
            elif value.dim() == 1:
                rows[name] = value[places]
            elif name.startswith("prompt"):
                rows[name] = value[places, -prompt:]
            else:
                rows[name] = value[places, :answer]
        return rows


class Grpo(Rollouts, GRPOTrainer):
    """TRL's loss `dapo`: the sum over a micro-batch's tokens over the number in the whole batch."""

    def __init__(self, *, args: Any, **options: Any):
        super().__init__(args=args, **options)
        self.FACTS = ("kl",) if self.beta else ()

    def losses(
        self, model: Any, examples: Sequence[Any], worth: Sequence[float]
    ) -> tuple[torch.Tensor, ...]:
        loss = self._compute_loss(model, self._part(examples))
        if not self.beta:
            return (loss,)
        tokens = sum(example.loss_tokens for example in examples)
        share = tokens / self.batch["num_items_in_batch"]
        return loss, share * self._metrics["train"]["kl"][-1]


class Rloo(Rollouts, RLOOTrainer):
    """TRL's loss: the mean over a micro-batch's completions, here weighed by their number."""

    def losses(
        self, model: Any, examples: Sequence[Any], worth: Sequence[float]
    ) -> tuple[torch.Tensor, ...]:
        return (self._compute_loss(model, self._part(examples)) * sum(worth),)
