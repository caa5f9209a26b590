"""What a stage hands back: how its training ended, and the scores of its model."""

from typing import Any, Literal, NamedTuple


class Score(NamedTuple):
    """One metric of one benchmark. `n` counts items; `stderr` is the standard error of `value`
    over items."""

    metric: str
    value: float
    stderr: float | None
    n: int
    primary: bool
    higher_is_better: bool


class OutOfTime(Exception):
    """A trial has passed its time limit; trying again under the same limit has no point."""


class BudgetTooLarge(Exception):
    """Memory ran out in a micro-batch, and processes that wait for each other cannot try a smaller
    one: they have to start again, with half the token budget."""


class StageResult(NamedTuple):
    """How a training ended. `figures` go into train.json as they are."""

    status: Literal["ok", "diverged"]
    reason: str
    figures: dict[str, Any]
    model: Any = None
    """What was trained, where it is another object than the model that the stage was given."""
