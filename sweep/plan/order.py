"""Coarse first: the order of a grid's cells, so that a part of it already covers the whole."""

from collections.abc import Sequence

import numpy as np


def coarse_first(cells: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of cells (learning rate, batch size): corners, centre, then ever finer.

    Distances count steps along the axes' ordered values, so a log axis and a list weigh alike.
    After the first corner each next cell is the one farthest from all before it (farthest-point
    sampling); ties go to the file's order. Cells that coincide (seeds, arms) follow only when all
    others ran once.
    """
    if not cells:
        return []
    points = np.column_stack([_ranks([cell[axis] for cell in cells]) for axis in (0, 1)])
    layer = _repeats(points)
    order: list[int] = []
    for repeat in range(int(layer.max()) + 1):
        order += _farthest_first(points, np.flatnonzero(layer == repeat))
    return order


def _ranks(values: list[float]) -> np.ndarray:
    """Places of the values among the distinct ones, scaled to [0, 1]."""
    distinct = {value: rank for rank, value in enumerate(sorted(set(values)))}
    return np.array([distinct[value] for value in values]) / max(len(distinct) - 1, 1)


def _repeats(points: np.ndarray) -> np.ndarray:
    """How many equal points come before each."""
    seen: dict[tuple[float, ...], int] = {}
    repeats = []
    for point in map(tuple, points):
        repeats.append(seen.get(point, 0))
        seen[point] = repeats[-1] + 1
    return np.array(repeats)


def _farthest_first(points: np.ndarray, indices: np.ndarray) -> list[int]:
    x, y = np.ascontiguousarray(points[indices].T)
    order = [int(np.argmin(x + y))]
    nearest = np.full(len(indices), np.inf)
    while len(order) < len(indices):
        last = order[-1]
        np.minimum(nearest, (x - x[last]) ** 2 + (y - y[last]) ** 2, out=nearest)
        nearest[last] = -1  # stays the smallest
        order.append(int(np.argmax(nearest)))
    return [int(indices[place]) for place in order]
