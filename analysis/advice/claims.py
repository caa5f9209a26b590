"""Three claims, each with a probability and the test that made it; None where it is undecidable.

The probabilities rest on the optima's draws and on Akaike weights: statements about the benchmarks
named, not about all tasks of their type.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import comb
from typing import Any

import numpy as np

from analysis import text
from analysis.benchmarks import task
from analysis.fit.surface import Fit, FitStatus
from analysis.text import listed, number


@dataclass(frozen=True)
class Claim:
    """`probability` is None where the data cannot decide; the sentence then says why."""

    statement: str
    probability: float | None
    test: str
    sentence: str
    evidence: dict[str, Any] = field(default_factory=dict)


def claims(stage: str, fits: Sequence[Fit]) -> dict[str, Claim]:
    """Every claim about one grid, by name."""
    return {
        "ratio_is_sufficient": ratio_is_sufficient(fits),
        "reasoning_prefers_higher_ratio": reasoning_prefers_higher_ratio(fits),
        "agrees_with_the_paper": agrees_with_the_paper(stage, fits),
    }


def ratio_is_sufficient(fits: Sequence[Fit]) -> Claim:
    """Akaike weight of the ratio alone against the learning rate alone and both axes."""
    statement = "the ratio is sufficient"
    test = (
        "AICc weights of three quadratics on the same cells: in log2 ratio, in log2 learning rate, "
        "in both axes; summed over benchmarks. F tests of ratio against both axes per benchmark."
    )
    told = {
        fit.cells.benchmark: fit.rivals
        for fit in fits
        if fit.rivals and fit.rivals.p is not None and (fit.flat_p or 0) <= 0.05
    }
    if not told:
        reason = "no benchmark has a surface with shape and enough cells to compare the rivals on"
        return Claim(statement, None, test, f"Undecided whether the ratio is sufficient: {reason}.")
    criteria = np.array(
        [(r.ratio.aicc, r.learning_rate.aicc, r.full_aicc) for r in told.values()], dtype=float
    ).sum(axis=0)
    weights = np.exp(-(criteria - criteria.min()) / 2)
    weights /= weights.sum()
    evidence = {
        name: {
            "r2_ratio": rivals.ratio.r2,
            "r2_learning_rate": rivals.learning_rate.r2,
            "r2_both_axes": rivals.full_r2,
            "f": rivals.f,
            "p": rivals.p,
        }
        for name, rivals in told.items()
    }
    winner = (
        "The ratio alone predicts",
        "The learning rate alone predicts",
        "Both axes together predict",
    )[int(weights.argmax())]
    r2 = [
        np.median([e[name] for e in evidence.values()])
        for name in ("r2_ratio", "r2_learning_rate", "r2_both_axes")
    ]
    refused = sum(rivals.p is not None and rivals.p < 0.05 for rivals in told.values())
    sentence = (
        f"{winner} best: near the top the ratio explains {r2[0]:.0%} of the "
        f"score's variance, the learning rate {r2[1]:.0%} and both {r2[2]:.0%} (median of "
        f"{len(told)}); the F test refuses the ratio alone on {refused} of {len(told)}."
    )
    return Claim(statement, float(weights[0]), test, sentence, evidence)


def reasoning_prefers_higher_ratio(fits: Sequence[Fit]) -> Claim:
    """Share of draws in which the mean best log2 ratio of reasoning exceeds that of pattern."""
    statement = "reasoning prefers a higher ratio than pattern recognition"
    test = (
        "fixed contrast of the mean best log2 ratio of the named benchmarks, joint draws of each "
        "benchmark's optimum (items, seeds, model error)"
    )
    reasoning, pattern, gap = _two_types(fits)
    if gap:
        return Claim(
            statement, None, test, f"Undecided which type prefers the higher ratio: {gap}."
        )
    difference = _draws(reasoning).mean(axis=0) - _draws(pattern).mean(axis=0)
    probability = float((difference > 0).mean() + (difference == 0).mean() / 2)
    said = text.probability(probability)
    low, high = np.quantile(difference, [0.025, 0.975])
    tops = [
        np.mean([fit.optimum.log2_ratio for fit in group if fit.optimum])
        for group in (reasoning, pattern)
    ]
    octaves = float(tops[0] - tops[1])
    sentence = (
        f"{_names(reasoning)} against {_names(pattern)}: the best ratio of reasoning is "
        f"{abs(octaves):.1f} octaves {'higher' if octaves > 0 else 'lower'} (95 % interval "
        f"{low:+.1f} to {high:+.1f}); the probability that it is higher is {said}."
    )
    return Claim(
        statement,
        probability,
        test,
        sentence,
        {"octaves": octaves, "low": float(low), "high": float(high)},
    )


def agrees_with_the_paper(stage: str, fits: Sequence[Fit]) -> Claim:
    """Share of draws in which every reasoning benchmark lies above every pattern benchmark."""
    statement = "agrees with the paper"
    test = (
        "share of joint draws in which the best ratio of every reasoning benchmark exceeds that of "
        "every pattern benchmark (SmolTulu, arXiv 2412.08347: an SFT sweep of SmolLM2-135M)"
    )
    prefix = "Undecided whether this agrees with the paper: "
    if stage != "sft":
        return Claim(statement, None, test, f"{prefix}its claim is about SFT, not {stage}.")
    reasoning, pattern, gap = _two_types(fits)
    if gap:
        return Claim(statement, None, test, f"{prefix}{gap}.")
    above = _draws(reasoning).min(axis=0) > _draws(pattern).max(axis=0)
    probability = float(above.mean())
    pairs = len(reasoning) * len(pattern)
    by_chance = 1 / comb(len(reasoning) + len(pattern), len(reasoning))
    names = [fit.cells.benchmark for fit in (*reasoning, *pattern)]
    stand_ins = (
        " These are miniature stand-ins for the paper's benchmarks."
        if any(name.startswith("world_") for name in names)
        else ""
    )
    comparisons = f"{pairs} comparison{'s' if pairs > 1 else ''}"
    sentence = (
        f"The paper's order, each of {_names(reasoning)} above each of {_names(pattern)} "
        f"({comparisons}), has probability {text.probability(probability)}; with no difference "
        f"between the types it would be {number(by_chance)}.{stand_ins}"
    )
    return Claim(statement, probability, test, sentence, {"probability_by_chance": by_chance})


def _two_types(fits: Sequence[Fit]) -> tuple[list[Fit], list[Fit], str]:
    """The identified fits of both types, and what is missing ("" when nothing is)."""
    groups, gaps = [], []
    for kind, label in (("reasoning", "reasoning"), ("pattern", "pattern-recognition")):
        here = [fit for fit in fits if task(fit.cells.benchmark).task_type == kind]
        known = [fit for fit in here if fit.status is FitStatus.IDENTIFIED]
        groups.append(known)
        if not known:
            why = f"none of {_names(here)} has an identified optimum" if here else "none was scored"
            gaps.append(f"of the {label} benchmarks {why}")
    return groups[0], groups[1], " and ".join(gaps)


def _draws(fits: Sequence[Fit]) -> np.ndarray:
    """Draws of log2 ratio, fits x draws."""
    return np.array([fit.ratio_draws for fit in fits])


def _names(fits: Sequence[Fit]) -> str:
    return listed([task(fit.cells.benchmark).label for fit in fits])
