"""The evidence behind the answers as plain rows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from analysis.benchmarks import task
from analysis.fit.model_comparison import CLOSE, GAMMA_STEP, LABELS, Rivals
from analysis.fit.optimum import ChosenCell, tolerance
from analysis.fit.surface import Fit
from analysis.text import listed


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


NOTHING_TO_DESCRIBE = (
    "The cells are not known to differ beyond noise, so there is nothing to describe."
)


def descriptions(fits: Sequence[Fit]) -> list[dict[str, Any]]:
    """Per surface with a fit: its label, the five descriptions and the sentence that follows."""
    return [
        {
            "label": task(fit.cells.benchmark).label,
            "members": list(fit.rivals.members.values()),
            "lowest": min(rival.aicc for rival in fit.rivals.members.values()),
            "sentence": sentence(fit.rivals) if fit.shaped else NOTHING_TO_DESCRIBE,
        }
        for fit in fits
        if fit.rivals is not None
    ]


def sentence(rivals: Rivals) -> str:
    """What five descriptions of one surface say about the ratio, in words."""
    if rivals.p is None:
        return "There are too few cells near the top to compare the ratio with other descriptions."
    ranked = sorted(rivals.members.values(), key=lambda one: one.aicc)
    best = ranked[0]
    close = [rival.label for rival in ranked[1:] if rival.aicc - best.aicc <= CLOSE]
    verb = "describe" if best.name == "full" else "describes"
    text = f"{best.label[0].upper()}{best.label[1:]} {verb} the cells near the top best"
    if close:
        verb = "do" if len(close) > 1 or close == [LABELS["full"]] else "does"
        text += f", but {listed(close)} {verb} about as well"
    if best.name == "constant":
        text += " (AICc): noise leaves hardly anything for the ratio to explain. "
    else:
        text += f" (AICc). The ratio explains {rivals.members['ratio'].share:.0%} and "
        text += f"the learning rate alone {rivals.members['learning_rate'].share:.0%} of what "
        text += "noise leaves to explain. "
    if rivals.gamma_low is None or rivals.gamma_high is None:
        return text + "The data do not bound gamma in LR/BS^gamma."
    span = f"{rivals.gamma_low:.2f} to {rivals.gamma_high:.2f}"
    if rivals.gamma_low == rivals.gamma_high:
        span = f"to within {GAMMA_STEP}"
    text += f"Gamma in LR/BS^gamma is {rivals.gamma:.2f} ({span}), which "
    rules = {"the learning rate alone (0)": 0.0, "the square root (0.5)": 0.5}
    rules |= {"the ratio (1)": 1.0}
    allowed = [n for n, v in rules.items() if rivals.gamma_low <= v <= rivals.gamma_high]
    refused = [n for n in rules if n not in allowed]
    said = [
        f"{verb} {listed(names)}"
        for verb, names in (("allows", allowed), ("excludes", refused))
        if names
    ]
    return text + " and ".join(said) + "."
