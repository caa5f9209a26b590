"""Do the cells differ at all? An omnibus test of every cell, not of the best against the typical.

Under pure noise the best of many cells beats the typical one by two standard errors: that is no
evidence of a surface.
"""

import numpy as np
from scipy.linalg import orth
from scipy.spatial import KDTree
from scipy.stats import rankdata

from analysis.fit.quadratic import design, inverse_variances, variances
from analysis.posterior.cells import DRAWS, Cells
from analysis.posterior.peak import box_of

NEIGHBOURS = 2
"""Nearest cells with which each is compared, for each axis of the grid."""


def flatness(cells: Cells) -> tuple[float, str]:
    """p that all ok cells have one true score, and what was tested.

    Two statistics, because each is blind where the other sees: Q = sum of (score - mean)^2 /
    variance, and how much of it a quadratic over the grid explains; twice the smaller p
    (Bonferroni). Their null distributions are drawn from the joint noise, in each draw with another
    variance between seeds, as uncertain as few repeated cells leave it. Item noise alone
    understates what differs between trainings, so without seeds that differ the cells must also be
    ordered over the grid, against permutations: p is then the larger.
    """
    ok = cells.table.loc[cells.ok]
    score = ok.value.to_numpy()
    own = cells.own_noise
    tests = []
    if own.std() > 0:
        root = np.sqrt(inverse_variances(variances(own)))
        x, y = ok.x.to_numpy(), ok.y.to_numpy()
        basis = orth(design(box_of(x, y), x, y) * root[:, None])
        both = zip(
            _squares(score[None, :] * root, root, basis),
            _squares(own * root, root, basis),
            strict=True,
        )
        scale = _seed_variance(cells)
        tails = [
            (1 + int((null * scale >= observed[0]).sum())) / (DRAWS + 1) for observed, null in both
        ]
        tests.append((min(1.0, 2 * min(tails)), "all cells against a constant, joint noise"))
    if not tests or not cells.seed_sd:  # repeats that agree by rounding tell as little as none
        tests.append((_order_p(ok.x.to_numpy(), ok.y.to_numpy(), score), "order over the grid"))
    return max(tests)


def _squares(white: np.ndarray, root: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of whitened scores (rows x cells): their sum of squares about the weighted mean, and the part
    of it that lies in the `basis`, of which a constant is a part."""
    unit = root / np.linalg.norm(root)
    constant = (white @ unit) ** 2
    return (white**2).sum(axis=1) - constant, ((white @ basis) ** 2).sum(axis=1) - constant


def _seed_variance(cells: Cells) -> np.ndarray:
    """Draws of the variance of the noise, in shares of the one taken, as uncertain as the variance
    between seeds that is a part of it."""
    if cells.seed_sd is None or cells.seed_freedom < 1:
        return np.ones(DRAWS)
    seeds = cells.table.seeds[cells.ok].to_numpy(dtype=float)
    total = float(cells.own_noise.var(axis=0).mean())
    share = min(1.0, float((cells.seed_sd**2 / seeds).mean()) / total)
    freedom = cells.seed_freedom
    drawn = freedom / np.random.default_rng(freedom).chisquare(freedom, DRAWS)
    return 1 - share + share * drawn


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
