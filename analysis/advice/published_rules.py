"""Published rules about learning rate and batch size: true, false or undecided on this grid.

Each is read from the same draws as the answers beside it. Of several benchmarks a rule is true or
false only where all those that decide it agree; evidence is not added up over benchmarks, which
share their models.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.advice.contrast import CONTRADICTED, SUPPORTED, Contrast
from analysis.advice.rule_odds import Odds, larger_and_lower, near, odds_of, rises_then_falls
from analysis.benchmarks import task
from analysis.fit.curves import Curves
from analysis.fit.exponent import NEAR
from analysis.fit.ratio import keep
from analysis.fit.surface import Fit
from analysis.tables import published
from analysis.tables.recipe import UNKNOWN, recipe
from analysis.text import listed, number, probability, rate, signed

HOLDS = 0.9
"""Probability from which a rule is called true, and of what speaks against it from which it is
called false."""

NEAR_028 = 0.11
"""Within this of 0.28 an exponent is the rule's: half of the way to the square root."""

OUTSIDE = 0.5
"""Octaves beyond the measured cells up to which a published setting is priced."""


class Verdict(StrEnum):
    TRUE = "true"
    FALSE = "false"
    UNDECIDED = "undecided"


class OnBenchmark(NamedTuple):
    """A rule on one benchmark: its probability, None where it cannot be asked, and what following
    it costs in the metric's units, mean and 95 % bound, None where it has no cost of its own."""

    benchmark: str
    label: str
    verdict: Verdict
    probability: float | None
    regret: float | None
    regret_high: float | None


class Rule(NamedTuple):
    """One published rule with its source, verdict and a sentence computed from `benchmarks`."""

    name: str
    statement: str
    source: str
    verdict: Verdict
    sentence: str
    benchmarks: tuple[OnBenchmark, ...]


def rules(
    stage: str, fits: Sequence[Fit], contrast: Contrast, rows: pd.DataFrame | None = None
) -> tuple[Rule, ...]:
    """Every rule about one grid. `rows`, its results, give the model's and the data's size, without
    which Step Law's setting is not known, and the optimizer: rules are of AdamW, and none but the
    paper's own is asked of another; settings are of AdamW on all weights."""
    made = UNKNOWN if rows is None else recipe(rows)
    if not made.adam:
        return (_higher_ratio(contrast),)
    shaped = [(fit, fit.curves) for fit in fits if fit.shaped and fit.curves is not None]

    def each(ask: Callable[[Curves], Odds | None], kept: str = "") -> list[OnBenchmark]:
        return [
            _on(fit, curves, None if curves.no_rates else ask(curves), kept)
            for fit, curves in shaped
        ]

    asked = [
        _rule(
            "larger_batch_lower_rate",
            "larger batches with lower learning rates do better",
            "arXiv 2412.13337",
            each(larger_and_lower),
        ),
        _rule(
            "root_batch",
            "the best learning rate grows as the square root of the batch size",
            "Malladi et al. 2022, arXiv 2205.10287",
            each(lambda curves: near(curves, 0.5, NEAR), "root"),
        ),
        _rule(
            "batch_to_the_0.28",
            f"the best learning rate grows as B^0.28, within {NEAR_028}",
            "Marek et al. 2025, arXiv 2507.07101",
            each(lambda curves: near(curves, 0.28, NEAR_028), "0.28"),
        ),
        _rule(
            "rises_then_falls",
            "the best learning rate rises and then falls with the batch size",
            "arXiv 2602.09492",
            each(rises_then_falls),
        ),
    ]
    points = [] if made.adapter else _points(stage, rows)
    settings = [_at_setting(name, source, *at, shaped) for name, source, at in points]
    return (_higher_ratio(contrast), *asked, *settings)


def _on(fit: Fit, curves: Curves, odds: Odds | None, kept: str) -> OnBenchmark:
    known = task(fit.cells.benchmark)
    asked = kept and not curves.no_rates
    cost = keep(curves, kept, {"root": 0.5, "0.28": 0.28}[kept]) if asked else None
    verdict = Verdict.UNDECIDED
    if odds is not None and odds.holds >= HOLDS:
        verdict = Verdict.TRUE
    elif odds is not None and odds.against >= HOLDS:
        verdict = Verdict.FALSE
    return OnBenchmark(
        known.benchmark,
        known.label,
        verdict,
        None if odds is None else odds.holds,
        None if cost is None else cost.expected,
        None if cost is None else cost.high,
    )


def _rule(name: str, statement: str, source: str, benchmarks: list[OnBenchmark]) -> Rule:
    verdict = _together(benchmarks)
    parts = [
        f"{benchmark.label} {benchmark.verdict}"
        + (
            ""
            if benchmark.probability is None
            else f" (probability {probability(benchmark.probability)})"
        )
        for benchmark in benchmarks
    ]
    because = listed(parts) if parts else "no benchmark's cells are known to differ beyond noise"
    sentence = f"{statement[0].upper()}{statement[1:]}: {verdict} here; {because}."
    return Rule(name, statement, source, verdict, sentence, tuple(benchmarks))


