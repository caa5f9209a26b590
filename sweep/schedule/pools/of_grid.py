"""Which pool of cells a grid asks for; what chooses is imported where it is asked for alone."""

from typing import Any

from sweep.gridfile.keys.schema import Grid
from sweep.plan.evaluations import WantedByStage
from sweep.plan.trials import Trial
from sweep.schedule.pools.pool import Pool
from sweep.storage.run_folder import RunFolder


def pool(
    grid: Grid, planned: list[Trial], folder: RunFolder, wants: WantedByStage
) -> Pool[Any] | None:
    """None for a grid whose cells all run."""
    if grid.search is not None:
        from sweep.schedule.pools.search_queue import SearchPool

        return SearchPool(grid, planned, folder, wants)
    if grid.decide is not None:
        from sweep.schedule.pools.decide import DecidePool

        return DecidePool(grid, planned, folder, wants)
    return None
