"""What one of TRL's trainers does beside its steps: records, checkpoints, and when it stops."""

import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from trainers.processes import attempt
from trainers.specs.result import OutOfTime
from trainers.specs.training import TrainingSpec
from trainers.steps import distributed, sharding
from trainers.steps.records import Records
from trainers.training.exact_batches import ExactBatches


class Monitor(Records, TrainerCallback):
    """Writes a line per optimizer step, stops at the first sign of divergence, saves at times."""

    engine: ExactBatches

    def __init__(self, spec: TrainingSpec, folder: Path, deadline: float):
        super().__init__(spec, folder)
        self.deadline = deadline

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        state.global_step = self.progress.steps
        budget = self.start(*_parts(self.engine))
        if budget is not None:
            self.engine.budget.go_on_from(budget, self.progress.budgets)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The rate is that of this step: the scheduler is called before this."""
        now = time.monotonic()
        seconds, self.stepped = now - self.stepped, now
        progress, engine = self.progress, self.engine
        attempt.sign(f"step {progress.steps + 1} of {state.max_steps}")
        attempt.check()
        progress.budgets = engine.budget.shrunk
        learning_rate = self.spec.learning_rate * engine.settings.factor(state.global_step - 1)
        self.add(engine.taken, learning_rate, seconds, progress.steps + 1 == state.max_steps)
        if now > self.deadline:
            raise OutOfTime(f"over the time limit at step {progress.steps} of {state.max_steps}")
        if progress.steps == state.max_steps:
            return
        # the other ranks end with the first, which may still be writing
        stop = attempt.asked_to_stop() if distributed.is_first() else ""
        save = bool(stop) or self.is_time_to_save(now)
        if engine.sharded:  # all of them save, by the clock of the first
            save = sharding.first_says(save)
        if save:
            self.save(*_parts(engine), engine.budget.tokens)
            if stop:
                raise attempt.Stopped(f"{stop}, at step {progress.steps} of {state.max_steps}")


def _parts(engine: Any) -> tuple[Any, Any]:
    return engine.model, engine.optimizer
