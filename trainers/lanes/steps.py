"""The steps of a pass: one gradient of all lanes, a step of each lane, and its records."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, Protocol

import torch
from transformers import PreTrainedModel

from trainers.lanes import modules
from trainers.lanes.lane import Lane
from trainers.lanes.stack import Stack
from trainers.processes import attempt
from trainers.specs.result import OutOfTime
from trainers.steps.batch_loader import BatchLoader
from trainers.steps.noise_scale import Measurement, groups
from trainers.steps.step import Diverged, Step, step
from trainers.steps.token_budget import TokenBudget, add_gradients


class Kind(Protocol):
    """What a kind of training brings: as in `ExactBatches`, but for all lanes at once."""

    @property
    def facts(self) -> tuple[str, ...]: ...

    @staticmethod
    def collate(rows: list[dict[str, Any]]) -> list[Any]: ...

    def worth(self, examples: Sequence[Any]) -> list[float]: ...

    def share(
        self, worth: Sequence[float], examples: Sequence[Any], places: list[int]
    ) -> float: ...

    def losses(
        self, laned: PreTrainedModel, lanes: int, examples: Sequence[Any], worth: Sequence[float]
    ) -> tuple[torch.Tensor, ...]:
        """The weighted loss of a micro-batch, with its gradient, and its share of each fact, each
        (lanes,)."""
        ...


class Setting(NamedTuple):
    """What all lanes of a pass have in common."""

    steps: int
    seed: int
    noise_scale_every: int
    packed: bool
    bfloat16: bool
    deadline: float


class Pass:
    """Lanes that are trained together; `end` is told how a lane has ended, at once."""

    def __init__(
        self,
        setting: Setting,
        kind: Kind,
        lanes: Sequence[Lane],
        stack: Stack,
        laned: PreTrainedModel,
        with_lanes: Callable[[Stack], PreTrainedModel],
        loader: BatchLoader,
        budget: TokenBudget,
        end: Callable[[Lane, str], None],
    ):
        self.setting, self.kind, self.lanes = setting, kind, lanes
        self.stack, self.laned, self._with_lanes = stack, laned, with_lanes
        self.loader, self.budget = loader, budget
        self._end = end
        self._stepped = 0.0

    @property
    def live(self) -> list[Lane]:
        return [lane for lane in self.lanes if lane.end is None]

    def run(self, first: int) -> None:
        """All steps from `first` on, counted from 0."""
        with ExitStack() as files:
            for lane in self.lanes:
                lane.alone(lambda lane=lane: files.enter_context(lane.records.open()))
            for lane in self.live:
                lane.alone(lambda lane=lane: self._restore(lane))
            self.laned.train()
            self._stepped = time.monotonic()
            for number, examples in enumerate(self.loader, start=first):
                self._step(examples, number)
                self._record(number + 1)
                if not self.live:
                    return
                self._narrow()
            for lane in self.live:
                self._end(lane, "")

    def _restore(self, lane: Lane) -> None:
        budget = lane.records.start(lane.model, lane.optimizer)
        if budget is not None:
            self.budget.go_on_from(budget, lane.records.progress.budgets)

    def _narrow(self) -> None:
        """Leave out the rows behind the last live lane, on a CPU: there a batched product gives the
        same bits for any number of matrices, and the others cost time. A GPU may choose another
        kernel, and where lanes pay it waits for the host, so that it loses little by them."""
        rows = 1 + max(lane.row for lane in self.live)
        if rows < self.stack.lanes and self.stack.weights.device.type == "cpu":
            self.stack = self.stack.first(rows)
            self.laned = self._with_lanes(self.stack).train()

    def _step(self, examples: Sequence[Any], number: int) -> None:
        """One step of each lane on the same batch."""
        stack, kind, setting = self.stack, self.kind, self.setting
        stack.round()
        stack.zero()
        worth = kind.worth(examples)
        lengths = [example.length for example in examples]
        parts = groups(len(examples), setting.noise_scale_every, setting.seed, number)
        totals = torch.zeros(stack.lanes, 1 + len(kind.facts), device=stack.weights.device)
        done: list[int] = []
        half_norms = []
        for group in parts:
            totals = add_gradients(
                self.budget,
                lengths,
                not setting.packed,
                group,
                done,
                totals,
                lambda places: self._backward(examples, worth, places),
                self._start_anew,
            )
            done = done + group
            if group is not parts[-1]:
                half_norms.append(stack.norms())
        norms = torch.stack([stack.norms(), *half_norms], dim=1)
        self.loader.prefetch()
        numbers = torch.cat([totals, norms], dim=1).cpu().tolist()
        self.budget.grow()
        half_share = kind.share(worth, examples, parts[0])
        for lane in self.live:
            taken = self._taken(examples, numbers[lane.row], len(parts[0]), half_share)
            try:
                lane.move(taken, number)
            except Diverged as error:
                self._end(lane, str(error))

    def _start_anew(self) -> None:
        modules.forget(self.laned)
        self.stack.zero()

    def _backward(
        self, examples: Sequence[Any], worth: Sequence[float], places: list[int]
    ) -> torch.Tensor:
        """Add the gradients of the examples at `places`; returns losses and facts of the lanes."""
        device = self.stack.weights.device.type
        some = [examples[place] for place in places]
        with torch.autocast(device, torch.bfloat16, enabled=self.setting.bfloat16):
            losses, *facts = self.kind.losses(
                self.laned, self.stack.lanes, some, [worth[place] for place in places]
            )
        losses.backward(torch.ones_like(losses))  # no sum: one lane's nan would be all lanes'
        return torch.stack([losses.detach(), *facts], dim=1)

    def _taken(
        self, examples: Sequence[Any], numbers: list[float], half: int, half_share: float
    ) -> Step:
        """A lane's step from what the host has read of it; `half` examples of the batch were
        measured by themselves."""
        facts = dict(zip(self.kind.facts, numbers[1:], strict=False))
        grad_norm, *half_norms = numbers[1 + len(facts) :]
        noise = None
        if half_norms:
            square = (half_norms[0] / half_share) ** 2
            noise = Measurement(len(examples), half, grad_norm**2, square)
        return step(examples, numbers[0], grad_norm, noise, facts)

    def _record(self, steps: int) -> None:
        """After `steps` steps: lines, checkpoints, and whether to go on."""
        now = time.monotonic()
        seconds, self._stepped = now - self._stepped, now
        at = f"step {steps} of {self.setting.steps}"
        attempt.sign(at)
        attempt.check()
        for lane in self.live:
            try:
                lane.record(seconds, self.budget.shrunk)
            except Diverged as error:
                self._end(lane, str(error))
        if now > self.setting.deadline:
            raise OutOfTime(f"over the time limit at {at}")
        stop = attempt.asked_to_stop()
        live = self.live
        if live and steps < self.setting.steps and (stop or live[0].records.is_time_to_save(now)):
            for lane in live:
                lane.save(self.budget.tokens, self.budget.lanes)
            self._stepped = time.monotonic()  # the next step did not take this long
            live[0].records.took = self._stepped - now  # of all lanes, by whose clock they save
            if stop:
                raise attempt.Stopped(f"{stop}, at {at}")
