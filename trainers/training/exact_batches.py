"""Exact effective batches for a transformers Trainer.

One item of the data loader is one effective batch, on every rank the same. A training step takes it
apart: this rank's share, micro-batches within the token budget, each token weighed by what it is
worth in the whole batch. The sum of their gradients is the gradient of the batch, whatever the
hardware. Gradients are summed over ranks once, after the last micro-batch: so running out of memory
concerns one rank alone, and a rank without an example has nothing to do but take part.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from datasets import Dataset
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset
from transformers import Trainer

from trainers import attempt
from trainers.ops import batching
from trainers.ops.packed_attention import Example, rows
from trainers.training.noise_scale import Measurement, halve

SMALLEST_BUDGET = 64
"""Tokens; a step that does not fit with this does not fit."""


class Diverged(Exception):
    """The loss or the gradient of a step is not finite; the weights are those before the step."""


class Settings(NamedTuple):
    """How batches become steps."""

    order: batching.Order
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


class Step(NamedTuple):
    """What one optimizer step was made from, over all ranks."""

    loss: float
    grad_norm: float
    """Before clipping."""
    examples: int
    tokens: int
    loss_tokens: int
    noise: Measurement | None
    facts: dict[str, float]
    """Means over the batch of what the kind of training records beside the loss."""


class ExactBatches(Trainer):
    """To be mixed into a trainer whose `model(rows, weights)` is a weighted sum of losses.

    `collate`, `worth`, `share` and `losses` say what an example is and what it weighs; here it is a
    text whose tokens count.
    """

    FACTS: tuple[str, ...] = ()

    settings: Settings
    budget: int
    shrunk: list[int]
    """Budgets that turned out too large."""
    taken: Step
    """The latest step."""

    @cached_property
    def trained(self) -> list[torch.nn.Parameter]:
        model: Any = self.model
        return [parameter for parameter in model.parameters() if parameter.requires_grad]

    def set_batches(self, settings: Settings) -> None:
        self.settings, self.budget, self.shrunk = settings, settings.budget, []

    def get_train_dataloader(self) -> DataLoader:
        """Not prepared by accelerate: each rank sees the whole batch and takes its share."""
        rows: Any = self.train_dataset
        return DataLoader(
            _Batches(rows), sampler=_Steps(self.settings), batch_size=None, collate_fn=self.collate
        )

    @staticmethod
    def collate(rows: list[dict[str, Any]]) -> list[Any]:
        """Rows of the data set -> examples with `length`, `tokens` and `loss_tokens`."""
        return [Example(row["input_ids"], row["labels"]) for row in rows]

    def worth(self, examples: Sequence[Any]) -> list[float]:
        """What a unit of each example (here a token that counts) weighs in its batch's loss."""
        return batching.weights([one.loss_tokens for one in examples], self.settings.loss)

    def share(self, worth: Sequence[float], examples: Sequence[Any], places: list[int]) -> float:
        """What the examples at `places` weigh together; all of them weigh 1."""
        return sum(worth[place] * examples[place].loss_tokens for place in places)

    def losses(
        self, model: Any, examples: Sequence[Any], worth: Sequence[float]
    ) -> tuple[torch.Tensor, ...]:
        """The weighted loss of a micro-batch, with its gradient, and its share of each fact."""
        device = self.args.device
        one = rows(examples, self.settings.packed, device)
        return (model(one, torch.tensor(worth, device=device)[one.owners]),)

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
        worth = self.worth(examples)
        groups = self._groups(len(examples))
        totals = torch.zeros(1 + len(self.FACTS), device=self.args.device)
        done: list[int] = []
        half_norm = math.nan
        for group in groups:
            mine = self._share(group, examples)
            totals = self._add(model, examples, worth, mine, done, totals)
            done += mine
            if group is not groups[-1]:
                half_norm = self._norm_over_ranks() / self.share(worth, examples, group)
        self._sum_over_ranks(totals)
        loss, *facts = totals
        norm = _norm(self.trained)
        self.taken = Step(
            loss=float(loss),
            grad_norm=float(norm),
            examples=len(examples),
            tokens=sum(example.tokens for example in examples),
            loss_tokens=sum(example.loss_tokens for example in examples),
            noise=None,
            facts=dict(zip(self.FACTS, map(float, facts), strict=True)),
        )
        if len(groups) > 1:
            squares = self.taken.grad_norm**2, half_norm**2
            noise = Measurement(len(examples), len(groups[0]), *squares)
            self.taken = self.taken._replace(noise=noise)
        self._check(self.taken)
        limit = self.settings.max_grad_norm
        if 0 < limit < self.taken.grad_norm:
            torch.nn.utils.clip_grads_with_norm_(self.trained, limit, norm)
        return loss

    def _check(self, step: Step) -> None:
        number = self.state.global_step + 1
        if not math.isfinite(step.loss):
            raise Diverged(f"loss {step.loss} at step {number}")
        if not math.isfinite(step.grad_norm):
            raise Diverged(f"gradient norm {step.grad_norm} at step {number}")

    def _groups(self, examples: int) -> list[list[int]]:
        """The whole batch, or two random halves of it where the noise scale is measured."""
        every, step = self.settings.noise_scale_every, self.state.global_step
        if not every or step % every or examples < 2:
            return [list(range(examples))]
        return list(halve(examples, self.settings.order.seed, step))

    def _share(self, group: list[int], examples: Sequence[Any]) -> list[int]:
        found = batching.shares([examples[place].length for place in group], self.args.world_size)
        return [group[place] for place in found[self.args.process_index]]

    def _add(
        self,
        model: Any,
        examples: Sequence[Any],
        worth: Sequence[float],
        new: list[int],
        done: list[int],
        totals: torch.Tensor,
    ) -> torch.Tensor:
        """Add the gradients of the examples `new` to those of `done`; returns the loss and facts of
        both.

        Where memory runs out the budget is halved and all is done again: the batch never changes.
        """
        while True:
            parts = batching.micro_batches(
                [examples[place].length for place in new], self.budget, not self.settings.packed
            )
            total = totals
            try:
                for part in parts:
                    attempt.sign("training")
                    places = [new[place] for place in part]
                    total = total + self._backward(model, examples, worth, places)
                return total
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error) or self.budget // 2 < SMALLEST_BUDGET:
                    raise
            # Not in the handler: the error holds on to the tensors of the failed pass.
            self.shrunk.append(self.budget)
            self.budget //= 2
            model.zero_grad()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            new, done, totals = done + new, [], torch.zeros_like(totals)

    def _backward(
        self,
        model: Any,
        examples: Sequence[Any],
        worth: Sequence[float],
        places: list[int],
    ) -> torch.Tensor:
        some = [examples[place] for place in places]
        with self.accelerator.no_sync(model):
            loss, *facts = self.losses(model, some, [worth[place] for place in places])
            self.accelerator.backward(loss)
        return torch.stack([loss.detach(), *facts])

    def _norm_over_ranks(self) -> float:
        """Of the gradients so far, which stay as they are."""
        if self.args.world_size == 1:
            return float(_norm(self.trained))
        norms = []
        for parameter in self.trained:
            gradient = parameter.grad
            whole = torch.zeros_like(parameter) if gradient is None else gradient.clone()
            dist.all_reduce(whole)
            norms.append(torch.linalg.vector_norm(whole))
        return float(torch.linalg.vector_norm(torch.stack(norms)))

    def _sum_over_ranks(self, loss: torch.Tensor) -> None:
        if self.args.world_size == 1:
            return
        at_work: list[Any] = [dist.all_reduce(loss, async_op=True)]
        for parameter in self.trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            at_work.append(dist.all_reduce(parameter.grad, async_op=True))
        for one in at_work:
            one.wait()

    def _clip_grad_norm(self, model: Any) -> float:
        return self.taken.grad_norm  # already clipped

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> float:
        return self.taken.grad_norm

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # the records count tokens


