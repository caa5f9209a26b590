"""Exact effective batches for a transformers Trainer.

One item of the data loader is one effective batch, on every rank the same. A training step takes it
apart: this rank's share, micro-batches within the token budget, each token weighed by what it is
worth in the whole batch. The sum of their gradients is the gradient of the batch, whatever the
hardware. Gradients are summed over ranks once, after the last micro-batch: so running out of memory
concerns one rank alone, and a rank without an example has nothing to do but take part. Ranks that
share the weights (sharding.py) sum them in each micro-batch, of which all make as many.
"""

from collections.abc import Callable, Collection, Sequence
from functools import cached_property, partial
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import Trainer

from trainers.ops import batching
from trainers.ops.packed_attention import Example, rows, to_device
from trainers.specs.conditions import Sharding
from trainers.steps import gradients, optimizers, sharding
from trainers.steps.batch_loader import BatchLoader
from trainers.steps.noise_scale import Measurement, groups
from trainers.steps.step import Step, step
from trainers.steps.token_budget import TokenBudget, add_gradients, add_together


class Settings(NamedTuple):
    """How batches become steps."""

    order: batching.Order
    optimizer: Callable[[Any, Collection[str]], torch.optim.Optimizer]
    """Of a model and the names of its weights that decay."""
    factor: Callable[[int], float]
    """Share of the peak learning rate, by the step from 0."""
    steps: int
    first_step: int
    """0, or where a killed training is taken up again."""
    budget: int
    """Tokens of a micro-batch."""
    packed: bool
    loss: str
    max_grad_norm: float
    noise_scale_every: int
    """Steps from one measurement to the next; 0 for none."""
    sharding: Sharding = "none"
    """What ranks share; all of them have the same budget then."""


