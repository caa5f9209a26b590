"""Two or more runs side by side: how far apart their best scores and their optima lie.

    difference = log2 ratio at one optimum - log2 ratio at the other, in octaves

The draws of two runs are taken as independent: they share no training, and items that they share
move both scores alike, which moves no optimum.
"""

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from analysis.advice.advise import Advice
from analysis.benchmarks import task
from analysis.compare import compare_scores
from analysis.compare.compare_scores import BestScores, counterpart
from analysis.compare.source import Source
from analysis.fit.surface import Fit, FitStatus
from analysis.text import listed, probability, rate, signed, title


@dataclass(frozen=True)
class Difference:
    """Octaves by which the optimum of `second` lies above that of `first`, in ratio, learning rate
    and batch size, each (middle, low, high) at 95 %; None unless both are identified."""

    first: str
    second: str
    stage: str
    arm: str
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
        return title(self.stage, self.arm)


@dataclass(frozen=True)
class Comparison:
    """Of every pair of runs: best scores, and optima over both axes. Empty with one run. `alone`
    are run and grid of those that no other run has, though it has their benchmarks."""

    scores: list[BestScores]
    optima: list[Difference]
    alone: list[tuple[str, str]]

    @property
    def headline(self) -> str:
        """One sentence over all pairs: which run scores better, where, and where none does."""
        alone = listed([f"{grid} of {run}" for run, grid in self.alone])
        if not self.scores and alone:
            return f"No stage and arm stands in two of these runs, so none is compared: {alone}."
        if not self.scores:
            return "These runs share no benchmark and metric, so there is nothing to compare."
        parts = []
        better: dict[tuple[str, str], list[str]] = {}
        for row in self.scores:
            if row.apart:
                gain = row.difference.gain > 0
                pair = (row.second, row.first) if gain else (row.first, row.second)
                better.setdefault(pair, []).append(row.name)
        for (winner, loser), labels in better.items():
            parts.append(f"the best of {winner} beats that of {loser} on {listed(labels)}")
        runs = {name for row in self.scores for name in (row.first, row.second)}
        alike: dict[tuple[str, str], list[str]] = {}
        for row in sorted(self.scores, key=lambda row: row.unknown):
            if not row.apart:
                what = "standard error to judge by" if row.unknown else "difference beyond noise"
                between = f" between {row.first} and {row.second}" if len(runs) > 2 else ""
                alike.setdefault((what, between), []).append(row.name)
        for (what, between), labels in alike.items():
            comma = "," if what.startswith("standard") else ""
            parts.append(f"no {what}{between}{comma} on {listed(labels)}")
        if alone:
            parts.append(f"not compared, for no other run has it: {alone}")
        return f"Between these runs {'; '.join(parts)}."

    def as_json(self) -> dict[str, Any]:
        """For recommendations.json."""
        return {
            "headline": self.headline,
            "scores": compare_scores.as_json(self.scores),
            "optima": [asdict(one) for one in self.optima],
        }


def compare(runs: dict[str, tuple[Source, list[Advice]]]) -> Comparison:
    """Of all pairs of runs, by name."""
    cells = {
        name: (source, [fit.cells for stage_advice in advice for fit in stage_advice.fits])
        for name, (source, advice) in runs.items()
    }
    fits = {
        name: [fit for stage_advice in advice for fit in stage_advice.fits]
        for name, (_, advice) in runs.items()
    }
    alone = compare_scores.without_counterpart({name: its for name, (_, its) in cells.items()})
    return Comparison(compare_scores.compare_scores(cells), differences(fits), alone)


def differences(runs: dict[str, list[Fit]]) -> list[Difference]:
    """Every pair of runs on every surface that both have (same benchmark and metric; the same
    stage, or the only one each has); `runs` holds the fits of each by name."""
    differences = []
    for (first, fits), (second, others) in combinations(runs.items(), 2):
        for fit in fits:
            other = _counterpart(fit, fits, others)
            if other is not None:
                differences.append(_difference(first, second, fit, other))
    return differences


def _counterpart(one: Fit, fits: list[Fit], others: list[Fit]) -> Fit | None:
    by_cells = {id(other.cells): other for other in others}
    cells = counterpart(one.cells, [fit.cells for fit in fits], [fit.cells for fit in others])
    return None if cells is None else by_cells[id(cells)]


def _difference(first: str, second: str, one: Fit, other: Fit) -> Difference:
    cells = one.cells
    name = (first, second, cells.stage, cells.arm, cells.benchmark, cells.metric)
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
        f"interval {signed(ratio[1])} to {signed(ratio[2])} octaves; probability that it is "
        f"higher: {probability(higher)})."
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
