"""A weighted quadratic over x = log2 learning rate, y = log2 batch size, near the top only.

    score(x, y) = b0 + b1 x + b2 y + b3 x^2 + b4 y^2 + b5 x y      (x, y scaled to the grid's box)

Far from the top a score falls to chance or off a cliff, which no quadratic follows, so a fit sees
only the best share of the cells: the largest in `CUTS` whose misfit the noise explains, else 0.4.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import chdtrc

from analysis.posterior.cells import Cells
from analysis.posterior.peak import Box

CUTS = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0)
NARROW = 1  # index in CUTS of the cut used where every wider one misfits
MISFIT = 0.05
MIN_CELLS = 9
LOCAL_CELLS = 12


@dataclass(frozen=True)
class Quadratic:
    """Weighted least squares on the `used` cells; predictions in the score's own units."""

    box: Box
    sign: int
    used: np.ndarray
    weights: np.ndarray
    coefficients: np.ndarray
    operator: np.ndarray
    r2: float
    residual: float
    freedom: int

    def predict(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Score at log2 learning rate x and log2 batch size y (arrays of one shape)."""
        return self.sign * (design(self.box, x, y) @ self.coefficients)


def fit_quadratic(cells: Cells, kept: float) -> Quadratic:
    """The quadratic over the best `kept` share of the ok cells (see `local`)."""
    ok = cells.table.loc[cells.ok]
    x, y = ok.x.to_numpy(), ok.y.to_numpy()
    score = cells.sign * ok.value.to_numpy()
    box = Box(x.min(), x.max(), y.min(), y.max())
    used = local(cells, kept)
    noise = cells.own_noise[:, used]
    basis, target = design(box, x[used], y[used]), score[used]
    variance = variances(noise)
    freedom = len(target) - basis.shape[1]

    def solve(model_variance: float) -> tuple[Any, ...]:
        weights = inverse_variances(variance, model_variance)
        operator = np.linalg.pinv(basis * np.sqrt(weights)[:, None]) * np.sqrt(weights)
        coefficients = operator @ target
        residuals = target - basis @ coefficients
        scatter = float(weights @ residuals**2 / weights.sum()) * len(target) / max(freedom, 1)
        excess = max(0.0, scatter - float(weights @ variance / weights.sum()))
        return weights, operator, coefficients, residuals, scatter, excess

    *_, first_excess = solve(0.0)
    weights, operator, coefficients, residuals, scatter, _ = solve(first_excess)
    centred = target - weights @ target / weights.sum()
    return Quadratic(
        box=box,
        sign=cells.sign,
        used=used,
        weights=weights,
        coefficients=coefficients,
        operator=operator,
        r2=float(1 - (weights @ residuals**2) / max(weights @ centred**2, 1e-300)),
        residual=float(np.sqrt(scatter)),
        freedom=freedom,
    )


def choose_cut(cells: Cells) -> int:
    """Index in `CUTS` of the largest share whose misfit is no larger than noise (chi-square)."""
    own = cells.own_noise
    if own.std() == 0:
        return NARROW
    for cut in range(len(CUTS) - 1, NARROW, -1):
        quadratic = fit_quadratic(cells, CUTS[cut])
        variance = variances(own[:, quadratic.used]).mean()
        freedom = quadratic.freedom
        if chdtrc(freedom, quadratic.residual**2 * freedom / variance) > MISFIT:
            return cut
    return NARROW


def local(cells: Cells, kept: float) -> np.ndarray:
    """Mask over ok cells: the best `kept` share (at least `LOCAL_CELLS`), and all within 2 standard
    errors of the best; widened until 3 learning rates and 3 batch sizes are in."""
    ok = cells.table.loc[cells.ok].reset_index(drop=True)
    score = cells.sign * ok.value.to_numpy()
    order = np.argsort(-score, kind="stable")
    best = order[0]
    own = cells.own_noise
    stderr = (own - own[:, [best]]).std(axis=0)
    used = score >= score[best] - 2 * stderr
    count = max(LOCAL_CELLS, int(np.ceil(kept * len(score))))
    used[order[:count]] = True
    for row in order[count:]:
        chosen = ok.loc[used]
        if chosen.learning_rate.nunique() >= 3 and chosen.batch_size.nunique() >= 3:
            break
        used[row] = True
    return used


def variances(noise: np.ndarray) -> np.ndarray:
    """Per cell, over draws; none below a tenth of the median, which would take all the weight."""
    variance = noise.var(axis=0)
    return np.maximum(variance, 0.1 * np.median(variance))


def inverse_variances(variance: np.ndarray, model_variance: float = 0.0) -> np.ndarray:
    """Weights of cells; equal where no noise is known at all."""
    total = variance + model_variance
    return 1 / total if total.min() > 0 else np.ones(len(variance))


def design(box: Box, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The six terms of the quadratic, along a last axis."""
    u = (2 * x - box.x_low - box.x_high) / (box.x_high - box.x_low)
    v = (2 * y - box.y_low - box.y_high) / (box.y_high - box.y_low)
    return np.stack([np.ones_like(u), u, v, u * u, v * v, u * v], axis=-1)
