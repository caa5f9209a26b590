"""The seven answers as sentences and rows, the same on the page, in the terminal and in
recommendations.json.

Every word is computed from the answers; numbers have as many digits as their intervals support.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from analysis.advice.answers import BenchmarkAnswer, Signal
from analysis.advice.contrast import CONTRADICTED, SUPPORTED, Contrast
from analysis.advice.published_rules import Rule, Verdict
from analysis.benchmarks import task
from analysis.fit.batch import Batch
from analysis.fit.exponent import NEAR, Gamma
from analysis.fit.flatness import UNREPEATED
from analysis.fit.rates import RateAt, RateStatus
from analysis.text import (
    Unit,
    listed,
    number,
    probability,
    rate,
    rounded,
    with_interval,
)

RULE_NAMES = {"ratio": "one ratio", "root": "the square-root rule", "fixed": "one learning rate"}
"""Rules that set the learning rate for every batch size."""

NO_SIGNAL = {
    Signal.CONSTANT: "every cell has the same score",
    Signal.CHANCE: "every cell is at chance",
    Signal.TOO_FEW: "too few cells to tell a difference from noise",
    Signal.FLAT: "cells do not differ beyond noise",
    Signal.UNREPEATED: UNREPEATED,
}
"""Why nothing is said of a benchmark."""

HIGHER_RATIO = "higher_ratio_helps_reasoning"
"""The rule that the contrast of task types answers."""


class RateRow(NamedTuple):
    """One batch size of the table of learning rates: a text per column."""

    batch_size: int
    texts: list[str]


def rate_text(rate: RateAt | None) -> str:
    """1.1e-3 (7e-4 to 2e-3); above 4.5e-3, at the edge; any of 4e-4 to 4e-3."""
    if rate is None:
        return "-"
    match rate.status:
        case RateStatus.INTERIOR:
            return with_interval(rate.learning_rate, rate.low, rate.high)
        case RateStatus.EDGE if rate.side == "higher":
            return f"above {number(rate.low, smallest=1e-2)}, at the upper edge"
        case RateStatus.EDGE:
            return f"below {number(rate.high, smallest=1e-2)}, at the lower edge"
    start, end = rounded(rate.learning_rate, rate.level_low, rate.level_high)[1:]
    if start == end:
        start, end = rounded(rate.learning_rate, rate.low, rate.high)[1:]
    return f"open: {start} to {end}"


def rate_rows(columns: Sequence[Sequence[RateAt]]) -> list[RateRow]:
    """A row per batch size, a text per column (a benchmark or a task type)."""
    by_size = [{rate.batch_size: rate for rate in rates} for rates in columns]
    sizes = sorted({size for rates in by_size for size in rates})
    return [RateRow(size, [rate_text(rates.get(size)) for rates in by_size]) for size in sizes]


def rates(answer: BenchmarkAnswer) -> str:
    """Answer 1: which learning rate at each batch size."""
    if not answer.rates:
        return f"{answer.label}: {answer.no_rates}."
    if (why := _no_signal(answer)) is not None:
        if answer.signal in (Signal.TOO_FEW, Signal.UNREPEATED):
            return f"{answer.label}: {why}, so the best learning rate is open."
        return f"{answer.label}: {why}, so no learning rate is known to be better than another."
    if not answer.sized:
        return f"{answer.label}: {rate_text(answer.rates[0])}."
    texts = [f"{rate_text(rate)} at batch size {rate.batch_size}" for rate in answer.rates]
    return f"{answer.label}: {listed(texts, '; ')}."


def ratio(answer: BenchmarkAnswer, unit: Unit) -> str:
    """Answer 2: which ratio, and what keeping one for all batch sizes costs."""
    best = answer.ratio
    if not answer.sized:
        return f"{answer.label}: there is no ratio, as the batch size is not known."
    if best is None:
        return f"{answer.label}: {answer.no_rates}."
    if (why := _no_signal(answer)) is not None:
        return f"{answer.label}: {why}."
    match best.status:
        case RateStatus.INTERIOR:
            text = f"the best LR/BS is {with_interval(best.ratio, best.low, best.high)}"
        case RateStatus.EDGE:
            end = "upper" if best.side == "higher" else "lower"
            text = f"the best LR/BS lies at the {end} end, near {rate(best.ratio)}"
        case _:
            start, end = rounded(best.ratio, best.low, best.high)[1:]
            text = f"the best LR/BS is open within {start} to {end}"
    if len(answer.rates) < 2:
        return f"{answer.label}: {text}."
    costs = [
        f"{RULE_NAMES[name]} loses {unit.amount(kept.expected)}"
        + bound(unit, kept.expected, kept.high, " (at most {})")
        for name, kept in best.keep.items()
        if name in RULE_NAMES
    ]
    kept = ". ".join(_upper(cost) for cost in costs)
    return f"{answer.label}: {text}. Kept for all batch sizes, at the worst of them: {kept}."


def gamma(answer: BenchmarkAnswer) -> str:
    """Answer 3: how the best learning rate follows the batch size."""
    slope = answer.gamma
    if len(answer.rates) > 1 and (why := _no_signal(answer)) is not None:
        return f"{answer.label}: {why}."
    if slope is None:
        return f"{answer.label}: {_no_slope(answer)}."
    text = f"{_course(slope)} ({_exponent(slope.low)} to {_exponent(slope.high)})"
    if slope.p_linear >= 0.5:
        text += f", about in proportion (probability {probability(slope.p_linear)})"
    elif slope.p_root >= 0.5:
        text += f", about as the square root (probability {probability(slope.p_root)})"
    else:
        text += (
            f"; in proportion with probability {probability(slope.p_linear)}, as the square root "
            f"with {probability(slope.p_root)}"
        )
    return f"{answer.label}: {text}. {_upper(_follows(answer))}."


def _course(slope: Gamma) -> str:
    """How the rate moves as the batch grows; one that may move either way by little stays."""
    if slope.low <= 0 <= slope.high and max(-slope.low, slope.high) <= NEAR:
        return f"stays much the same, as B^{_exponent(slope.value)}"
    return f"{'falls' if slope.value < 0 else 'grows'} as B^{_exponent(slope.value)}"


def _exponent(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # no -0.00


def _follows(answer: BenchmarkAnswer) -> str:
    """Whether one ratio serves, never against what answer 2 says that it loses."""
    if answer.ratio_is_sufficient is Verdict.TRUE:
        return "one ratio serves all batch sizes here"
    best = answer.ratio
    cheap = (
        []
        if best is None
        else [name for name, rule in best.keep.items() if rule.high <= best.epsilon]
    )
    if answer.ratio_is_sufficient is Verdict.FALSE:
        does = "one learning rate does" if "fixed" in cheap else "take the rate of each"
        return f"one ratio does not serve all batch sizes: {does}"
    if "ratio" in cheap:
        return "one ratio serves all the same: it loses too little to matter"
    return "whether one ratio serves all batch sizes is open"


def batch_size(answer: BenchmarkAnswer, unit: Unit) -> str:
    """Answer 4: which batch size, each at its own best learning rate."""
    way = answer.direction
    if way is None:
        return f"{answer.label}: {answer.no_rates}."
    if len(way.batch_sizes) < 2:
        return f"{answer.label}: one batch size was measured, so there is nothing to compare."
    if (why := _no_signal(answer)) is not None:
        return f"{answer.label}: {why}."
    share = probability(max(way.p_best))
    match way.verdict:
        case Batch.SMALLER:
            text = f"smaller is better: {way.best}, the smallest, is the best ({share})"
        case Batch.LARGER:
            text = f"larger is better: {way.best}, the largest, is the best ({share})"
        case Batch.INTERIOR:
            text = f"the best lies inside ({probability(way.p_interior)}), most likely {way.best}"
        case Batch.INDIFFERENT:
            text = f"all from {way.batch_sizes[0]} to {way.batch_sizes[-1]} score alike"
        case _:
            text = f"open; most likely {way.best} ({share})"
    if way.next_batch_size is None or way.verdict not in (Batch.SMALLER, Batch.LARGER):
        return f"{answer.label}: {text}."
    if way.next_gain is None or way.next_gain_high is None:
        text += f". Batch size {way.next_batch_size} has no score"
    else:
        text += (
            f". Batch size {way.next_batch_size} was not run; it might gain "
            f"{unit.amount(way.next_gain)}, at most {unit.amount(way.next_gain_high)}"
        )
    return f"{answer.label}: {text}."


def rule(rule: Rule, units: Mapping[str, Unit]) -> str:
    """Answer 7: one published rule, with the benchmarks for which it holds and does not."""
    is_setting = rule.name.startswith("setting_")
    statement = rule.statement[:1].upper() + rule.statement[1:]
    if is_setting:
        statement = f"The setting of {rule.source.split(', ')[0]}, {rule.statement}"
    if rule.name == HIGHER_RATIO:
        return f"{statement}: see the answer above."
    if not rule.benchmarks:
        why = "no benchmark's cells are known to differ beyond noise"
        return f"{statement}: cannot be asked here, as {why}."
    if all(each.probability is None for each in rule.benchmarks):
        why = "it lies outside the measured cells" if is_setting else "it needs other cells"
        return f"{statement}: cannot be asked here, as {why}."
    parts = []
    for verdict, word in (
        (Verdict.TRUE, "true"),
        (Verdict.FALSE, "false"),
        (Verdict.UNDECIDED, "open"),
    ):
        labels = [each.label for each in rule.benchmarks if each.verdict is verdict]
        if labels:
            everywhere = len(labels) == len(units) > 1
            parts.append(f"{word} for {'every benchmark' if everywhere else listed(labels)}")
    text = f"{statement}: {'; '.join(parts)}."
    losses = [
        f"{units[each.benchmark].amount(each.regret)} ({each.label})"
        for each in rule.benchmarks
        if each.regret is not None
    ]
    return f"{text} Following it loses {listed(losses)}." if losses else text


def contrast(contrast: Contrast) -> str:
    """Answer 6: whether reasoning and pattern recognition want different learning rates."""
    if contrast.octaves is None:
        return f"Cannot be compared here: {contrast.missing}."
    chance = f"probability that it is higher: {probability(contrast.p_higher or 0.0)}"
    text = "At equal batch sizes the best learning rate of reasoning is "
    if contrast.low is None and contrast.high is None:
        text += f"away from the other by a number of octaves that nothing bounds ({chance}). Best "
        text += "rates lie at ends of the measured ones or beyond."
    elif contrast.visible is None:
        text += f"away from the other by {contrast.span} octaves ({chance}). That of at least one "
        text += "type lies at an end of the measured ones or beyond: no bound there."
    else:
        way = "higher" if contrast.octaves > 0 else "lower"
        apart = f"{abs(contrast.octaves):.1f} octaves {way}"
        text += "the same" if apart.startswith("0.0") else apart
        text += f" ({contrast.span}; {chance}). This grid "
        text += f"would have seen a difference of {contrast.visible:.1f} octaves or more."
    verdict = {
        SUPPORTED: "So it agrees with the SmolTulu paper, where reasoning wants a higher ratio.",
        CONTRADICTED: "So it contradicts the SmolTulu paper, where reasoning wants a higher ratio.",
    }.get(
        contrast.verdict,
        "So it leaves open whether reasoning wants a higher ratio, as in the SmolTulu paper.",
    )
    left = ""
    if contrast.left_out:
        labels = listed([task(name).label for name in contrast.left_out])
        left = f" Left out, because cells are not known to differ beyond noise: {labels}."
    return f"{text} {verdict}{left}"


def _no_signal(answer: BenchmarkAnswer) -> str | None:
    return NO_SIGNAL.get(answer.signal)


def _no_slope(answer: BenchmarkAnswer) -> str:
    if len(answer.rates) < 2:
        return answer.no_rates if not answer.rates else "one batch size was measured"
    return "too few batch sizes have their best learning rate inside the grid"


def bound(unit: Unit, expected: float, high: float, words: str) -> str:
    """`words` with the 95 % bound of an expected amount; "" where they are written alike."""
    most = unit.amount(high)
    return "" if most == unit.amount(expected) else words.format(most)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
