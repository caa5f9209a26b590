"""What draws of a surface say of its optimum: place, set of good cells, regret.

Every summary is taken over joint draws of the whole surface (`analysis.posterior.smc`), so
intervals hold the noise of items and seeds and the model's own error together.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.fit.divergence import infeasible, upper_end, without_far_divergence
from analysis.posterior.cells import ROUNDING, Cells
from analysis.posterior.condition import Posterior

MESH = (41, 33)
LOSS_TOLERANCE = 0.0025
"""Of the loss: as good as the best (Step Law, arXiv 2503.04715, keeps runs within 0.25 %)."""

LEVELS = (0.025, 0.975)


class ChosenCell(NamedTuple):
    """The measured cell of least expected regret.

    `observed` is its score as measured. `corrected` is its posterior mean with standard deviation
    `stderr`: the best of many noisy cells looks better than it is, and its posterior, which draws
    on its neighbours, takes that back. `regret` is the expected shortfall against the best point of
    the grid's box and `regret_high` its 95 % bound, both at least 0, in the metric's own units.
    """

    learning_rate: float
    batch_size: int
    observed: float
    corrected: float
    stderr: float
    regret: float
    regret_high: float


class Mesh(NamedTuple):
    """Points of the box that lie nearest to a cell that trains, with the draws' scores there.

    x, y: log2 units, length p; height: draws x p, better when higher; wall: where the next higher
    rate is nearest to a cell that diverged; gap: octaves between a rate that trains and the next
    one, within which training breaks.
    """

    x: np.ndarray
    y: np.ndarray
    height: np.ndarray
    wall: np.ndarray
    gap: float

    @property
    def walled(self) -> np.ndarray:
        """Of each draw, whether its best point lies at a wall."""
        return self.wall[self.height.argmax(axis=1)]


def mesh(cells: Cells, posterior: Posterior) -> Mesh:
    """`MESH` points over the box, up to where cells diverge; what lies nearest to a diverged cell
    is left out."""
    cells, box = without_far_divergence(cells), posterior.box
    rates = np.linspace(box.x_low, max(box.x_high, upper_end(cells)), MESH[0])
    step = rates[1] - rates[0]
    x, y = np.meshgrid(
        [*rates, rates[-1] + step], np.linspace(box.y_low, box.y_high, MESH[1]), indexing="ij"
    )
    bad = infeasible(cells, x.ravel(), y.ravel()).reshape(x.shape)
    x, y, wall, free = x[:-1], y[:-1], bad[1:], ~bad[:-1]
    height = posterior.scores(x[free], y[free]).astype(np.float32)  # half the memory
    measured = np.unique(cells.table.x.to_numpy(dtype=float))
    gap = float(np.median(measured[1:] - measured[:-1]))
    return Mesh(x[free], y[free], height, wall[free], gap)


def best_points(cells: Cells, where: Mesh) -> np.ndarray:
    """The best point of each draw: draws x 2, log2 units.

    For a score, the highest point; a draw that still rises where training diverges has it anywhere
    between the last rate that trains and the first that does not. For a loss, whose differences
    within 0.25 % no run repeats, the centre of what is as good: the mean of the points weighed by
    exp(-excess / epsilon), epsilon being the `tolerance`. Unlike such a mean over cells, it does
    not depend on where cells lie.
    """
    if not cells.is_loss:
        top, walled = where.height.argmax(axis=1), np.flatnonzero(where.walled)
        x = where.x[top]
        share = (np.random.default_rng(len(x)).permutation(len(walled)) + 0.5) / max(len(walled), 1)
        x[walled] += (share - 0.5) * where.gap
        return np.column_stack([x, where.y[top]])
    excess = where.height.max(axis=1, keepdims=True) - where.height
    weights = np.exp(-excess / tolerance(cells))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.column_stack([weights @ where.x, weights @ where.y])


def tolerance(cells: Cells) -> float:
    """Epsilon in the metric's units, above 0: 0.25 % of the best loss, or one standard error of a
    score or an error rate, or of the mean of its cells where it has none. Where all this is 0, as
    of scores that are all alike, it is `LOSS_TOLERANCE`."""
    ok = cells.table.loc[cells.ok]
    best = float((cells.sign * ok.value).max())
    if cells.is_loss and best != 0:
        return LOSS_TOLERANCE * abs(best)
    stderr = float(ok.stderr.median())
    known = stderr if stderr > 0 else float(ok.value.std() / np.sqrt(len(ok)))
    return known if known > ROUNDING * abs(best) else LOSS_TOLERANCE


def epsilon_set(cells: Cells, posterior: Posterior, where: Mesh) -> pd.DataFrame:
    """A row per ok cell: learning_rate, batch_size, x, y, probability, good, possible.

    `probability` that the cell's true score lies within `tolerance` of the best in the box; `good`
    where that is at least one half, `possible` where it is at least 5 % (the 95 % set).
    """
    ok = cells.table.loc[cells.ok]
    here = posterior.scores(ok.x.to_numpy(), ok.y.to_numpy())
    best = np.maximum(where.height.max(axis=1), here.max(axis=1))
    probability = (here >= best[:, None] - tolerance(cells)).mean(axis=0)
    table = ok[["learning_rate", "batch_size", "x", "y"]].assign(probability=probability)
    return table.assign(good=probability >= 0.5, possible=probability >= 0.05)


def choose_cell(cells: Cells, posterior: Posterior, where: Mesh) -> ChosenCell:
    """The ok cell with the least mean shortfall over the draws."""
    ok = cells.table.loc[cells.ok].reset_index(drop=True)
    here = posterior.scores(ok.x.to_numpy(), ok.y.to_numpy())
    best = np.maximum(where.height.max(axis=1), here.max(axis=1))
    short = best[:, None] - here
    row = int(short.mean(axis=0).argmin())
    return ChosenCell(
        learning_rate=float(ok.learning_rate[row]),
        batch_size=int(ok.batch_size[row]),
        observed=float(ok.value[row]),
        corrected=float(cells.sign * here[:, row].mean()),
        stderr=float(here[:, row].std()),
        regret=float(short[:, row].mean()),
        regret_high=float(np.quantile(short[:, row], 0.95)),
    )
