"""Do reasoning and pattern recognition want different learning rates at equal batch sizes?

    D = mean over B of (mean over reasoning of log2 LR*(B) - mean over pattern of log2 LR*(B))

in joint draws of all surfaces. The batch size cancels, so D is a difference of rates and of ratios
alike, and tops on a border of the batch sizes do not matter. Batch sizes at which a benchmark of
each is best at the same end of the rates are left out. A statement about the benchmarks
named, not about all tasks of their type.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from analysis.benchmarks import task
from analysis.fit.curves import Curves
from analysis.fit.optimum import LEVELS
from analysis.fit.rates import RateStatus, learning_rates
from analysis.fit.surface import Fit
from analysis.text import listed

POWER = 0.8
LEVEL = 0.05

SUPPORTED, CONTRADICTED, UNRESOLVED = "supported", "contradicted", "not resolved"


class Contrast(NamedTuple):
    """octaves, low, high: mean and 95 % interval of D; p_higher: P(D > 0); visible: the smallest
    difference that this grid would have told from none at the 5 % level with a chance of .8.

    `verdict` on the paper's claim (reasoning wants the higher ratio): supported, contradicted or
    not resolved. `left_out`: benchmarks of either type whose cells do not differ beyond noise.
    `missing` says why there is no contrast, "" where there is one; the figures are then None.
    """

    octaves: float | None
    low: float | None
    high: float | None
    p_higher: float | None
    visible: float | None
    batch_sizes: tuple[int, ...]
    reasoning: tuple[str, ...]
    pattern: tuple[str, ...]
    left_out: tuple[str, ...]
    verdict: str
    missing: str


def contrast(fits: Sequence[Fit]) -> Contrast:
    """Of one grid's fits."""
    groups: dict[str, list[Fit]] = {"reasoning": [], "pattern": []}
    for fit in fits:
        if (kind := task(fit.cells.benchmark).task_type) in groups:
            groups[kind].append(fit)
    used = {kind: [fit for fit in members if fit.shaped] for kind, members in groups.items()}
    left = [fit for kind in groups for fit in groups[kind] if fit not in used[kind]]
    names = {kind: tuple(fit.cells.benchmark for fit in members) for kind, members in used.items()}
    tops = {kind: [fit.curves for fit in members if fit.curves] for kind, members in used.items()}
    missing = _missing(groups, used)
    sizes: list[int] = []
    if not missing:
        every = [set(map(int, curves.batch_sizes)) for kind in tops for curves in tops[kind]]
        shared = sorted(set.intersection(*every))
        missing = "" if shared else "the benchmarks have no batch size in common"
        beyond = _at_one_end(tops["reasoning"], tops["pattern"])
        sizes = [size for size in shared if size not in beyond]
        if shared and not sizes:
            missing = (
                "at every batch size benchmarks of both types have their best learning rate at or "
                "beyond the same end of the measured ones"
            )
    octaves = low = high = p_higher = visible = None
    verdict = UNRESOLVED
    if not missing:
        draws = difference(tops["reasoning"], tops["pattern"], sizes)
        octaves = float(draws.mean())
        low, high = (float(bound) for bound in np.quantile(draws, LEVELS))
        p_higher = float((draws > 0).mean() + (draws == 0).mean() / 2)
        visible = float((ndtri(1 - LEVEL / 2) + ndtri(POWER)) * draws.std())
        if p_higher > 1 - LEVEL / 2:
            verdict = SUPPORTED
        elif p_higher < LEVEL / 2:
            verdict = CONTRADICTED
    return Contrast(
        octaves=octaves,
        low=low,
        high=high,
        p_higher=p_higher,
        visible=visible,
        batch_sizes=tuple(sizes),
        reasoning=names["reasoning"],
        pattern=names["pattern"],
        left_out=tuple(fit.cells.benchmark for fit in left),
        verdict=verdict,
        missing=missing,
    )


def _at_one_end(reasoning: Sequence[Curves], pattern: Sequence[Curves]) -> set[int]:
    """Batch sizes at which a benchmark of each type is best at the same end of the measured rates:
    how far beyond it either lies, and so their difference, is not known."""
    ends = [
        {
            (rate.batch_size, rate.side)
            for curves in group
            for rate in learning_rates(curves, shaped=True)
            if rate.status is RateStatus.EDGE
        }
        for group in (reasoning, pattern)
    ]
    return {size for size, _ in ends[0] & ends[1]}


def difference(
    reasoning: Sequence[Curves], pattern: Sequence[Curves], sizes: Sequence[int]
) -> np.ndarray:
    """Draws of D over the batch sizes given."""
    means = [
        np.mean([curves.mean_top(sizes) for curves in group], axis=0)
        for group in (reasoning, pattern)
    ]
    return means[0] - means[1]


def _missing(groups: dict[str, list[Fit]], used: dict[str, list[Fit]]) -> str:
    gaps = []
    for kind, label in (("reasoning", "reasoning"), ("pattern", "pattern-recognition")):
        if not groups[kind]:
            gaps.append(f"no {label} benchmark was scored")
        elif not used[kind]:
            labels = listed([task(fit.cells.benchmark).label for fit in groups[kind]])
            gaps.append(f"the scores of {labels} do not differ between cells beyond noise")
    return " and ".join(gaps)
