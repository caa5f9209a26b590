"""The evidence behind the answers as plain rows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from analysis.benchmarks import task
from analysis.fit.optimum import ChosenCell, tolerance
from analysis.fit.surface import Fit


class ChosenRow(NamedTuple):
    """One surface: its chosen cell, how many cells are as good within epsilon (in the metric's
    units), the probability that the best of both axes lies inside the grid, and the p-value of a
    flat surface."""

    label: str
    metric: str
    cell: ChosenCell
    possible: int
    cells: int
    epsilon: float
    inside: float | None
    p_flat: float | None


def chosen(fits: Sequence[Fit]) -> list[ChosenRow]:
    """A row per surface that has a fit."""
    return [
        ChosenRow(
            label=task(fit.cells.benchmark).label,
            metric=fit.cells.metric,
            cell=fit.best_cell,
            possible=int(fit.epsilon_set.possible.sum()),
            cells=len(fit.epsilon_set),
            epsilon=tolerance(fit.cells),
            inside=fit.inside,
            p_flat=fit.flat_p,
        )
        for fit in fits
        if fit.best_cell is not None and fit.epsilon_set is not None
    ]


def descriptions(fits: Sequence[Fit]) -> list[dict[str, Any]]:
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