class _Batches(TorchDataset[list[dict[str, Any]]]):
    """The rows of a whole step at once, straight from Arrow: lists of numbers as int64 tensors, all
    else as Python has it; quicker than the torch format of datasets, where rows are short."""

    def __init__(self, rows: Dataset):
        self._rows = rows.with_format("arrow")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, places: Any) -> list[dict[str, Any]]:
        table: Any = self._rows[places]
        columns = [_values(column.combine_chunks()) for column in table.columns]
        names = table.column_names
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(column: pa.Array) -> Sequence[Any]:
    if not isinstance(column, pa.ListArray):
        return column.to_pylist()
    numbers = column.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    return torch.from_numpy(numbers).split(column.value_lengths().to_pylist())


class _Steps(Sampler[list[int]]):
    """The examples of every step still to be taken."""

    def __init__(self, settings: Settings):
        self.settings = settings

    def __len__(self) -> int:
        return self.settings.steps  # of the whole training, as Trainer counts

    def __iter__(self) -> Iterator[list[int]]:
        return self.settings.order.batches(self.settings.first_step, self.settings.steps)


def _norm(parameters: Sequence[torch.nn.Parameter]) -> torch.Tensor:
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out, on a GPU or on the host."""
    told = ("not enough memory", "DefaultCPUAllocator", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        part in str(error) for part in told
    )
