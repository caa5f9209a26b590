"""What one start of the command may still begin under `limits:`, and when running trials stop.

`limits.max_cost` counts the whole run, earlier starts included. A trial begins where it and those
that were handed out are expected to end within it: what they cost by the plan, times what ended
trials have cost beside their plan; without a plan, what ended trials have cost. When the limit is
reached all the same, running trials stop at their next step, so a plan that is wrong costs at most
a part of a trial more.
"""

import math
import time
from collections.abc import Callable, Collection, Mapping

from sweep.gridfile.keys.schema import Grid
from sweep.plan.trials import Trial
from sweep.schedule.spending import Spending

SLACK = 1e-9
"""Of rounding, in a sum of costs."""


class Sums:
    """Of what trials have cost, and of what that is measured by: their number, or their plan."""

    def __init__(self) -> None:
        self._by = self._cost = 0.0

    def add(self, by: float, cost: float) -> None:
        self._by += by
        self._cost += cost

    def ratio(self, of_none: float) -> float:
        return self._cost / self._by if self._by else of_none


class Allowance:
    """The limits of one start of the command; told by the orchestrator what runs."""

    def __init__(
        self,
        grid: Grid,
        spending: Spending,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._limits = grid.limits
        self._currency = grid.price.currency
        self._spending = spending
        self._expected: dict[str, float] = {}
        self._clock = clock
        self._started = clock()
        self._begun = 0
        self._open: set[str] = set()
        """Trials that were handed out and have not ended, whether or not an attempt runs now."""
        self._before: dict[str, float] = {}
        """What trials that go on in a further attempt have cost."""
        self._partly: set[str] = set()
        """Trials whose last attempt did not do all of them: what it cost tells of no other."""
        self._refused = ""
        """Why the latest trial that was asked about may not begin; empty where it may."""
        self._ended = Sums()
        """Of trials that were trained and scored in this start."""
        self._planned = Sums()
        """Of those whose cost the plan knew."""

    def expect(self, costs: Mapping[str, float], begun: Collection[str] = ()) -> None:
        """What trials will cost by the plan, as far as that is known, by key; of those `begun`
        before it is what is left."""
        self._expected |= costs
        self._partly.update(begun)

    @property
    def deadline(self) -> float:
        """When limits.max_hours ends, by the clock."""
        hours = self._limits.max_hours
        return self._started + hours * 3600 if hours else math.inf

    def reached(self) -> str:
        """Which limit has been reached that running trials stop for, in words; else ""."""
        limits = self._limits
        if self._clock() > self.deadline:
            return "the limit of limits.max_hours is reached"
        if limits.max_cost is not None and self._spending.now() >= limits.max_cost:
            most = f"{limits.max_cost:g} {self._currency}"
            return f"the limit of limits.max_cost is reached ({most})"
        return ""

    def ended_by(self) -> str:
        """Which limit leaves trials to another start of the command, and what to do; "" where none
        does."""
        why = self.reached() or self._refused
        if not why:
            return ""
        first = "raise it, then " if "limits.max_cost" in why else ""
        return f"no further trial begins: {why}; {first}the same command goes on"

    def begin(self, trial: Trial) -> bool:
        """Count one more trial; whether it may begin, now or later."""
        if self.reached():
            return False
        self._begun += 1
        most = self._limits.max_trials
        if most is not None and self._begun > most:
            self._refused = "this start has begun as many trials as limits.max_trials lets it"
            return False
        self._open.add(trial.key)
        return True

    def affords(self, trial: Trial) -> bool:
        """Whether the trial and those that were handed out are expected to end within
        limits.max_cost."""
        most = self._limits.max_cost
        if most is None:
            return True
        spent = self._spending.running()
        open_ = self._open | spent.keys()
        rest = sum(max(0.0, self._left(key) - spent.get(key, 0.0)) for key in open_)
        used, cost = self._spending.now() + rest, self._left(trial.key)
        affordable = used + cost <= most * (1 + SLACK)
        self._refused = ""
        if not affordable:
            self._refused = (
                f"of limits.max_cost ({most:g} {self._currency}) {used:,.2f} are used, and the "
                f"next trial is expected to cost {cost:,.2f}"
            )
        return affordable

    def started(self, trial: Trial, lanes: int = 1) -> None:
        """An attempt at so many trials in one pass, which share its cost."""
        self._spending.started(trial, lanes)

    def handed_back(self, key: str) -> None:
        """The attempt has done a part of the trial; another one does the rest."""
        self._before[key] = self._before.get(key, 0.0) + self._spending.ended(key)

    def retried(self, key: str) -> None:
        """The attempt has failed; another one goes on from what there is of it."""
        self._spending.ended(key)
        self._partly.add(key)

    def ended(self, key: str, *, whole: bool) -> None:
        """`whole`: the trial was trained and scored in this start."""
        self._open.discard(key)
        cost = self._spending.ended(key)
        if whole and key not in self._partly:
            cost += self._before.pop(key, 0.0)
            self._ended.add(1.0, cost)
            if expected := self._expected.get(key):
                self._planned.add(expected, cost)

    def _left(self, key: str) -> float:
        """Expected of what a trial still costs."""
        return self._cost(key) - self._before.get(key, 0.0)

    def _cost(self, key: str) -> float:
        """Expected of one trial: by the plan, times what it was wrong by; else what others cost."""
        planned = self._expected.get(key)
        if planned is None:
            return self._ended.ratio(0.0)
        return self._planned.ratio(1.0) * planned
