"""Where training diverges: what lies nearest to a cell that did, up to which rate cells train."""

from dataclasses import replace

import numpy as np
from scipy.spatial import KDTree

from analysis.posterior.cells import Cells

REACH = 2.0
"""Steps of the grid, or octaves if more, above the highest rate that trains within which a rate
that diverges bounds the rates from above."""


def infeasible(cells: Cells, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether each point's nearest cell, in octaves, diverged."""
    nearest = KDTree(cells.table[["x", "y"]].to_numpy()).query(np.column_stack([x, y]))[1]
    return (cells.table.status.to_numpy() == "diverged")[nearest]


def without_far_divergence(cells: Cells) -> Cells:
    """The cells but those that diverged so far above all that train that they say nothing of the
    rates between (`REACH`)."""
    rates = np.unique(cells.table.x[cells.ok])
    step = float(np.median(np.diff(rates))) if len(rates) > 1 else 1.0
    far = (cells.table.status == "diverged") & (
        cells.table.x > rates.max() + max(REACH * step, REACH) + 1e-9
    )
    if not far.any():
        return cells
    kept = ~far.to_numpy()
    return replace(
        cells, table=cells.table.loc[kept].reset_index(drop=True), noise=cells.noise[:, kept]
    )


def upper_end(cells: Cells) -> float:
    """Highest rate that trains, or halfway from it to the lowest above it that diverged."""
    x = cells.table.x[cells.ok].max()
    beyond = cells.table.x[(cells.table.status == "diverged") & (cells.table.x > x)]
    return float(x if beyond.empty else (x + beyond.min()) / 2)
