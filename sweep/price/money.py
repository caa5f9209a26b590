"""What a plan costs: the hours of its trials at the grid's `price.gpu_hour` and `cpu_hour`."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from sweep.gridfile.keys.resources import TrialResources
from sweep.gridfile.keys.schema import Grid, Pricing
from sweep.plan.bundles import Bundles
from sweep.plan.trials import Trial
from sweep.price.calibration import Calibration
from sweep.price.cost import Price, price, slots


def hourly(price: Pricing, resources: TrialResources) -> float | None:
    """Cost of one hour of a trial with these resources; None where no price is named."""
    if price.gpu_hour is None and price.cpu_hour is None:
        return None
    gpus = resources.gpus_per_trial * (price.gpu_hour or 0.0)
    return gpus + resources.cpus_per_trial * (price.cpu_hour or 0.0)


def costs(grid: Grid, priced: Iterable[tuple[Trial, Price]]) -> dict[str, float]:
    """Key -> cost of a trial in the grid's currency, for those whose hours are known."""
    costs = {}
    for trial, cost in priced:
        rate = hourly(grid.price, grid.trial_resources(trial.stage))
        if rate is not None and cost.hours is not None:
            costs[trial.key] = rate * cost.hours
    return costs


class Done(NamedTuple):
    """Shares of a trial's training and of its scores that earlier starts have done."""

    trained: float = 0.0
    scored: float = 0.0


def to_come(
    grid: Grid,
    planned: Sequence[Trial],
    measured: Calibration | None,
    done: Callable[[Trial], Done],
) -> tuple[dict[str, float], set[str]]:
    """`costs` of what is left of planned trials, before their data is prepared, and the keys of
    those of which a part is done; both empty where no price is named."""
    if hourly(grid.price, grid.resources) is None:
        return {}, set()
    lanes = Bundles(grid).expected(planned, slots(grid, measured))
    left, begun = [], set[str]()
    for trial in planned:
        whole, part = price(grid, trial, measured, lanes=lanes[trial.key]), done(trial)
        if part != Done():
            begun.add(trial.key)
        train, score = (_left(*one) for one in zip(whole[-2:], part, strict=True))
        left.append((trial, whole._replace(train_hours=train, eval_hours=score)))
    return costs(grid, left), begun


def _left(hours: float | None, done: float) -> float | None:
    return None if hours is None else hours * (1 - done)


def sentence(grid: Grid, planned: Iterable[Trial], prices: Iterable[Price], bound: str = "") -> str:
    """What the plan costs, in a sentence that begins with the `bound` ("at most ") if there is one;
    "" where no price is named."""
    if hourly(grid.price, grid.resources) is None:
        return ""
    trials = list(planned)
    known = costs(grid, zip(trials, prices, strict=True))
    named = {"GPU hour": grid.price.gpu_hour, "CPU core hour": grid.price.cpu_hour}
    currency = grid.price.currency
    at = " and ".join(f"{value:g} {currency} a {unit}" for unit, value in named.items() if value)
    if len(known) < len(trials):
        return f"cost: unknown while the hours are, at {at}"
    cost = sum(known.values())
    most = grid.limits.max_cost
    ends = "" if most is None or most >= cost else f"; limits.max_cost ends the run at {most:,.2f}"
    return f"cost: {bound}about {cost:,.2f} {currency} at {at}{ends}"
