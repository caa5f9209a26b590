"""What a plan costs: the hours of its trials at the grid's `price.gpu_hour` and `cpu_hour`."""

from collections.abc import Iterable, Sequence

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


def expected(
    grid: Grid, planned: Sequence[Trial], measured: Calibration | None
) -> dict[str, float]:
    """`costs` of planned trials, before their data is prepared; empty where no price is named."""
    if hourly(grid.price, grid.resources) is None:
        return {}
    lanes = Bundles(grid).expected(planned, slots(grid, measured))
    prices = (price(grid, trial, measured, lanes=lanes[trial.key]) for trial in planned)
    return costs(grid, zip(planned, prices, strict=True))


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
