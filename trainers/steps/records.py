"""What is written about a training: its lines, its sums, its checkpoints, its figures."""

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from transformers import PreTrainedModel

from trainers.data.prepare import Prepared
from trainers.specs.training import TrainingSpec
from trainers.steps import checkpoints, distributed
from trainers.steps import state as resume
from trainers.steps.noise_scale import Measurement, estimates, noise_scale
from trainers.steps.schedule import Course
from trainers.steps.step import Diverged, Step

METRICS, CHECKPOINTS = "metrics.jsonl", "checkpoints"

SMOOTHING = 0.9
"""Weight of the past in the exponential mean of the loss, corrected for its start."""

MOST_OF_TIME = 0.05
"""Share of a training that writing checkpoints takes at most: those of large models are rarer."""

LOWEST_START = 1.0
"""Nats a token. A first batch of one easy example is no measure of a loss far above its start."""


class Progress:
    """All that is summed up over the steps; plain numbers, so that it can be saved and restored."""

    def __init__(self) -> None:
        self.steps = self.examples = self.tokens = self.loss_tokens = 0
        self.learning_rate_sum = self.seconds = 0.0
        self.first_loss = self.loss = self.smoothed_loss = self.best_loss = math.nan
        self.mean = 0.0
        self.fact_means: dict[str, float] = {}
        """As `mean`, of what the kind of training records beside the loss."""
        self.above = 0
        """Steps in a row with a smoothed loss far above its start."""
        self.budgets: list[int] = []
        """Token budgets that were too large for the memory."""
        self.noise: list[Measurement] = []
        self.noise_seconds = self.noise_tokens = 0.0
        """Of the steps in which the noise scale was measured, without the first step."""
        self.plain_seconds = self.plain_tokens = 0.0
        """Of the other ones."""

    def add(self, step: Step, learning_rate: float, seconds: float) -> None:
        self.steps += 1
        self.seconds += seconds
        self.examples += step.examples
        self.tokens += step.tokens
        self.loss_tokens += step.loss_tokens
        self.learning_rate_sum += learning_rate
        self.loss = step.loss
        self.mean = SMOOTHING * self.mean + (1 - SMOOTHING) * step.loss
        self.smoothed_loss = self.mean / (1 - SMOOTHING**self.steps)
        for name, value in step.facts.items():
            past = self.fact_means.get(name, 0.0)
            self.fact_means[name] = SMOOTHING * past + (1 - SMOOTHING) * value
        if self.steps == 1:
            self.first_loss = self.best_loss = step.loss
        self.best_loss = min(self.best_loss, self.smoothed_loss)
        if step.noise is not None:
            self.noise.append(step.noise)
        if self.steps > 1:  # the first one is slower for other reasons
            kind = "plain" if step.noise is None else "noise"
            setattr(self, f"{kind}_seconds", getattr(self, f"{kind}_seconds") + seconds)
            setattr(self, f"{kind}_tokens", getattr(self, f"{kind}_tokens") + step.tokens)

    @property
    def smoothed_facts(self) -> dict[str, float]:
        weight = 1 - SMOOTHING**self.steps
        return {name: mean / weight for name, mean in self.fact_means.items()}

    @property
    def noise_cost(self) -> float | None:
        """Share of the time that measuring the noise scale took: what the measured steps needed
        beyond the others' time for as many tokens."""
        if not (self.noise_tokens and self.plain_tokens):
            return None
        extra = self.noise_seconds - self.noise_tokens * self.plain_seconds / self.plain_tokens
        return max(extra, 0.0) / (self.noise_seconds + self.plain_seconds)

    def state(self) -> dict[str, Any]:
        return vars(self)

    def restore(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.noise = [Measurement(*measurement) for measurement in state["noise"]]


class Records:
    """The records of one training while it runs.

    `folder` is the trial's; only the first rank writes there.
    """

    file: TextIO

    def __init__(self, spec: TrainingSpec, folder: Path):
        self.spec = spec
        self.folder = folder
        self.progress = Progress()
        self.compiled: bool | None = None
        """Whether the layers are compiled; of a training that goes on at first as they were."""
        self.saved = self.stepped = time.monotonic()
        self.took = 0.0
        """Seconds of the newest checkpoint."""
        self._went_on_from: checkpoints.Checkpoint | None = None

    def go_on_from(self, checkpoint: checkpoints.Checkpoint) -> None:
        self._went_on_from = checkpoint
        self.progress.restore(checkpoint.state["progress"])
        self.compiled = checkpoint.state.get("compiled")

    @contextmanager
    def open(self) -> Iterator[None]:
        """Open metrics.jsonl, with the lines of the steps that stand."""
        first = distributed.is_first()
        path = self.folder / METRICS if first else Path(os.devnull)
        if first:
            resume.cut(path, self.progress.steps)
        with open(path, "a", encoding="utf-8") as self.file:
            yield

    def start(self, model: PreTrainedModel, optimizer: resume.HasState) -> int | None:
        """Begin to measure time. Put back what the checkpoint holds that the training goes on
        from; returns the token budget that it ended with, None where there is no checkpoint."""
        checkpoint, self._went_on_from = self._went_on_from, None
        if checkpoint is not None:
            resume.restore(checkpoint.tensors, model, optimizer)
        self.saved = self.stepped = time.monotonic()
        return None if checkpoint is None else checkpoint.state["budget"]

    def add(self, step: Step, learning_rate: float, seconds: float, last: bool) -> None:
        """Write the line of a step.

        Raises:
            Diverged: the smoothed loss has been far above its start for long enough, or is so after
                the `last` step of the training.
        """
        self.progress.add(step, learning_rate, seconds)
        self.file.write(json.dumps(_line(self.progress, step, learning_rate)) + "\n")
        self.file.flush()
        self._check_start(last)

    def _check_start(self, last: bool) -> None:
        progress, spec = self.progress, self.spec
        start = max(progress.first_loss, LOWEST_START)
        limit = spec.divergence_factor * start
        far = progress.smoothed_loss > limit
        progress.above = progress.above + 1 if far else 0
        if progress.above >= spec.divergence_steps or (last and far and progress.loss > limit):
            how_long = "the last," if last else f"for {progress.above} steps"
            raise Diverged(
                f"smoothed loss {progress.smoothed_loss:.3g} at step {progress.steps}, {how_long} "
                f"more than {spec.divergence_factor:g} times its start {start:.3g}"
            )

    def is_time_to_save(self, now: float) -> bool:
        every = self.spec.save_every_steps
        if every is not None:
            return self.progress.steps % every == 0
        pause = max(60 * self.spec.save_every_minutes, self.took / MOST_OF_TIME)
        return now - self.saved >= pause

    def save(
        self, model: PreTrainedModel, optimizer: resume.HasState, budget: int, **facts: int
    ) -> None:
        """Leave a checkpoint; `facts` are what else its state has."""
        began = time.monotonic()
        tensors = resume.tensors(model, optimizer)  # of sharded weights every rank has a part
        if distributed.is_first():
            state = {"progress": self.progress.state(), "budget": budget, **facts}
            state["compiled"] = self.compiled
            checkpoints.save(self.folder / CHECKPOINTS, self.progress.steps, tensors, state)
        self.saved = self.stepped = time.monotonic()  # the next step did not take this long
        self.took = self.saved - began


def _line(progress: Progress, step: Step, learning_rate: float) -> dict[str, Any]:
    line = {
        "step": progress.steps,
        "loss": step.loss,
        "smoothed_loss": progress.smoothed_loss,
        "learning_rate": learning_rate,
        "grad_norm": step.grad_norm,
        "tokens": progress.tokens,
        "loss_tokens": progress.loss_tokens,
        "seconds": round(progress.seconds, 3),
        **step.facts,
    }
    if step.noise is not None:
        square, trace = estimates(step.noise)
        line |= {"gradient_square": square, "gradient_trace": trace}
    return line


def figures(
    progress: Progress, spec: TrainingSpec, course: Course, data: Prepared
) -> dict[str, Any]:
    """What a training's record says of its course."""
    noise = noise_scale(progress.noise)
    per_example = progress.tokens / progress.examples if progress.examples else 0.0
    return {
        "steps": progress.steps,
        "examples": progress.examples,
        "tokens": progress.tokens,
        "loss_tokens": progress.loss_tokens,
        "learning_rate_sum": progress.learning_rate_sum,
        "train_seconds": progress.seconds,
        "first_loss": _finite(progress.first_loss),
        "final_loss": _finite(progress.loss),
        "best_loss": _finite(progress.best_loss),
        "smoothed_loss": _finite(progress.smoothed_loss),
        "noise_scale": noise.value,
        "noise_scale_low": noise.low,
        "noise_scale_high": noise.high,
        "noise_scale_tokens": None if noise.value is None else noise.value * per_example,
        "noise_scale_measurements": noise.measurements,
        "noise_scale_cost": progress.noise_cost,
        "budgets_too_large": progress.budgets,
        **{name: _finite(mean) for name, mean in progress.smoothed_facts.items()},
        "epochs": progress.examples / spec.examples_per_row / len(data.train),
        "warmup_steps": course.warmup_steps,
        "adam_beta2": course.adam_beta2 if spec.has_adam else None,
        **{f"data_{name}": number for name, number in data.counts.items()},
    }


def _finite(value: float) -> float | None:
    """JSON has no nan; a record's reason says what happened."""
    return value if math.isfinite(value) else None
