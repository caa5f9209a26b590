"""The seven answers of one grid, in the order in which they are shown everywhere.

1. LR*(B) at each measured batch size (`BenchmarkAnswer.rates`)
2. the ratio within the measured batch sizes and what keeping one costs (`ratio`)
3. gamma of LR*(B) ~ B^gamma and whether the ratio is sufficient (`gamma`, `ratio_is_sufficient`)
4. the direction of the batch size (`direction`)
5. a setting to use, of each benchmark (`setting`), task type and mix (`Answers`)
6. the contrast of task types at equal batch sizes (`Answers.contrast`)
7. published rules (`Answers.rules`)

All are read from the same joint draws (`analysis.fit.curves`). Regrets and gains are in the
metric's own units and at least 0, whichever direction is better.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm

from analysis.advice.contrast import Contrast, contrast
from analysis.advice.published_rules import Rule, Verdict, rules
from analysis.advice.setting import Setting, equal_weights, setting
from analysis.advice.type_rates import common_cells, type_rates, with_a_say
from analysis.benchmarks import TASK_TYPE_LABELS, task
from analysis.fit.batch import Direction, direction
from analysis.fit.exponent import Gamma, exponent
from analysis.fit.rates import RateAt, learning_rates
from analysis.fit.ratio import BestRatio, best_ratio
from analysis.fit.surface import Fit
from analysis.posterior.cells import Cells
from analysis.text import listed

SUFFICIENT = 0.9
"""Probability from which the ratio is called sufficient, or not so."""

CHANCE_LEVEL = 0.95
"""Cells are called at chance where the farthest of them lies no farther from it, in standard
errors, than in this share of joint draws of their noise."""


class Signal(StrEnum):
    """What the cells of a benchmark say at all: they differ; they are too few to be told from
    noise; they differ no more than noise does; not at all; no more than noise does, and every one
    is at the score of guessing; more than the noise of their items, with no seed repeated."""

    CLEAR = "clear"
    TOO_FEW = "too few"
    FLAT = "flat"
    CONSTANT = "constant"
    CHANCE = "at chance"
    UNREPEATED = "unrepeated"


class BenchmarkAnswer(NamedTuple):
    """Answers 1 to 5 of one benchmark. None where it has fewer than two scored cells; `gamma` also
    where fewer than two batch sizes were measured, `ratio` where the one batch size is not known
    (`sized` is False). Where rates cannot be compared, as with one of them or one ratio, `rates`
    are empty, `ratio` and `gamma` None, and `no_rates` says why.

    `p_flat`: chance of cells this unlike each other on a constant surface, None where there are too
    few. `ratio_is_sufficient`: gamma is linear and keeping one ratio costs less than epsilon at the
    worst batch size, by `gamma.p_sufficient`; false where gamma lies on one side of what is linear
    and that costs more, by `gamma.p_insufficient`, unless its interval holds 1.
    """

    benchmark: str
    label: str
    task_type: str
    metric: str
    higher_is_better: bool
    sized: bool
    signal: Signal
    p_flat: float | None
    epsilon: float | None
    rates: tuple[RateAt, ...]
    ratio: BestRatio | None
    gamma: Gamma | None
    ratio_is_sufficient: Verdict
    direction: Direction | None
    setting: Setting | None
    no_rates: str


class Answers(NamedTuple):
    """Everything about one grid: a stage, or one arm of it. `type_rates`: LR*(B) of each task type,
    of those that have them; `type_cells`: how many cells that rests on, of the types whose
    benchmarks were not all scored on the same cells. `mix` weighs all benchmarks, None with fewer
    than two; a loss and benchmarks of no type have a weight only by themselves."""

    stage: str
    arm: str
    benchmarks: dict[str, BenchmarkAnswer]
    type_rates: dict[str, tuple[RateAt, ...]]
    type_cells: dict[str, int]
    task_types: dict[str, Setting]
    mix: Setting | None
    contrast: Contrast
    rules: tuple[Rule, ...]

    @property
    def columns(self) -> list[tuple[str, tuple[RateAt, ...]]]:
        """LR*(B) with its label: of each task type that has one, and of every benchmark that is of
        none of these, which stands for itself."""
        types = [(TASK_TYPE_LABELS[kind], rates) for kind, rates in self.type_rates.items()]
        alone = [one for one in self.benchmarks.values() if one.task_type not in self.type_rates]
        return types + [(one.label, one.rates) for one in alone]

    @property
    def settings(self) -> list[Setting]:
        """Of each task type that has one, and of every benchmark that is of none of these."""
        alone = [one for one in self.benchmarks.values() if one.task_type not in self.task_types]
        return [*self.task_types.values(), *(one.setting for one in alone if one.setting)]


def answers(
    fits: Sequence[Fit],
    weights: Mapping[str, float] | None = None,
    rows: pd.DataFrame | None = None,
) -> Answers:
    """Of one grid's fits, one per benchmark. `weights` by benchmark are those of the mix
    (`equal_weights` where None); `rows` are the grid's results, for Step Law's setting."""
    stage, arm = (fits[0].cells.stage, fits[0].cells.arm) if fits else ("", "")
    given = equal_weights(fit.cells.benchmark for fit in fits) if weights is None else weights
    types: dict[str, list[Fit]] = {kind: [] for kind in TASK_TYPE_LABELS}
    for fit in fits:
        types[task(fit.cells.benchmark).task_type].append(fit)
    alike = {fit.cells.benchmark: 1.0 for fit in fits}
    benchmarks = {fit.cells.benchmark: _benchmark(fit) for fit in fits}
    own = {
        name: benchmark.setting
        for name, benchmark in benchmarks.items()
        if benchmark.setting is not None
    }
    # benchmarks that nobody has sorted are no type
    sorted_ = {kind: members for kind, members in types.items() if members and kind != "other"}
    rates = {kind: type_rates(members) for kind, members in sorted_.items()}
    by_type = {
        kind: setting(TASK_TYPE_LABELS[kind], members, alike, rates[kind], own)
        for kind, members in sorted_.items()
    }
    common = {
        kind: common_cells(known)
        for kind, members in sorted_.items()
        if (known := with_a_say(members))
    }
    mixed = [fit for fit in fits if given.get(fit.cells.benchmark, 0) > 0]
    mix = None
    if len(mixed) > 1:
        mix = setting(_of_mix(list(benchmarks), given), mixed, given, type_rates(mixed, given), own)
    between = contrast(fits)
    return Answers(
        stage=stage,
        arm=arm,
        benchmarks=benchmarks,
        type_rates={kind: rates_of_kind for kind, rates_of_kind in rates.items() if rates_of_kind},
        type_cells={kind: len(cells) for kind, cells in common.items() if cells is not None},
        task_types={kind: one for kind, one in by_type.items() if one is not None},
        mix=mix,
        contrast=between,
        rules=rules(stage, fits, between, rows),
    )


def _of_mix(benchmarks: Sequence[str], weights: Mapping[str, float]) -> str:
    """All benchmarks; else those that have a weight, by name, or those without one."""
    labels = [task(name).label for name in benchmarks if weights.get(name, 0) > 0]
    left_out = [task(name).label for name in benchmarks if weights.get(name, 0) <= 0]
    if not left_out:
        return "All benchmarks"
    if len(left_out) < len(labels):
        return f"All benchmarks but {listed(left_out)}"
    return f"{listed(labels)} together"


def plain(value: Any) -> Any:
    """Nested records as dictionaries and lists, for JSON."""
    if (record := getattr(value, "_asdict", None)) is not None:
        return {name: plain(part) for name, part in record().items()}
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def _benchmark(fit: Fit) -> BenchmarkAnswer:
    known, curves = task(fit.cells.benchmark), fit.curves
    ratio = gamma = batch = None
    rates: tuple[RateAt, ...] = ()
    if curves is not None:
        rates = learning_rates(curves, fit.shaped)
        ratio = best_ratio(curves, fit.shaped) if fit.cells.sized and rates else None
        if ratio is not None and len(curves.y) > 1:
            gamma = exponent(curves, ratio.keep["ratio"].constant)
        batch = direction(curves, fit.shaped)
    return BenchmarkAnswer(
        benchmark=known.benchmark,
        label=known.label,
        task_type=known.task_type,
        metric=fit.cells.metric,
        higher_is_better=fit.cells.higher_is_better,
        sized=fit.cells.sized,
        signal=_signal(fit),
        p_flat=fit.flat_p,
        epsilon=None if curves is None else curves.epsilon,
        rates=rates,
        ratio=ratio,
        gamma=gamma,
        ratio_is_sufficient=_sufficient(gamma, fit.shaped),
        direction=batch,
        setting=setting(known.label, [fit], {fit.cells.benchmark: 1.0}, rates),
        no_rates="too few scored cells to say" if curves is None else curves.no_rates,
    )


def _sufficient(gamma: Gamma | None, shaped: bool) -> Verdict:
    if gamma is None or not shaped:
        return Verdict.UNDECIDED
    if gamma.p_sufficient >= SUFFICIENT:
        return Verdict.TRUE
    refuted = gamma.p_insufficient >= SUFFICIENT and not gamma.low <= 1 <= gamma.high
    return Verdict.FALSE if refuted else Verdict.UNDECIDED


def _signal(fit: Fit) -> Signal:
    ok = fit.cells.table.loc[fit.cells.ok]
    if len(ok) > 1 and np.ptp(ok.value) == 0:
        return Signal.CONSTANT
    if fit.shaped:
        return Signal.CLEAR
    if _at_chance(fit.cells):
        return Signal.CHANCE
    if fit.beyond_items:
        return Signal.UNREPEATED
    return Signal.TOO_FEW if fit.flat_p is None else Signal.FLAT


def _at_chance(cells: Cells) -> bool:
    """Every scored cell lies within noise of the score of guessing, as many as they are."""
    level = task(cells.benchmark).chance
    ok = cells.table.loc[cells.ok]
    if level is None or not len(ok) or ok.stderr.isna().any():
        return False
    stderr = ok.total_stderr.to_numpy(dtype=float)
    farthest = np.abs(ok.value.to_numpy() - level) / stderr
    drawn = np.abs(cells.noise[:, cells.ok]) / cells.noise[:, cells.ok].std(axis=0).clip(1e-300)
    allowed = max(float(np.quantile(drawn.max(axis=1), CHANCE_LEVEL)), float(norm.isf(0.025)))
    return bool((farthest <= allowed).all())
