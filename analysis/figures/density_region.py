"""The smallest region that holds a share of an optimum's draws, as polygons in log2 units."""

import contourpy
import numpy as np
from matplotlib.path import Path
from scipy.ndimage import gaussian_filter

from analysis.posterior.peak import Box

BINS = 48
SMOOTH = 1.2
"""Of the Gaussian that smooths the counts, in bins: a fortieth of the grid's width."""


def region(draws: np.ndarray, box: Box, share: float = 0.95) -> list[np.ndarray]:
    """Highest-density region of `draws` (n x 2: log2 learning rate, log2 batch size).

    Closed polygons, points x 2, that may be several and are cut at the grid's borders, where
    optima pile up. None where there are no draws.
    """
    if not len(draws):
        return []
    low, high = np.array([box.x_low, box.y_low]), np.array([box.x_high, box.y_high])
    step = (high - low) / BINS
    unit = (np.clip(draws, low, high) - low) / np.where(step > 0, step, 1)
    places = np.minimum(unit.astype(int), BINS - 1)
    counts = np.zeros((BINS, BINS))
    np.add.at(counts, (places[:, 1], places[:, 0]), 1.0)
    density = gaussian_filter(counts, SMOOTH, mode="nearest")
    ranked = np.sort(density.ravel())[::-1]
    level = float(ranked[int(np.searchsorted(np.cumsum(ranked), share * ranked.sum()))])
    # a rim of nothing closes the contours that meet the border
    padded = np.pad(density, 1)
    centres = np.arange(-1, BINS + 1) + 0.5
    outlines = contourpy.contour_generator(centres, centres, padded).lines(level * (1 - 1e-9))
    return [np.clip(low + np.asarray(line) * step, low, high) for line in outlines]


def holds(polygons: list[np.ndarray], point: tuple[float, float], box: Box) -> bool:
    """Whether a region holds a point of the box, its border and its holes taken into account."""
    middle = np.array([box.x_low + box.x_high, box.y_low + box.y_high]) / 2
    inward = np.array(point) + 1e-6 * (middle - point)  # polygons end on the box's own border
    return (
        sum(Path(polygon).contains_point((inward[0], inward[1])) for polygon in polygons) % 2 == 1
    )
