"""Three claims of recommendations.json, each read from the grid's answers; None where undecidable.

They are statements about the benchmarks named, not about all tasks of their type.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import comb
from typing import Any

import numpy as np

from analysis import text
from analysis.advice.answers import Answers, BenchmarkAnswer
from analysis.advice.contrast import Contrast
from analysis.advice.published_rules import Verdict
from analysis.benchmarks import task
from analysis.fit.surface import Fit
from analysis.text import listed, number


@dataclass(frozen=True)
class Claim:
    """`probability` is None where the data cannot decide or where each benchmark has its own; the
    sentence then says why."""

    statement: str
    probability: float | None
    test: str
    sentence: str
    evidence: dict[str, Any] = field(default_factory=dict)


def claims(stage: str, fits: Sequence[Fit], answer: Answers) -> dict[str, Claim]:
    """Every claim about one grid, by name."""
    return {
        "ratio_is_sufficient": ratio_is_sufficient(answer),
        "reasoning_prefers_higher_ratio": reasoning_prefers_higher_ratio(answer.contrast),
        "agrees_with_the_paper": agrees_with_the_paper(stage, fits, answer.contrast),
    }


def ratio_is_sufficient(answer: Answers) -> Claim:
    """Per benchmark: gamma is within 1/4 of 1 and one ratio costs less than epsilon at the worst
    batch size. Benchmarks share their models, so their evidence is not added up."""
    statement = "the ratio is sufficient"
    test = (
        "per benchmark, share of joint draws in which gamma of LR*(B) ~ B^gamma lies within 0.25 "
        "of 1 and keeping one ratio loses less than epsilon at the worst batch size"
    )
    known = [one for one in answer.benchmarks.values() if one.gamma is not None and one.ratio]
    evidence = {one.benchmark: _evidence(one) for one in known}
    groups = {
        verdict: [one.label for one in known if one.ratio_is_sufficient is verdict]
        for verdict in (Verdict.TRUE, Verdict.FALSE, Verdict.UNDECIDED)
    }
    words = {
        Verdict.TRUE: "The ratio alone is enough for",
        Verdict.FALSE: "it is not enough for",
        Verdict.UNDECIDED: "undecided for",
    }
    parts = [f"{words[verdict]} {listed(names)}" for verdict, names in groups.items() if names]
    if not parts:
        sentence = "Undecided whether the ratio is sufficient: no two batch sizes can be compared."
    else:
        sentence = f"{'; '.join(parts)}."
        sentence = sentence[0].upper() + sentence[1:]
    alone = known[0].gamma.p_sufficient if len(known) == 1 and known[0].gamma else None
    return Claim(statement, alone, test, sentence, evidence)


def _evidence(answer: BenchmarkAnswer) -> dict[str, Any]:
    gamma, ratio = answer.gamma, answer.ratio
    assert gamma is not None and ratio is not None
    kept = ratio.keep["ratio"]
    return {
        "verdict": answer.ratio_is_sufficient,
        "p_sufficient": gamma.p_sufficient,
        "p_linear": gamma.p_linear,
        "gamma": gamma.value,
        "gamma_low": gamma.low,
        "gamma_high": gamma.high,
        "regret": kept.expected,
        "regret_high": kept.high,
        "epsilon": answer.epsilon,
    }


def reasoning_prefers_higher_ratio(contrast: Contrast) -> Claim:
    """Share of draws in which reasoning's best rates exceed pattern's at equal batch sizes."""
    statement = "reasoning prefers a higher ratio than pattern recognition"
    test = (
        "mean over the batch sizes of the difference of the mean best log2 learning rate of the "
        "named benchmarks, joint draws of each surface (items, seeds, model error)"
    )
    if contrast.octaves is None or contrast.p_higher is None:
        sentence = f"Undecided which type prefers the higher ratio: {contrast.missing}."
        return Claim(statement, None, test, sentence)
    octaves = contrast.octaves
    sentence = (
        f"{_names(contrast.reasoning)} against {_names(contrast.pattern)}: at equal batch sizes "
        f"the best learning rate of reasoning is {abs(octaves):.1f} octaves "
        f"{'higher' if octaves > 0 else 'lower'} (95 % interval {contrast.low:+.1f} to "
        f"{contrast.high:+.1f}); the probability that it is higher is "
        f"{text.probability(contrast.p_higher)}. A difference of {contrast.visible:.1f} octaves "
        "or more would have been seen here."
    )
    evidence = {"octaves": octaves, "low": contrast.low, "high": contrast.high}
    return Claim(statement, contrast.p_higher, test, sentence, evidence)


def agrees_with_the_paper(stage: str, fits: Sequence[Fit], contrast: Contrast) -> Claim:
    """Share of draws in which every reasoning benchmark lies above every pattern benchmark."""
    statement = "agrees with the paper"
    test = (
        "share of joint draws in which the best learning rate, mean over the batch sizes, of every "
        "reasoning benchmark exceeds that of every pattern benchmark (SmolTulu, arXiv 2412.08347: "
        "an SFT sweep of SmolLM2-135M)"
    )
    prefix = "Undecided whether this agrees with the paper: "
    if stage != "sft":
        return Claim(statement, None, test, f"{prefix}its claim is about SFT, not {stage}.")
    if contrast.missing:
        return Claim(statement, None, test, f"{prefix}{contrast.missing}.")
    means = {
        fit.cells.benchmark: fit.curves.mean_top(contrast.batch_sizes)
        for fit in fits
        if fit.curves is not None
    }
    reasoning, pattern = contrast.reasoning, contrast.pattern
    lowest = np.min([means[name] for name in reasoning], axis=0)
    probability = float((lowest > np.max([means[name] for name in pattern], axis=0)).mean())
    names = (*reasoning, *pattern)
    pairs = text.counted(len(reasoning) * len(pattern), "comparison")
    by_chance = 1 / comb(len(names), len(reasoning))
    stand_ins = (
        " These are miniature stand-ins for the paper's benchmarks."
        if any(name.startswith("world_") for name in names)
        else ""
    )
    sentence = (
        f"The paper's claim is {contrast.verdict} by this grid. Its order, each of "
        f"{_names(reasoning)} above each of {_names(pattern)} ({pairs}), has probability "
        f"{text.probability(probability)}; with no difference between the types it would be "
        f"{number(by_chance)}.{stand_ins}"
    )
    evidence = {"probability_by_chance": by_chance, "verdict": contrast.verdict}
    return Claim(statement, probability, test, sentence, evidence)


def _names(benchmarks: Sequence[str]) -> str:
    return listed([task(name).label for name in benchmarks])