class ExactBatches(Trainer):
    """Mixed into a trainer whose `model(rows, weights)` is a weighted sum of losses.

    `collate`, `worth`, `share` and `losses` say what an example is and what it weighs; here it is a
    text whose tokens count.
    """

    FACTS: tuple[str, ...] = ()

    settings: Settings
    budget: TokenBudget
    taken: Step
    """The latest step."""
    loader: BatchLoader | None = None

    @cached_property
    def trained(self) -> list[torch.nn.Parameter]:
        model: Any = self.model
        return [parameter for parameter in model.parameters() if parameter.requires_grad]

    @property
    def sharded(self) -> bool:
        return self.settings.sharding != "none"

    def set_batches(self, settings: Settings) -> None:
        self.settings, self.budget = settings, TokenBudget(settings.budget)
        assert self.trained, "looked up now, while sharded weights are in parts"

    def create_accelerator_and_postprocess(self) -> None:
        """Without DistributedDataParallel, whose buckets hold every gradient a second time: ranks
        start from the same weights, and `gradients.sum_over_ranks` is all that they exchange."""
        super().create_accelerator_and_postprocess()
        accelerator: Any = self.accelerator
        accelerator.prepare_model = partial(accelerator.prepare_model, evaluation_mode=True)

    def _move_model_to_device(self, model: Any, device: Any) -> None:
        """It lies where it is to be trained, or comes there in parts (sharding.py)."""

    def get_train_dataloader(self) -> DataLoader:
        """Not prepared by accelerate: each rank sees the whole batch and takes its share."""
        rows: Any = self.train_dataset
        settings = self.settings
        self.loader = BatchLoader(
            rows, self.collate, settings.order, settings.first_step, settings.steps
        )
        return self.loader

    @staticmethod
    def collate(rows: list[dict[str, Any]]) -> list[Any]:
        """Rows of the data set -> examples with `length`, `tokens` and `loss_tokens`."""
        return [Example(row["input_ids"], row["labels"]) for row in rows]

    def worth(self, examples: Sequence[Any]) -> list[float]:
        """What a unit of each example (here a token that counts) weighs in its batch's loss."""
        return batching.weights([example.loss_tokens for example in examples], self.settings.loss)

    @staticmethod
    def share(worth: Sequence[float], examples: Sequence[Any], places: list[int]) -> float:
        """What the examples at `places` weigh together; all of them weigh 1."""
        return sum(worth[place] * examples[place].loss_tokens for place in places)

    def losses(
        self, model: Any, examples: Sequence[Any], worth: Sequence[float]
    ) -> tuple[torch.Tensor, ...]:
        """The weighted loss of a micro-batch, with its gradient, and its share of each fact."""
        device = self.args.device
        row = rows(examples, self.settings.packed, device)
        (weights,) = to_device([torch.tensor(worth)], device)
        return (model(row, weights[row.owners]),)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            model = self.model if model is None else model
            self.optimizer = self.settings.optimizer(model, optimizers.decaying(model))
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        optimizer = self.optimizer if optimizer is None else optimizer
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.lr_scheduler = LambdaLR(
            optimizer, self.settings.factor, last_epoch=self.settings.first_step - 1
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def training_step(
        self, model: Any, inputs: Any, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Leave the gradient of the batch `inputs`, a list of examples, clipped, in the weights.

        Raises:
            Diverged: the loss or the gradient is not finite.
        """
        if not model.training:
            model.train()
        examples: list[Any] = inputs
        # dropout draws by seed and step alone, so that a training that goes on draws the same
        drawn = [self.args.seed, self.state.global_step, self.args.process_index]
        torch.manual_seed(int(np.random.SeedSequence(drawn).generate_state(1)[0]))
        worth = self.worth(examples)
        parts = groups(
            len(examples),
            self.settings.noise_scale_every,
            self.settings.order.seed,
            self.state.global_step,
        )
        totals = torch.zeros(1 + len(self.FACTS), device=self.args.device)
        done: list[int] = []
        half_norms = []
        for group in parts:
            shares = self._shares(group, examples)
            totals = self._add(model, examples, worth, shares, done, totals)
            done += shares[self.args.process_index]
            if group is not parts[-1]:
                half_norms.append(self._norm_so_far())
        if self.args.world_size > 1:
            totals = gradients.total_over_ranks(totals)
        if self.sharded:
            sharding.let_go(model)
        elif self.args.world_size > 1:
            gradients.sum_over_ranks(self.trained)
        norm = gradients.norm(self.trained)
        self.taken = self._read(examples, totals, norm, half_norms, parts[0], worth)
        self.taken.check(self.state.global_step + 1)
        self.budget.grow()
        limit = self.settings.max_grad_norm
        if 0 < limit < self.taken.grad_norm:
            torch.nn.utils.clip_grads_with_norm_(self.trained, limit, norm)
        return totals[0]

    def _read(
        self,
        examples: Sequence[Any],
        totals: torch.Tensor,
        norm: torch.Tensor,
        half_norms: list[torch.Tensor],
        half_group: list[int],
        worth: Sequence[float],
    ) -> Step:
        """All that the host learns of a step, in the one synchronisation of that step; the next
        batch is read first, while the device is at work."""
        if self.loader is not None:
            self.loader.prefetch()
        numbers = torch.cat([totals, norm[None], *(half[None] for half in half_norms)])
        numbers = numbers.cpu().tolist()
        loss, *facts = numbers[: len(totals)]
        grad_norm, *half = numbers[len(totals) :]
        noise = None
        if half:
            half_norm = half[0] / self.share(worth, examples, half_group)
            noise = Measurement(len(examples), len(half_group), grad_norm**2, half_norm**2)
        return step(examples, loss, grad_norm, noise, dict(zip(self.FACTS, facts, strict=True)))

    def _shares(self, group: list[int], examples: Sequence[Any]) -> list[list[int]]:
        """The examples of `group` that each rank takes."""
        shares = batching.shares([examples[place].length for place in group], self.args.world_size)
        return [[group[place] for place in share] for share in shares]

    def _norm_so_far(self) -> torch.Tensor:
        if self.args.world_size == 1 or self.sharded:
            return gradients.norm(self.trained)
        return gradients.norm_over_ranks(self.trained)

    def _add(
        self,
        model: Any,
        examples: Sequence[Any],
        worth: Sequence[float],
        shares: list[list[int]],
        done: list[int],
        totals: torch.Tensor,
    ) -> torch.Tensor:
        """Add the gradients of the examples of this rank's share to those of `done`; returns the
        loss and facts of both."""
        rank, padded = self.args.process_index, not self.settings.packed
        lengths = [example.length for example in examples]
        backward = partial(self._backward, model, examples, worth)
        if self.sharded:
            return add_together(self.budget, lengths, padded, shares, rank, totals, backward)
        return add_gradients(
            self.budget, lengths, padded, shares[rank], done, totals, backward, model.zero_grad
        )

    def _backward(
        self,
        model: Any,
        examples: Sequence[Any],
        worth: Sequence[float],
        places: list[int],
    ) -> torch.Tensor:
        """Without examples, a pass of the shortest one that weighs nothing."""
        some = [examples[place] for place in places] or [min(examples, key=attrgetter("length"))]
        weights = [worth[place] for place in places] or [0.0]
        with self.accelerator.no_sync(model):
            loss, *facts = self.losses(model, some, weights)
            self.accelerator.backward(loss)
        return torch.stack([loss.detach(), *facts])

    def _clip_grad_norm(self, model: Any) -> float:
        return self.taken.grad_norm  # already clipped

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> float:
        return self.taken.grad_norm

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # the records count tokens
