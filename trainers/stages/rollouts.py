"""Batches of completions for TRL's GRPO and RLOO: a batch is so many prompts, each answered by a
group of completions, and the effective batch is exact whatever the memory.

TRL writes the completions, grades them, and has the advantages and the loss; it takes its
micro-batches from a fixed number of completions, padded to the longest of all. Here one item of the
data loader is one effective batch, answered as a whole by the policy that is about to be stepped,
and the engine (exact_batches.py) cuts it by the token budget.

Of several processes each answers its share of the prompts, with whole groups, so that rewards and
advantages need no other; then all have all completions and divide them anew, by length. TRL, which
would exchange equal numbers of rows in every pass, knows of one process alone. Processes that share
the weights have them all while they write.
"""

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer
from trl.trainer.utils import add_fused_lm_head

from trainers.data.forms.rlvr_prompts import Prompt, read_prompts
from trainers.models import adapters
from trainers.ops.memory import with_room
from trainers.stages import sampling
from trainers.stages.rollout_exchange import Batch, Rollout, gathered, together
from trainers.steps import sharding
from trainers.steps.step import Step
from trainers.training import compat_accelerate
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
    """To be mixed into TRL's trainer."""

    num_generations: int
    beta: float
    temperature: float
    ref_model: Any
    max_completion_length: int
    reward_weights: torch.Tensor
    _metrics: dict[str, dict[str, list[float]]]
    rollout: Rollout
    """Of the batch in hand."""
    prompt_tokens: list[list[int]]
    """Of each completion that is written."""

    def __init__(self, *, args: Any, **options: Any):
        """`args.beta` says how the KL counts; its reference is the model as it is now, a copy or,
        under an adapter, without it, where TRL would load the one that the configuration names."""
        self.chunks = sampling.Chunks()
        beta, args.beta = args.beta, 0.0
        del options["data_collator"]  # TRL sets its own; the data loader has `collate`
        super().__init__(args=args, **options)
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
        del self.rollout
        for values in self._metrics["train"].values():
            values.clear()
        return loss

    def _roll_out(self, asked: Sequence[Prompt]) -> list[Completion]:
        """Write and grade the completions of each prompt, this process those of its share."""
        places = range(len(asked))[self.args.process_index :: self.args.world_size]
        with self._whole_model(bool(places)):
            here = self._answered(asked, places) if places else None
        parts = [here] if self.args.world_size == 1 else gathered(here)
        self.rollout = together([part for part in parts if part]).to(self.args.device)
        counts = (self.batch[f"{part}_mask"].sum(1).tolist() for part in ("prompt", "completion"))
        return [
            Completion(place, prompt, answer)
            for place, (prompt, answer) in enumerate(zip(*counts, strict=True))
        ]

    def _whole_model(self, passes: bool) -> AbstractContextManager[None]:
        if not self.sharded:
            return nullcontext()
        return sharding.gathered(cast(Any, self.model), self.settings.sharding, passes)

    @property
    def batch(self) -> Batch:
        return self.rollout.batch

    def _answered(self, asked: Sequence[Prompt], places: Sequence[int]) -> Rollout:
        """The completions of the prompts at these places. What is drawn depends on the seed, the
        step and the place alone, so a training that goes on draws what it would have drawn."""
        seed, step = self.args.seed, self.state.global_step
        torch.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))
        prompts = [asked[place] for place in places]
        each = self.num_generations
        tokens = [torch.as_tensor(prompt.tokens).tolist() for prompt in prompts]
        self.prompt_tokens = [ids for ids in tokens for _ in range(each)]
        rows = [
            {
                "prompt": prompt.messages,
                "dataset": prompt.dataset,
                "ground_truth": prompt.ground_truth,
                "columns": prompt.columns,
            }
            for prompt in prompts
            for _ in range(each)
        ]
        most = max(map(len, tokens)) + self.max_completion_length
        trl: Any = self
        # how many the passes without a gradient take at a time
        trl.args.per_device_train_batch_size = max(self.budget.tokens // most, 1)
        numbers = sampling.numbers(seed, step, places, each, self.max_completion_length)
        padding = trl.processing_class.pad_token_id
        with (
            compat_accelerate.alone(),
            sampling.drawn(self.model, numbers, self.temperature, padding, self.chunks),
            sampling.signed(*filter(None, (self.model, self.ref_model))),
            self.accelerator.autocast(),
        ):
            batch: Batch = trl._generate_and_score_completions(rows)
        metrics = self._metrics["train"]
        kl = metrics["kl"][-1] * float(batch["completion_mask"].sum()) if metrics["kl"] else None
        return Rollout(
            places=[place for place in places for _ in range(each)],
            batch=batch,
            rewards=self.rewards,
            truncated=metrics["completions/clipped_ratio"][-1] * len(rows),
            kl=kl,
        )

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """As they were prepared: TRL's own would leave out what a row tells the template, and fold
        no system turn."""
        return self.prompt_tokens, None, {}

    def _calculate_rewards(self, *arguments: Any, **named: Any) -> torch.Tensor:
        trl: Any = super()
        self.rewards: torch.Tensor = trl._calculate_rewards(*arguments, **named)
        return self.rewards

    def _facts(self) -> dict[str, float]:
        """Of the batch in hand, before the step."""
        given = self.rollout.rewards
        none = given.isnan().all(dim=1)
        rewards = (given * self.reward_weights.to(given.device)).nansum(dim=1)
        groups = rewards.masked_fill(none, -torch.inf).view(-1, self.num_generations)
        least = rewards.masked_fill(none, torch.inf).view(-1, self.num_generations)
        alike = groups.amax(dim=1) - least.amin(dim=1) < 1e-8
        rewards, verified = rewards[~none], given[:, 0][~given[:, 0].isnan()]
        tokens = float(self.batch["completion_mask"].sum())
        facts = {
            "reward": _mean(rewards),
            "reward_std": float(rewards.std()) if len(rewards) > 1 else 0.0,
            "verified_reward": _mean(verified),
            "zero_advantage_share": _mean(alike),
            "unrewarded_share": _mean(none),
            "completion_tokens": tokens / len(given),
            "truncated_share": self.rollout.truncated / len(given),
        }
        return facts | ({} if self.rollout.kl is None else {"kl": self.rollout.kl / tokens})

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


def _mean(values: torch.Tensor) -> float:
    """0 of none."""
    return float(values.float().mean()) if len(values) else 0.0


class Grpo(Rollouts, GRPOTrainer):
    """TRL's loss `dapo`: the sum over a micro-batch's tokens over the number in the whole batch."""

    def __init__(self, *, args: Any, **options: Any):
        super().__init__(args=args, **options)
        self.FACTS = ("kl",) if self.beta else ()

    def losses(
        self, model: Any, examples: Sequence[Any], worth: Sequence[float]
    ) -> tuple[torch.Tensor, ...]:
        weighs = float(any(worth))  # not what is passed only to take part
        with compat_accelerate.alone():
            loss = weighs * self._compute_loss(model, self._part(examples))
        if not self.beta:
            return (loss,)
        tokens = sum(example.loss_tokens for example in examples)
        share = weighs * tokens / self.batch["num_items_in_batch"]
        return loss, share * self._metrics["train"]["kl"][-1]


class Rloo(Rollouts, RLOOTrainer):
    """TRL's loss: the mean over a micro-batch's completions, here weighed by their number."""

    part: dict[str, Any]
    """Of the micro-batch in hand."""

    def losses(
        self, model: Any, examples: Sequence[Any], worth: Sequence[float]
    ) -> tuple[torch.Tensor, ...]:
        self.part = self._part(examples)
        with compat_accelerate.alone():
            loss = self._compute_loss(model, self.part)
        return (loss * sum(worth),)

    def _get_per_token_logps_and_entropies(self, *arguments: Any, **named: Any) -> Any:
        """There is one step for each rollout, so the ratio that TRL clips is 1. Its denominator is
        of the same pass: that of the rollout differs by rounding, which in bfloat16 adds up over an
        answer's tokens to more than the clip allows."""
        trl: Any = super()
        found = trl._get_per_token_logps_and_entropies(*arguments, **named)
        if torch.is_grad_enabled():
            logps = found[0].detach()
            self.part["old_logps"] = (logps * self.part["completion_mask"]).sum(1)
        return found
