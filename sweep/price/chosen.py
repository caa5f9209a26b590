"""How much of a plan runs where cells are chosen as results come in, by `search` or `decide`."""

from collections.abc import Sequence

from sweep.gridfile.keys.schema import Grid
from sweep.plan.trials import Trial
from sweep.plan.widen import budget, decided_stage
from sweep.price.cost import Price


def most_at_once(grid: Grid) -> int | None:
    """Cells that are open at once at most; None where nothing but the machine bounds them."""
    if grid.decide is not None:
        return grid.decide.most_at_once
    return grid.search and grid.search.at_once


def shares(grid: Grid, planned: Sequence[Trial]) -> dict[str, float]:
    """Key -> times that a planned trial runs, at most and on the average of its stage: 1 where all
    of them run; more than 1 where replicates and cells beyond the grid run too."""
    shares = dict.fromkeys((trial.key for trial in planned), 1.0)
    if (most := budget(grid)) is None:
        return shares
    own = {trial.key for trial in planned if trial.stage == decided_stage(grid).name}
    if not own:
        return shares
    share = most / len(own) if grid.decide else min(1.0, most / len(own))
    for trial in planned:  # parents come before children
        if trial.key in own or trial.parent in own:
            own.add(trial.key)
            shares[trial.key] = share
    return shares


def scaled(price: Price, share: float) -> Price:
    return Price(*(None if value is None else share * value for value in price))
