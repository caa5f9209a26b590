"""Do reasoning and pattern recognition want different learning rates at equal batch sizes?

    D = mean over B of (mean over reasoning of log2 LR*(B) - mean over pattern of log2 LR*(B))

in joint draws of all surfaces. The batch size cancels, so D is a difference of rates and of ratios
alike, and tops on a border of the batch sizes do not matter. Batch sizes at which a benchmark of
each is best at the same end of the rates are left out. Where one type alone is best at an end, how
far beyond it is not known, and D has no bound on that side. A statement about the benchmarks named,
not about all tasks of their type.
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
from analysis.text import listed, signed

POWER = 0.8
LEVEL = 0.05

SUPPORTED, CONTRADICTED, UNRESOLVED = "supported", "contradicted", "not resolved"


class Contrast(NamedTuple):
    """octaves, low, high: mean and 95 % interval of D; p_higher: P(D > 0); visible: the smallest
    difference that this grid would have told from none at the 5 % level with a chance of .8. Where
    one type has its best rate at an end of the rates, the draws stop there: the bound on that side
    and `visible` are None, and D may be farther from `octaves` on that side.

    `verdict` on the paper's claim (reasoning wants the higher ratio): supported, contradicted or
    not resolved. `left_out`: benchmarks of either type whose cells are not known to differ beyond
    noise.
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

    @property
    def span(self) -> str:
        """The interval in words, as far as it is bounded."""
        if self.low is not None and self.high is not None:
            return f"{signed(self.low)} to {signed(self.high)}"
        if self.low is not None:
            return f"{signed(self.low)} or more"
        return "not bounded" if self.high is None else f"{signed(self.high)} or less"


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
    ends: dict[str, set[tuple[int, str]]] = {}
    if not missing:
        every = [set(map(int, curves.batch_sizes)) for kind in tops for curves in tops[kind]]
        shared = sorted(set.intersection(*every))
        missing = "" if shared else "the benchmarks have no batch size in common"
        alone = [curves.no_rates for kind in tops for curves in tops[kind] if curves.no_rates]
        missing = alone[0] if alone else missing
        ends = {kind: _ends(curves) for kind, curves in tops.items()}
        beyond = {size for size, _ in ends["reasoning"] & ends["pattern"]}
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
        higher, lower = _beyond(ends, sizes)
        if p_higher > 1 - LEVEL / 2 and not lower:
            verdict = SUPPORTED
        elif p_higher < LEVEL / 2 and not higher:
            verdict = CONTRADICTED
        low, high = (None if lower else low), (None if higher else high)
        visible = None if lower or higher else visible
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


def _ends(group: Sequence[Curves]) -> set[tuple[int, str]]:
    """Batch size and side at which a benchmark of the group is best at an end of the measured
    rates: how far beyond it is not known."""
    return {
        (rate.batch_size, rate.side)
        for curves in group
        for rate in learning_rates(curves, shaped=True)
        if rate.status is RateStatus.EDGE
    }


def _beyond(ends: dict[str, set[tuple[int, str]]], sizes: Sequence[int]) -> tuple[bool, bool]:
    """Whether D may be higher, and lower, than its draws, which stop at the ends of the rates."""
    sides = {kind: {side for size, side in its if size in sizes} for kind, its in ends.items()}
    higher = "higher" in sides["reasoning"] or "lower" in sides["pattern"]
    lower = "lower" in sides["reasoning"] or "higher" in sides["pattern"]
    return higher, lower


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
            gaps.append(f"cells are not known to differ beyond noise on {labels}")
    return " and ".join(gaps)
