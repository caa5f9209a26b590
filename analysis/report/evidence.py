"""The evidence behind the recommendations as plain rows: optima, rivals of the ratio, paths."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from analysis.benchmarks import task
from analysis.fit.optimum import ChosenCell, tolerance
from analysis.fit.surface import Fit


class OptimumRow(NamedTuple):
    """One surface: the cell to run, how good it is once its luck is taken off, and what choosing it
    costs; how many cells are as good; how the best learning rate follows the batch size.

    `slope` is (middle, low, high) in octaves of rate per octave of batch; `epsilon` in the metric's
    units; `p_flat` the chance of cells this unlike each other on a constant surface.
    """

    label: str
    metric: str
    cell: ChosenCell
    good: int
    possible: int
    cells: int
    epsilon: float
    slope: tuple[float, float, float] | None
    inside: float | None
    p_flat: float | None


def optima(fits: Sequence[Fit]) -> list[OptimumRow]:
    """A row per surface that has a fit."""
    rows = []
    for fit in fits:
        if fit.best_cell is None or fit.epsilon_set is None:
            continue
        path = fit.path
        rows.append(
            OptimumRow(
                label=task(fit.cells.benchmark).label,
                metric=fit.cells.metric,
                cell=fit.best_cell,
                good=int(fit.epsilon_set.good.sum()),
                possible=int(fit.epsilon_set.possible.sum()),
                cells=len(fit.epsilon_set),
                epsilon=tolerance(fit.cells),
                slope=(path.slope, path.low, path.high) if path and len(path.table) > 1 else None,
                inside=fit.inside,
                p_flat=fit.flat_p,
            )
        )
    return rows


def rivals(fits: Sequence[Fit]) -> list[dict[str, Any]]:
    """Per surface with a fit: its label, the five descriptions and the sentence that follows."""
    return [
        {
            "label": task(fit.cells.benchmark).label,
            "members": list(fit.rivals.members.values()),
            "lowest": min(one.aicc for one in fit.rivals.members.values()),
            "sentence": fit.rivals.sentence,
        }
        for fit in fits
        if fit.rivals is not None
    ]
