"""Fits -> a recommended LR/BS ratio per benchmark and task type, or "undecided" and why.

Every sentence is computed from the fits. A task type's ratio is the geometric mean over those of
its benchmarks that were identified, with equal weights: a statement about these benchmarks only.
A mix of benchmarks has weights of its own (`analysis.advice.task_mix`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.advice.answers import Answers, answers
from analysis.advice.claims import Claim, claims
from analysis.advice.task_mix import Compromise, compromise
from analysis.benchmarks import TASK_TYPE_LABELS, task
from analysis.fit.cells import Cells
from analysis.fit.surface import CLIFF, Fit, FitStatus
from analysis.text import listed, rate, title


@dataclass(frozen=True)
class BestCell:
    """The cell with the best score; chosen on that score, so the score is a little too good."""

    learning_rate: float
    batch_size: int
    lr_bs_ratio: float
    value: float | None


@dataclass(frozen=True)
class Recommendation:
    """What to use for one benchmark or task type; ratio, bounds and rates only when identified.

    low and high bound the ratio at 95 %; `learning_rate` is keyed by batch size.
    """

    label: str
    status: FitStatus
    reason: str
    ratio: float | None
    low: float | None
    high: float | None
    log2_ratio: float | None
    learning_rate: dict[str, float]
    best_cell: BestCell | None
    benchmarks: tuple[str, ...]
    sentence: str
    next_step: str


@dataclass(frozen=True)
class Advice:
    """All that is said about one grid: a stage, or one arm of it. `mix` is the compromise of its
    benchmarks, None where there is but one. `answers` come first wherever both are shown."""

    stage: str
    arm: str
    fits: tuple[Fit, ...]
    benchmarks: dict[str, Recommendation]
    task_types: dict[str, Recommendation]
    claims: dict[str, Claim]
    mix: Compromise | None
    answers: Answers

    @property
    def name(self) -> str:
        return f"{self.stage}-{self.arm}" if self.arm else self.stage


def advise(
    fits: Iterable[Fit],
    weights: Mapping[str, float] | None = None,
    frame: pd.DataFrame | None = None,
) -> list[Advice]:
    """One `Advice` per stage and arm, in the order of the fits; `weights` by benchmark are those of
    the mix (`task_mix.equal_weights` where None); `frame` holds the results, whose sizes of models
    and data some published rules need."""
    groups: dict[tuple[str, str], list[Fit]] = {}
    for fit in fits:
        groups.setdefault((fit.cells.stage, fit.cells.arm), []).append(fit)
    return [
        _advice(stage, arm, members, weights, _rows(frame, stage, arm))
        for (stage, arm), members in groups.items()
    ]


def _rows(frame: pd.DataFrame | None, stage: str, arm: str) -> pd.DataFrame | None:
    return None if frame is None else frame.loc[(frame.stage == stage) & (frame.arm == arm)]


def _advice(
    stage: str,
    arm: str,
    fits: list[Fit],
    weights: Mapping[str, float] | None,
    rows: pd.DataFrame | None,
) -> Advice:
    types: dict[str, list[Fit]] = {kind: [] for kind in TASK_TYPE_LABELS}
    for fit in fits:
        types[task(fit.cells.benchmark).task_type].append(fit)
    # one task of no type is no type
    named = {kind: members for kind, members in types.items() if members and kind != "other"}
    answer = answers(fits, weights, rows)
    return Advice(
        stage=stage,
        arm=arm,
        fits=tuple(fits),
        benchmarks={fit.cells.benchmark: _for_benchmark(fit) for fit in fits},
        task_types={kind: _for_type(kind, members) for kind, members in named.items()},
        claims=claims(stage, fits, answer),
        mix=compromise(fits, weights),
        answers=answer,
    )


def _for_benchmark(fit: Fit) -> Recommendation:
    label = task(fit.cells.benchmark).label
    rates = (fit.best_learning_rate or {}) if fit.status is FitStatus.IDENTIFIED else {}
    return _recommendation(
        label, fit.status, fit.reason, [fit], rates, _best_cell([fit.cells]), _next_step([fit])
    )


def _for_type(kind: str, fits: list[Fit]) -> Recommendation:
    label = TASK_TYPE_LABELS[kind]
    known = [fit for fit in fits if fit.status is FitStatus.IDENTIFIED]
    best = _best_cell([fit.cells for fit in known or fits])
    if known:
        sizes = set.intersection(*(set(fit.best_learning_rate or {}) for fit in known))
        rates = {
            size: float(
                np.exp(np.mean([np.log((fit.best_learning_rate or {})[size]) for fit in known]))
            )
            for size in sorted(sizes)
        }
        left = [fit for fit in fits if fit not in known]
        rest = f"; {_undecided(left)}" if left else ""
        reason = f"from {_names(known)}{rest}" if len(fits) > 1 else fits[0].reason
        return _recommendation(label, FitStatus.IDENTIFIED, reason, known, rates, best, "")
    status = _first(fits).status
    return _recommendation(label, status, _undecided(fits), fits, {}, best, _next_step(fits))


def _recommendation(
    label: str,
    status: FitStatus,
    reason: str,
    fits: list[Fit],
    rates: dict[int, float],
    best: BestCell | None,
    next_step: str,
) -> Recommendation:
    ratio = low = high = log2_ratio = None
    if status is FitStatus.IDENTIFIED:
        log2_ratio, log2_low, log2_high = _interval(fits)
        ratio, low, high = (float(2**power) for power in (log2_ratio, log2_low, log2_high))
        sentence = (
            f"{label}: use an LR/BS ratio near {rate(ratio)} "
            f"(95 % interval {rate(low)} to {rate(high)}){_rate_words(rates)}."
        )
    else:
        sentence = f"{label}: undecided, because {reason}."
        if best and best.value is not None:
            sentence += (
                f" The best cell so far is learning rate {rate(best.learning_rate)} with batch "
                f"size {best.batch_size}."
            )
    return Recommendation(
        label=label,
        status=status,
        reason=reason,
        ratio=ratio,
        low=low,
        high=high,
        log2_ratio=log2_ratio,
        learning_rate={str(size): rate for size, rate in rates.items()},
        best_cell=best,
        benchmarks=tuple(fit.cells.benchmark for fit in fits),
        sentence=sentence,
        next_step=next_step,
    )


def _interval(fits: list[Fit]) -> tuple[float, float, float]:
    """Mean log2 ratio of the fits and its 95 % interval from their draws, taken side by side."""
    tops = [fit.optimum.log2_ratio for fit in fits if fit.optimum]
    draws = np.mean([fit.ratio_draws for fit in fits if fit.ratio_draws is not None], axis=0)
    middle = float(np.mean(tops))
    low, high = np.quantile(draws, [0.025, 0.975])
    return middle, min(float(low), middle), max(float(high), middle)


def _rate_words(rates: dict[int, float]) -> str:
    pairs = [f"{rate(best)} at batch size {size}" for size, best in rates.items()]
    return f": learning rate {listed(pairs)}" if pairs else ""


def _best_cell(surfaces: list[Cells]) -> BestCell | None:
    """The cell nearest to best on every surface: least mean shortfall as a share of the range."""
    shortfalls: dict[tuple[float, int], list[float]] = {}
    for cells in surfaces:
        rows = cells.table[cells.ok]
        score = cells.sign * rows.value
        span = float(score.max() - score.min()) or 1.0
        for *cell, value in zip(rows.learning_rate, rows.batch_size, score, strict=True):
            shortfalls.setdefault((cell[0], cell[1]), []).append(float(score.max() - value) / span)
    complete = {cell: lost for cell, lost in shortfalls.items() if len(lost) == len(surfaces)}
    if not complete:
        return None
    learning_rate, size = min(complete, key=lambda cell: (float(np.mean(complete[cell])), cell))
    value = None
    if len(surfaces) == 1:
        rows = surfaces[0].table
        here = rows[(rows.learning_rate == learning_rate) & (rows.batch_size == size)]
        value = float(here.value.iloc[0])
    return BestCell(learning_rate, size, learning_rate / size, value)


def _first(fits: list[Fit]) -> Fit:
    """The one whose trouble to mend first: a border before noise, noise before too few cells."""
    worst_first = [FitStatus.EDGE, FitStatus.FLAT, FitStatus.TOO_FEW, FitStatus.IDENTIFIED]
    return min(fits, key=lambda fit: worst_first.index(fit.status))


def _next_step(fits: list[Fit]) -> str:
    """What would decide them; of several at a border, every border."""
    fit = _first(fits)
    match fit.status:
        case FitStatus.IDENTIFIED:
            return ""
        case FitStatus.TOO_FEW:
            return "Score at least 3 learning rates x 3 batch sizes, 9 cells or more."
        case FitStatus.FLAT if fit.flat_p is not None and fit.flat_p > 0.05:
            return "Add seeds or items to see smaller differences, or widen the learning rates."
        case FitStatus.FLAT:
            return "Add seeds, or cells between the best ones, to place the top."
    at_border = [fit for fit in fits if fit.status is FitStatus.EDGE]
    steps = list(dict.fromkeys(step for fit in at_border for step in _extensions(fit)))
    return f"Extend the grid: {listed(steps)}." if steps else ""


def _extensions(fit: Fit) -> Iterator[str]:
    table, ok = fit.cells.table, fit.cells.table[fit.cells.ok]
    for edge in fit.edges:
        match edge.split():
            case ["higher", *_]:
                yield _above(ok.learning_rate.max(), table)
            case ["lower", *_]:
                yield f"add learning rates below {rate(ok.learning_rate.min())}"
            case ["smaller", *_]:
                yield f"add batch sizes below {ok.batch_size.min()}"
            case ["larger", *_]:
                yield f"add batch sizes above {ok.batch_size.max()}"
            case _ if edge == CLIFF:
                yield "add learning rates just below those that diverge"


def _above(highest: float, table: Any) -> str:
    diverged = table[(table.status == "diverged") & (table.learning_rate > highest)]
    if diverged.empty:
        return f"add learning rates above {rate(highest)}"
    wall = rate(diverged.learning_rate.min())
    return f"add learning rates between {rate(highest)} and {wall}, where training diverges"


def _names(fits: list[Fit]) -> str:
    return listed([task(fit.cells.benchmark).label for fit in fits])


def _undecided(fits: list[Fit]) -> str:
    return listed([f"{task(fit.cells.benchmark).label}: {fit.reason}" for fit in fits], "; ")


def headline(advice: Advice) -> str:
    """One sentence for the top of a page: what is decided and what is not."""
    named = advice.task_types or advice.benchmarks
    known = [one for one in named.values() if one.status is FitStatus.IDENTIFIED]
    rest = [one for one in named.values() if one.status is not FitStatus.IDENTIFIED]
    parts = []
    if known:
        ratios = [f"{rate(one.ratio or 0)} for {_said(one, advice)}" for one in known]
        parts.append(f"use an LR/BS ratio near {listed(ratios)}")
    if rest:
        parts.append(f"undecided for {listed([_said(one, advice) for one in rest])}")
    return f"{title(advice.stage, advice.arm)}: {'; '.join(parts)}."


def _said(one: Recommendation, advice: Advice) -> str:
    return one.label.lower() if advice.task_types else one.label
