"""A third axis: arms of a stage that differ in one setting, or by the names the grid gives them.

For each value of the setting (rank, optimizer, epochs, full tuning or LoRA) the best score and the
best learning rate, and how both move from value to value:

    shift = mean over shared batch sizes of log2 LR*(value) - log2 LR*(first value), in octaves

from joint draws of each value's surface (`analysis.fit.curves`). The draws of two values are taken
as independent: they share no training, and items that they share move their scores alike, which
moves no optimum. Best scores are paired by their items (`compare_scores`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from analysis.advice.advise import Advice
from analysis.benchmarks import task
from analysis.compare.axis_places import Place, named, places
from analysis.compare.compare_scores import BestScores, compare_best
from analysis.compare.source import Source
from analysis.fit.optimum import LEVELS
from analysis.fit.rates import RateAt, RateStatus, learning_rates
from analysis.fit.surface import Fit
from analysis.tables.settings import PARENT

APART = 0.95
"""Probability from which the best learning rate is said to move, and a value to be the best."""

OF_A_REFERENCE = ("heldout_loss", "pair_accuracy")
"""Benchmarks of a DPO stage that are relative to the model that a trial starts from."""


class Slope(NamedTuple):
    """Octaves of the best learning rate for each doubling of the setting: mean and 95 %."""

    octaves: float
    low: float
    high: float


@dataclass(frozen=True)
class AtValue:
    """One value of the setting on one benchmark.

    `best`, `low`, `high`: the best score of its surface over draws, mean and 95 %, in the metric's
    units; `p_best`: probability that no other value has a better one. `rates`: LR*(B) at the batch
    sizes that all values share; `shift` (mean, low, high): octaves from the first value's, None
    where either is not inside the measured rates; its intervals hold with 95 % for all values
    together (Bonferroni), since one of several leaves out 0 more often by chance. `difference`:
    best cell against the first value's, paired by items; None of the first.
    """

    value: str
    arm: str
    fit: Fit
    best: float
    low: float
    high: float
    p_best: float
    rates: tuple[RateAt, ...]
    shift: tuple[float, float, float] | None
    difference: BestScores | None


@dataclass(frozen=True)
class OnBenchmark:
    """All values on one benchmark, but for those `left_out`, with fewer than two scored cells.
    `as_good`: the values that hold 95 % of the probability of being the best, in the order of the
    axis; `slope` of numeric settings; `moves`: whether the best rate does, None where it cannot be
    said."""

    benchmark: str
    metric: str
    values: tuple[AtValue, ...]
    as_good: tuple[str, ...]
    slope: Slope | None
    moves: bool | None
    left_out: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return task(self.benchmark).label


@dataclass(frozen=True)
class SettingAxis:
    """One setting of one stage, the other settings as `held` says ("" where there are none).
    `one_model`: all values train the same model. `not_compared`: benchmarks whose scores are
    relative to unlike references."""

    stage: str
    name: str
    held: str
    arms: tuple[str, ...]
    values: tuple[str, ...]
    one_model: bool
    benchmarks: tuple[OnBenchmark, ...]
    not_compared: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        parts = (self.stage, self.name, self.held)
        return "-".join(part for part in parts if part)


def setting_axes(source: Source, advice: Sequence[Advice]) -> list[SettingAxis]:
    """Every axis beyond learning rate, batch size and seed of each stage that has one."""
    axes = []
    for stage in dict.fromkeys(one.stage for one in advice):
        arms = {one.arm: one for one in advice if one.stage == stage}
        rows = source.frame.loc[source.frame.stage == stage]
        for place in places(rows, list(arms)):
            fits = [arms[arm].fits for arm in place.arms]
            names = dict.fromkeys(fit.cells.benchmark for members in fits for fit in members)
            relative = _relative(source, stage, place)
            on = [
                _on(source, place, [_of(members, name) for members in fits])
                for name in names
                if name not in relative
            ]
            benchmarks = tuple(one for one in on if one is not None)
            not_compared = tuple(name for name in names if name in relative)
            if benchmarks or not_compared:
                models = rows.loc[rows.arm.isin(place.arms), ["model", "model_parameters"]]
                one_model = len(models.drop_duplicates()) == 1
                axes.append(
                    SettingAxis(
                        stage,
                        place.name,
                        place.held,
                        place.arms,
                        place.values,
                        one_model,
                        benchmarks,
                        not_compared,
                    )
                )
    return axes


def _relative(source: Source, stage: str, place: Place) -> tuple[str, ...]:
    """Benchmarks that the models of an axis have of unlike references."""
    if place.name != PARENT or source.kinds.get(stage, stage) != "dpo":
        return ()
    return OF_A_REFERENCE


def _of(fits: Sequence[Fit], benchmark: str) -> Fit | None:
    return next((fit for fit in fits if fit.cells.benchmark == benchmark), None)


def _on(source: Source, place: Place, every: Sequence[Fit | None]) -> OnBenchmark | None:
    """None where fewer than two values have scores to compare."""
    kept = [row for row, fit in enumerate(every) if fit is not None and fit.curves is not None]
    if len(kept) < 2:
        return None
    left_out = tuple(value for row, value in enumerate(place.values) if row not in kept)
    place = place.of(kept)
    fits = [fit for fit in every if fit is not None and fit.curves is not None]
    known = [fit.curves for fit in fits if fit.curves is not None]
    count = min(len(one.best) for one in known)
    rng = np.random.default_rng(0)
    orders = [rng.permutation(count) for _ in known]
    best = np.stack(
        [one.best[:count][order] for one, order in zip(known, orders, strict=True)], axis=1
    )
    p_best = np.bincount(best.argmax(axis=1), minlength=len(known)) / count
    sizes = sorted(set.intersection(*(set(map(int, one.batch_sizes)) for one in known)))
    rates = [
        tuple(at for at in learning_rates(one, fit.shaped) if at.batch_size in sizes)
        for one, fit in zip(known, fits, strict=True)
    ]
    inside = _inside(rates, sizes)
    tops = [
        one.mean_top(inside)[:count][order] if inside else None
        for one, order in zip(known, orders, strict=True)
    ]
    sign = fits[0].cells.sign
    values = []
    for row, (value, arm, fit) in enumerate(zip(place.values, place.arms, fits, strict=True)):
        scores = sign * best[:, row]
        low, high = np.quantile(scores, LEVELS)
        first, own = tops[0], tops[row]
        shift = None
        if row and first is not None and own is not None:
            moved = own - first
            tail = LEVELS[0] / (len(fits) - 1)
            ends = np.quantile(moved, (tail, 1 - tail))
            shift = (float(moved.mean()), float(ends[0]), float(ends[1]))
        names = (named(place.name, place.values[0]), named(place.name, value))
        compared = None
        if row:
            compared = compare_best(names[0], source, fits[0].cells, names[1], source, fit.cells)
        values.append(
            AtValue(
                value, arm, fit, float(scores.mean()), float(low), float(high),
                float(p_best[row]), rates[row], shift, compared,
            )
        )  # fmt: skip
    slope = _slope(place, tops)
    return OnBenchmark(
        benchmark=fits[0].cells.benchmark,
        metric=fits[0].cells.metric,
        values=tuple(values),
        as_good=_as_good(p_best, place.values),
        slope=slope,
        moves=_moves(values, slope),
        left_out=left_out,
    )


def _inside(rates: Sequence[Sequence[RateAt]], sizes: Sequence[int]) -> list[int]:
    """Shared batch sizes at which the best rate of every value lies inside the measured ones."""
    inside = [
        {at.batch_size for at in of_value if at.status is RateStatus.INTERIOR} for of_value in rates
    ]
    return [size for size in sizes if all(size in of_value for of_value in inside)]


def _slope(place: Place, tops: Sequence[np.ndarray | None]) -> Slope | None:
    """By least squares over log2 of the setting, of three values or more, all above 0."""
    known = [top for top in tops if top is not None]
    if place.numbers is None or min(place.numbers) <= 0 or not len(known) == len(tops) > 2:
        return None
    x = np.log2(np.array(place.numbers))
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    draws = np.stack(known, axis=1) @ weights
    low, high = np.quantile(draws, LEVELS)
    return Slope(float(draws.mean()), float(low), float(high))


def _moves(values: Sequence[AtValue], slope: Slope | None) -> bool | None:
    """Whether an interval leaves out 0: of the slope where there is one, else of a shift."""
    if slope is not None:
        return not slope.low <= 0 <= slope.high
    shifts = [one.shift for one in values if one.shift is not None]
    return any(not low <= 0 <= high for _, low, high in shifts) if shifts else None


def _as_good(p_best: np.ndarray, values: Sequence[str]) -> tuple[str, ...]:
    """The fewest values that hold `APART` of the probability, and those between them."""
    order = np.argsort(-p_best, kind="stable")
    count = int(np.searchsorted(np.cumsum(p_best[order]), APART - 1e-9)) + 1
    kept = set(order[:count])
    return tuple(value for place, value in enumerate(values) if place in kept)