def _together(benchmarks: Sequence[OnBenchmark]) -> Verdict:
    decided = {benchmark.verdict for benchmark in benchmarks} - {Verdict.UNDECIDED}
    return decided.pop() if len(decided) == 1 else Verdict.UNDECIDED


def _higher_ratio(contrast: Contrast) -> Rule:
    statement = "reasoning gains from a higher ratio than pattern recognition"
    verdict = {SUPPORTED: Verdict.TRUE, CONTRADICTED: Verdict.FALSE}.get(
        contrast.verdict, Verdict.UNDECIDED
    )
    if contrast.octaves is None:
        because = contrast.missing
    elif contrast.low is None and contrast.high is None:
        because = "nothing bounds the difference: best rates lie at ends of the measured ones"
    elif contrast.visible is None:
        because = (
            f"at equal batch sizes its best rate is away by {contrast.span} octaves; that of at "
            "least one type lies at an end of the measured ones or beyond"
        )
    else:
        because = (
            f"at equal batch sizes its best rate is {signed(contrast.octaves)} octaves away "
            f"({contrast.span}); this grid sees differences from {contrast.visible:.1f} octaves"
        )
    sentence = f"{statement[0].upper()}{statement[1:]}: {verdict} here; {because}."
    source = "SmolTulu, arXiv 2412.08347"
    return Rule("higher_ratio_helps_reasoning", statement, source, verdict, sentence, ())


def _points(
    stage: str, rows: pd.DataFrame | None
) -> list[tuple[str, str, tuple[float, float, str]]]:
    """Published settings as (name, source, (learning rate, batch size, what it was made for))."""
    points = [
        (
            one.name,
            f"{one.name}, table {one.table}",
            (one.learning_rate, float(one.batch_size), one.model),
        )
        for one in published.of_stage(stage)
        if one.name.startswith("Tulu 3")
    ]
    if (law := step_law(rows)) is not None:
        source = "Step Law, arXiv 2503.04715, equation 1"
        points.append(("Step Law", source, (*law, "pretraining at this size and these tokens")))
    return points


def step_law(rows: pd.DataFrame | None) -> tuple[float, float] | None:
    """Learning rate and batch size in examples of Step Law for the run's parameters N and tokens D:
    LR = 1.79 N^-0.713 D^0.307, BS = 0.58 D^0.571 tokens (equation 1); None where N, D or the
    tokens of an example are not known."""
    needed = ("model_parameters", "tokens", "examples")
    if rows is None or not set(needed) <= set(rows.columns):
        return None
    sizes = [
        float(np.nanmedian(rows[column].to_numpy(dtype=float, na_value=np.nan)))
        for column in needed
        if bool(np.any(rows[column].notna()))
    ]
    if len(sizes) < len(needed):
        return None
    n, tokens, examples = sizes
    if not (n > 0 and tokens > 0 and examples > 0):
        return None
    return 1.79 * n**-0.713 * tokens**0.307, 0.58 * tokens**0.571 / (tokens / examples)


def _at_setting(
    name: str,
    source: str,
    learning_rate: float,
    batch_size: float,
    made_for: str,
    shaped: Sequence[tuple[Fit, Curves]],
) -> Rule:
    """Whether a published setting loses less than epsilon here, and what it loses."""
    statement = (
        f"{rate(learning_rate)} with batch size {max(batch_size, 1):.0f} ({made_for}) is best"
    )
    benchmarks = []
    for fit, curves in shaped:
        lost = _lost(curves, float(np.log2(learning_rate)), float(np.log2(batch_size)))
        one = _on(fit, curves, None if lost is None else odds_of(lost <= curves.epsilon), "")
        if lost is not None:
            high = float(np.quantile(lost, 0.95))
            one = one._replace(regret=float(lost.mean()), regret_high=high)
        benchmarks.append(one)
    verdict = _together(benchmarks)
    parts = [
        f"{number(benchmark.regret)} of {benchmark.label} (at most {number(benchmark.regret_high)})"
        for benchmark in benchmarks
        if benchmark.regret is not None and benchmark.regret_high is not None
    ]
    because = f"it loses {listed(parts)}" if parts else "it lies outside the measured cells"
    sentence = f"{name}, {statement}: {verdict} here; {because}."
    return Rule(safe_name(name), statement, source, verdict, sentence, tuple(benchmarks))


def safe_name(name: str) -> str:
    return "setting_" + "_".join(name.lower().replace("-", " ").split())


def _lost(curves: Curves, x: float, y: float) -> np.ndarray | None:
    if curves.no_rates:
        return None
    rates = curves.x[curves.measured.any(axis=0)]
    inside = rates.min() - OUTSIDE <= x <= rates.max() + OUTSIDE
    inside &= curves.y.min() - OUTSIDE <= y <= curves.y.max() + OUTSIDE
    if not inside:
        return None
    scores = curves.posterior.scores(np.array([x]), np.array([y]))[:, 0]
    return np.maximum(curves.best - np.maximum(scores, curves.cells.bounds[0]), 0)
