"""Do the cells differ at all? An omnibus test of every cell, not of the best against the typical.

Under pure noise the best of many cells beats the typical one by two standard errors: that is no
evidence of a surface.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import orth
from scipy.spatial import KDTree
from scipy.stats import rankdata

from analysis.fit.quadratic import design, inverse_variances, variances
from analysis.posterior.cells import Cells
from analysis.posterior.item_noise import DRAWS, apart
from analysis.posterior.peak import box_of

ALPHA = 0.05
"""Cells differ beyond noise where the chance of that on a constant surface is no more than this."""

UNREPEATED = "cells differ beyond the noise of their items, but no seed is repeated to tell"
"""What is said where `Flatness.beyond_items`."""

NEIGHBOURS = 2
"""Nearest cells with which each is compared, for each axis of the grid."""


class Flatness(NamedTuple):
    """p that all ok cells have one true score, and what was tested. `beyond_items`: by the noise of
    their items alone they have not, but no seed is repeated, and what a seed does is not known."""

    p: float
    test: str
    beyond_items: bool = False


def flatness(cells: Cells) -> Flatness:
    """Whether all ok cells have one true score.

    Two statistics, because each is blind where the other sees: Q = sum of (score - mean)^2 /
    variance, and how much of it a quadratic over the grid explains; twice the smaller p
    (Bonferroni). Their null distributions are drawn from the joint noise, in each draw with another
    variance between seeds, as uncertain as few repeated cells leave it.

    A few repeats say so little of that variance that no surface would be told from it. So cells
    that are ordered over the grid, against permutations, which need no variance, tell as much:
    twice the smaller p. Item noise alone understates what differs between trainings, so without
    seeds that differ the cells must be ordered: p is then the larger.
    """
    ok = cells.table.loc[cells.ok]
    score = ok.value.to_numpy()
    own = cells.own_noise
    ordered = Flatness(_order_p(ok.x.to_numpy(), ok.y.to_numpy(), score), "order over the grid")
    if own.std() == 0:
        return ordered
    root = np.sqrt(inverse_variances(variances(own)))
    x, y = ok.x.to_numpy(), ok.y.to_numpy()
    basis = orth(design(box_of(x, y), x, y) * root[:, None])
    both = zip(
        _squares(score[None, :] * root, root, basis),
        _squares(_noise(cells) * root, root, basis),
        strict=True,
    )
    tails = [(1 + int((null >= observed[0]).sum())) / (DRAWS + 1) for observed, null in both]
    unlike = Flatness(min(1.0, 2 * min(tails)), "all cells against a constant, joint noise")
    if not cells.seeds_known:
        return max(unlike, ordered)._replace(beyond_items=unlike.p <= ALPHA < ordered.p)
    least = min(unlike, ordered)
    return least._replace(p=min(1.0, 2 * least.p))


def _squares(white: np.ndarray, root: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of whitened scores (rows x cells): their sum of squares about the weighted mean, and the part
    of it that lies in the `basis`, of which a constant is a part."""
    unit = root / np.linalg.norm(root)
    constant = (white @ unit) ** 2
    return (white**2).sum(axis=1) - constant, ((white @ basis) ** 2).sum(axis=1) - constant


def _noise(cells: Cells) -> np.ndarray:
    """Draws of the noise of a constant surface, in each with another variance between seeds."""
    if cells.seeds is None:
        return cells.own_noise
    rng = np.random.default_rng(cells.seeds.freedom)
    variances = cells.seed_variances(cells.seeds.times(rng.random(DRAWS)))
    return apart(cells.shared_noise + np.sqrt(variances) * rng.standard_normal(variances.shape))


def _order_p(x: np.ndarray, y: np.ndarray, score: np.ndarray) -> float:
    """Permutation p that scores are ordered over the grid, on their ranks, axes in grid steps.

    Two statistics, because each is blind where the other sees: Geary's C over each cell's 4 nearest
    neighbours, and what a quadratic explains. Twice the smaller p (Bonferroni).
    """
    steps = np.column_stack([np.unique(axis, return_inverse=True)[1] for axis in (x, y)])
    rng = np.random.default_rng(len(score))
    ranks = rankdata(score)  # ties share a rank: else their order in the table would count
    shuffled = np.vstack([ranks, rng.permuted(np.tile(ranks, (DRAWS, 1)), axis=1)])
    axes = int((steps.max(axis=0) > 0).sum())
    neighbours = min(NEIGHBOURS * axes, len(score) - 1)
    near = np.asarray(KDTree(steps).query(steps, k=neighbours + 1)[1])[:, 1:]
    smooth = -((shuffled[:, :, None] - shuffled[:, near]) ** 2).sum(axis=(1, 2))
    box = box_of(steps[:, 0], steps[:, 1])
    basis = orth(design(box, steps[:, 0], steps[:, 1]))  # fewer columns along one axis
    explained = ((shuffled @ basis) ** 2).sum(axis=1)
    tails = [
        float((one[1:] >= one[0] - 1e-9).sum() + 1) / (DRAWS + 1) for one in (smooth, explained)
    ]
    return min(1.0, 2 * min(tails))
