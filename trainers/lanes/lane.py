"""One training of a pass: its optimizer, its rates, its records."""

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedModel

from trainers.lanes import row_optimizer
from trainers.lanes.stack import Stack
from trainers.processes import attempt
from trainers.processes.attempt import Superseded
from trainers.specs.result import StageResult
from trainers.specs.training import TrainingSpec
from trainers.steps import schedule
from trainers.steps.records import Records
from trainers.steps.step import Step

OWN_ENDS = (Superseded, OSError)
"""What ends one lane alone: its folder is another attempt's, or cannot be written to."""


class Lane:
    """The training of `spec`, the caller's number `number`, on row `row` of the stack, which is the
    weights of `model`."""

    taken: Step
    """The latest step."""

    def __init__(
        self,
        number: int,
        row: int,
        spec: TrainingSpec,
        course: schedule.Course,
        folder: Path,
        stack: Stack,
        model: PreTrainedModel,
    ):
        self.number, self.row = number, row
        self.spec, self.course, self.folder = spec, course, folder
        self.model = model
        self.optimizer = row_optimizer.optimizer(spec, course.adam_beta2, stack, row, model)
        self.records = Records(spec, folder)
        self.end: StageResult | Exception | None = None
        """None while it is trained."""
        self._gradients = stack.gradients[row]

    def alone(self, work: Callable[[], None]) -> None:
        """Do what concerns this lane's own files; it ends where that fails, and no other does."""
        try:
            with attempt.of(self.folder):
                work()
        except OWN_ENDS as error:
            self.end = error

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self.spec.learning_rate * schedule.factor(self.spec.schedule, self.course, step)

    @torch.no_grad()
    def move(self, step: Step, number: int) -> None:
        """Take an optimizer step along the gradients, clipped; `number` counts steps from 0.

        Raises:
            Diverged: the loss or the gradient is not finite; the weights are as they were.
        """
        step.check(number + 1)
        limit = self.spec.max_grad_norm
        if 0 < limit < step.grad_norm:
            self._gradients *= limit / (step.grad_norm + 1e-6)  # as torch clips
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(number)
        self.optimizer.step()
        self.taken = step

    def record(self, seconds: float, budgets: list[int]) -> None:
        """Write the line of the latest step; `budgets` turned out too large.

        Raises:
            Diverged: the smoothed loss has been far above its start for long enough, or is so
                after the last step.
        """
        progress = self.records.progress
        progress.budgets = budgets
        rate, last = self.rate(progress.steps), progress.steps + 1 == self.course.steps
        self.alone(lambda: self.records.add(self.taken, rate, seconds, last))

    def save(self, budget: int, lanes: int) -> None:
        """Leave a checkpoint, with the number of lanes that share the budget."""
        self.alone(lambda: self.records.save(self.model, self.optimizer, budget, lanes=lanes))
