"""`search` and `decide`, each of which chooses the cells to run of the one swept stage."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainers.specs.fields import Count, Positive, Strict
from trainers.tasks.benchmarks import HELDOUT


class Search(Strict):
    """Run not every cell of the one swept stage but those that a sampler asks for."""

    method: Literal["optuna"]
    """The library that asks for cells."""
    sampler: Literal["gp", "tpe", "random"] = "gp"
    """Gaussian process, tree-structured Parzen estimator, or chance as the baseline."""
    trials: Count
    """Cells in all, earlier starts included; each runs with all its seeds."""
    objective: Annotated[str, Field(min_length=1)] = HELDOUT
    """Benchmark whose primary metric, a mean over seeds, is to be best."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of the sampler."""
    at_once: Count | None = None
    """Cells that run at once; as many as there is room for when empty."""


NO_PRIOR, PUBLISHED = "none", "published"
"""Of `decide.prior`, beside a run folder."""


class Fidelity(Strict):
    """Short runs first, of twice the cells of the start, with the same schedule and scored on the
    held-out slice alone where there is one. They say where the start lies, and enter no answer."""

    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of the full length, whatever that is given in."""
    tokens: Count | None = None
    """Tokens of a short run, instead, where the stage's length is in tokens."""

    @model_validator(mode="after")
    def _one_length(self):
        if (self.share is None) == (self.tokens is None):
            raise ValueError("give a share of the full length, or tokens")
        return self


class Decide(Strict):
    """Run not every cell of the one swept stage but those that tell most of what is asked, until it
    is answered: LR*(B), the ratio, and the contrast of task types."""

    trials: Annotated[int, Field(ge=9)] = 45
    """Trials at most, earlier starts included."""
    benchmarks: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    """Those that are asked about; when empty, all, without the held-out loss where there are
    others."""
    octaves: Positive = 3.0
    """Width of a 95 % interval that is narrow enough."""
    extend: bool = True
    """Cells up to two octaves of learning rate and one of batch size beyond a border of the grid
    may run where a best one may lie there."""
    at_once: Count | None = None
    """Trials that run at once; when empty a fifth of `trials`."""
    prior: Annotated[str, Field(min_length=1)] = NO_PRIOR
    """Where the first cells lie: `none` spreads them over the grid, `published` puts them about the
    published rates that `sweep.new` centres its axes on, a run folder about that run's best rates.
    The fit never sees it."""
    fidelity: Fidelity | None = None
    """Short runs that say where the first cells lie, in the place of a `prior`. What they say is
    dropped where the learning rates rank otherwise at full length."""

    @property
    def most_at_once(self) -> int:
        return self.at_once or max(self.trials // 5, 1)
