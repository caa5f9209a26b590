"""Two or more runs side by side: how far apart their optima lie, with intervals.

    difference = log2 ratio at one optimum - log2 ratio at the other, in octaves

The draws of two runs are taken as independent: they share no training, and items that they share
move both scores alike, which moves no optimum.
"""

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from analysis.benchmarks import task
from analysis.fit.surface import Fit, FitStatus
from analysis.text import listed, probability, rate, title


@dataclass(frozen=True)
class Difference:
    """Octaves by which the optimum of `second` lies above that of `first`, in ratio, learning rate
    and batch size, each (middle, low, high) at 95 %; None unless both are identified."""

    first: str
    second: str
    stage: str
    benchmark: str
    metric: str
    ratio: tuple[float, float, float] | None
    learning_rate: tuple[float, float, float] | None
    batch_size: tuple[float, float, float] | None
    probability: float | None
    sentence: str

    @property
    def label(self) -> str:
        return task(self.benchmark).label

    @property
    def where(self) -> str:
        return title(self.stage)


def differences(runs: dict[str, list[Fit]]) -> list[Difference]:
    """Every pair of runs on every surface that both have (same benchmark and metric; the same
    stage, or the only one each has); `runs` holds the fits of each by name."""
    found = []
    for (first, fits), (second, others) in combinations(runs.items(), 2):
        for one in fits:
            other = _counterpart(one, fits, others)
            if other is not None:
                found.append(_difference(first, second, one, other))
    return found


def as_json(found: list[Difference]) -> list[dict[str, Any]]:
    """For recommendations.json."""
    return [asdict(one) for one in found]


def headline(found: list[Difference]) -> str:
    """One sentence over all pairs: what differs, what does not, what cannot be told."""
    if not found:
        return "These runs share no benchmark and metric, so there is nothing to compare."
    apart = [one for one in found if one.ratio and (one.ratio[1] > 0 or one.ratio[2] < 0)]
    same = [one for one in found if one.ratio and one.ratio[1] <= 0 <= one.ratio[2]]
    open_ = [one for one in found if one.ratio is None]
    pairs = {(one.first, one.second) for one in found}

    def named(one: Difference) -> str:
        return one.label if len(pairs) == 1 else f"{one.label} ({one.first} to {one.second})"

    parts = []
    for group, said in (
        (apart, "the best ratios differ on"),
        (same, "no difference beyond the uncertainty on"),
        (open_, "undecided on"),
    ):
        if group:
            parts.append(f"{said} {listed(list(dict.fromkeys(named(one) for one in group)))}")
    return f"Between these runs: {'; '.join(parts)}."


def _counterpart(one: Fit, fits: list[Fit], others: list[Fit]) -> Fit | None:
    same = [
        fit
        for fit in others
        if (fit.cells.benchmark, fit.cells.metric) == (one.cells.benchmark, one.cells.metric)
    ]
    exact = [
        fit for fit in same if (fit.cells.stage, fit.cells.arm) == (one.cells.stage, one.cells.arm)
    ]
    if exact:
        return exact[0]
    alone = len({(fit.cells.stage, fit.cells.arm) for fit in fits}) == 1
    return same[0] if alone and len(same) == 1 else None


def _difference(first: str, second: str, one: Fit, other: Fit) -> Difference:
    cells = one.cells
    name = (first, second, cells.stage, cells.benchmark, cells.metric)
    label = task(cells.benchmark).label
    unknown = [
        f"{run} is undecided ({fit.reason})"
        for run, fit in ((first, one), (second, other))
        if fit.status is not FitStatus.IDENTIFIED or fit.draws is None or fit.optimum is None
    ]
    if unknown:
        return Difference(*name, None, None, None, None, f"{label}: {listed(unknown)}.")
    assert one.draws is not None and other.draws is not None, "identified"
    assert one.optimum and other.optimum, "identified"
    count = min(len(one.draws), len(other.draws))
    # two surfaces' draws are in no common order, but nearby ones of a sampler may be alike
    order = np.random.default_rng(0).permutation(count)
    moved = other.draws[:count][order] - one.draws[:count]
    middle = np.array(other.optimum[:2]) - np.array(one.optimum[:2])
    ratio = _interval(moved[:, 0] - moved[:, 1], float(middle[0] - middle[1]))
    above = moved[:, 0] - moved[:, 1]
    higher = float((above > 0).mean() + (above == 0).mean() / 2)
    sentence = (
        f"{label}: the best ratio of {second} is {abs(ratio[0]):.1f} octaves "
        f"{'above' if ratio[0] >= 0 else 'below'} that of {first} "
        f"({rate(2**other.optimum.log2_ratio)} against {rate(2**one.optimum.log2_ratio)}; 95 % "
        f"interval {ratio[1]:+.1f} to {ratio[2]:+.1f} octaves; probability that it is higher: "
        f"{probability(higher)})."
    )
    return Difference(
        *name,
        ratio,
        _interval(moved[:, 0], float(middle[0])),
        _interval(moved[:, 1], float(middle[1])),
        higher,
        sentence,
    )


def _interval(draws: np.ndarray, middle: float) -> tuple[float, float, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return middle, min(float(low), middle), max(float(high), middle)
