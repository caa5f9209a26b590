"""Do the cells differ at all? An omnibus test of every cell, not of the best against the typical.

Under pure noise the best of many cells beats the typical one by two standard errors: that is no
evidence of a surface.
"""

import numpy as np
from scipy.linalg import orth
from scipy.spatial import KDTree
from scipy.stats import rankdata

from analysis.fit.cells import DRAWS, Cells
from analysis.fit.peak import box_of
from analysis.fit.quadratic import design, inverse_variances, variances

NEIGHBOURS = 2
"""Nearest cells with which each is compared, for each axis of the grid."""


def flatness(cells: Cells) -> tuple[float, str]:
    """p of an omnibus test of all ok cells against a constant, and what was tested.

    Q = sum of (score - mean)^2 / variance, its null distribution drawn from the joint noise. Item
    noise alone understates what differs between trainings, so without repeated seeds the cells must
    also be ordered over the grid, against permutations. p is the larger.
    """
    ok = cells.table.loc[cells.ok]
    score = ok.value.to_numpy()
    own = cells.own_noise
    tests = []
    if own.std() > 0:
        weights = inverse_variances(variances(own))
        observed = _spread(score[None, :], weights)[0]
        exceed = int((_spread(own, weights) >= observed).sum())
        tests.append(((1 + exceed) / (DRAWS + 1), "all cells against a constant, joint noise"))
    if cells.seed_sd is None:
        tests.append((_order_p(ok.x.to_numpy(), ok.y.to_numpy(), score), "order over the grid"))
    return max(tests) if tests else (1.0, "all cells alike, in every seed")


def _spread(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    mean = scores @ weights / weights.sum()
    return (scores - mean[:, None]) ** 2 @ weights


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
