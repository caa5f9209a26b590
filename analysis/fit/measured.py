"""Which learning rates count as measured at each batch size, and whether they can be compared."""

import numpy as np

from analysis.posterior.cells import Cells

APART = 1.0
"""Octaves off a line in log2 batch size from which rates tell themselves from the batch size, where
each batch size has one rate, as in a random search."""

STEP = 1.0
"""Octaves beyond the measured cells, or the typical step between rates of one batch size if more,
that a fit bridges."""


FEW = 3
"""Learning rates of a batch size; one with fewer, as in a random search, counts its neighbours'."""

NEIGHBOURS = 2.0
"""Octaves of batch size between neighbours."""


def no_rates(cells: Cells) -> str:
    """Why no learning rate can be called the best at a batch size; "" where one may be.

    Along one ratio, or any other line, rate and batch size move together: what differs between
    cells may be of either.
    """
    table = cells.table.loc[cells.table.status != "failed"]
    if table.learning_rate.nunique() < 2:
        return "one learning rate was measured"
    if table.groupby("batch_size").learning_rate.nunique().max() > 1:
        return ""
    line = np.polyfit(table.y, table.x, 1)
    off = np.abs(table.x - np.polyval(line, table.y)).max()
    return "" if off > APART else "each batch size was measured at one learning rate"


def reach(cells: Cells, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest log2 learning rate that counts as measured at each of the log2 batch sizes
    y: within a step (`STEP`) of the convex hull of the cells, or of their `NEIGHBOURS` too. Cells
    that are crossed have one range of rates for all; those of a few ratios have another at each
    batch size."""
    table = cells.table.loc[(cells.table.status != "failed") & cells.table.y.isin(y)]
    rates = table.groupby("y").x
    gaps: list[float] = [gap for _, own in rates for gap in np.diff(np.unique(own)).tolist()]
    step = max(STEP, float(np.median(gaps))) if gaps else STEP
    lowest, highest = rates.min().to_numpy(), rates.max().to_numpy()
    near = (np.abs(y[:, None] - y) <= NEIGHBOURS + 1e-9) & (rates.nunique().to_numpy() < FEW)[
        :, None
    ]
    return (
        np.minimum(-upper_hull(y, -lowest) - step, np.where(near, lowest, np.inf).min(axis=1)),
        np.maximum(upper_hull(y, highest) + step, np.where(near, highest, -np.inf).max(axis=1)),
    )


def upper_hull(y: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Upper edge of the convex hull of points (y, top), y rising, at each y."""
    corners: list[int] = []  # Andrew's monotone chain
    for right in range(len(y)):
        while len(corners) > 1:
            left, middle = corners[-2:]
            rise = (top[right] - top[left]) * (y[middle] - y[left])
            if (top[middle] - top[left]) * (y[right] - y[left]) > rise:
                break
            corners.pop()
        corners.append(right)
    return np.interp(y, y[corners], top[corners])
