"""What is written about a training while it runs, and when it is stopped or kept on disk."""

import json
import math
import time
from pathlib import Path
from typing import Any, TextIO

from torch.optim import Optimizer
from transformers import PreTrainedModel, TrainerCallback

from trainers import attempt
from trainers.specs.result import OutOfTime
from trainers.specs.training import TrainingSpec
from trainers.training import checkpoints
from trainers.training import state as resume
from trainers.training.exact_batches import Diverged, ExactBatches
from trainers.training.noise_scale import Measurement, estimates
from trainers.training.step import Step

SMOOTHING = 0.9
"""Weight of the past in the exponential mean of the loss, corrected for its start."""

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


class Monitor(TrainerCallback):
    """Writes a line per optimizer step, stops at the first sign of divergence, saves now and then.

    `folder` is where checkpoints lie; None on all ranks but the first.
    """

    engine: ExactBatches
    file: TextIO

    def __init__(self, spec: TrainingSpec, folder: Path | None, deadline: float):
        self.spec = spec
        self.folder = folder
        self.deadline = deadline
        self.progress = Progress()
        self._saved = self._stepped = time.monotonic()
        self._went_on_from: checkpoints.Checkpoint | None = None

    def go_on_from(self, checkpoint: checkpoints.Checkpoint) -> None:
        self._went_on_from = checkpoint
        self.progress.restore(checkpoint.state["progress"])

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        checkpoint, engine = self._went_on_from, self.engine
        if checkpoint is not None:
            state.global_step = checkpoint.step
            engine.budget = min(engine.budget, checkpoint.state["budget"])
            resume.restore(checkpoint.tensors, *_parts(engine))
        self._saved = self._stepped = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The rate is that of this step: the scheduler is called before this."""
        now = time.monotonic()
        seconds, self._stepped = now - self._stepped, now
        step, progress = self.engine.taken, self.progress
        learning_rate = self.spec.learning_rate * self.engine.settings.factor(state.global_step - 1)
        progress.add(step, learning_rate, seconds)
        progress.budgets = self.engine.shrunk
        attempt.sign(f"step {progress.steps} of {state.max_steps}")
        attempt.check()
        self.file.write(json.dumps(_line(progress, step, learning_rate)) + "\n")
        self.file.flush()
        self._check_start()
        if now > self.deadline:
            raise OutOfTime(f"over the time limit at step {progress.steps} of {state.max_steps}")
        stop = attempt.asked_to_stop()
        if progress.steps < state.max_steps and (stop or self._is_time_to_save(now)):
            self._save()
            if stop:
                raise attempt.Stopped(f"{stop}, at step {progress.steps} of {state.max_steps}")

    def _check_start(self) -> None:
        """
        Raises:
            Diverged: the smoothed loss has been far above its start for long enough.
        """
        progress, spec = self.progress, self.spec
        start = max(progress.first_loss, LOWEST_START)
        far = progress.smoothed_loss > spec.divergence_factor * start
        progress.above = progress.above + 1 if far else 0
        if progress.above >= spec.divergence_steps:
            raise Diverged(
                f"smoothed loss {progress.smoothed_loss:.3g} at step {progress.steps}, for "
                f"{progress.above} steps more than {spec.divergence_factor:g} times its start "
                f"{start:.3g}"
            )

    def _is_time_to_save(self, now: float) -> bool:
        every = self.spec.save_every_steps
        if every is not None:
            return self.progress.steps % every == 0
        return now - self._saved >= 60 * self.spec.save_every_minutes

    def _save(self) -> None:
        engine = self.engine
        if self.folder is not None:
            tensors = resume.tensors(*_parts(engine))
            state = {"progress": self.progress.state(), "budget": engine.budget}
            checkpoints.save(self.folder, self.progress.steps, tensors, state)
        self._saved = self._stepped = time.monotonic()  # the next step did not take this long


def _parts(engine: Any) -> tuple[PreTrainedModel, Optimizer]:
    return engine.model, engine.optimizer


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
