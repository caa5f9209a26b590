"""recommendations.json: the first screen and the seven answers, in the order of the page."""

from collections.abc import Mapping
from typing import Any

from analysis.advice.advise import Advice
from analysis.advice.answers import plain
from analysis.fit.surface import Fit, FitStatus
from analysis.report.answered import Answered
from analysis.report.overview import Overview

UNITS = {
    "learning_rate": "peak learning rate",
    "batch_size": "examples per optimizer step",
    "lr_bs_ratio": "learning rate / batch size",
    "regret": "the metric's own units; a share of the range of scores for several benchmarks",
    "octaves": "log2: one octave is a factor of 2",
    "interval": "low to high is 95 %",
}


def grid_record(answered: Answered, advice: Advice) -> dict[str, Any]:
    """One grid: `summary`, the seven answers in the order of the page, the optimum over both
    axes."""
    answers = answered.answers
    by_benchmark = answers.benchmarks
    record = {
        "stage": advice.stage,
        "arm": advice.arm,
        "summary": {
            "headline": answered.headline,
            "what_was_run": _what_was_run(answered.overview),
            "learning_rates": {
                "columns": ["batch size", *answered.rate_columns],
                "rows": [
                    [row.batch_size if answered.sized else None, *row.texts]
                    for row in answered.rate_rows
                ],
                "notes": answered.rate_notes,
            },
            "settings": answered.shared_settings,
            "next_step": answered.next_step._asdict(),
        },
        "learning_rate": {
            "sentences": answered.rates,
            "benchmarks": {name: plain(each.rates) for name, each in by_benchmark.items()},
            "task_types": {kind: plain(rates) for kind, rates in answered.type_rates.items()},
        },
        "ratio": {
            "sentences": answered.ratio,
            "benchmarks": {name: plain(each.ratio) for name, each in by_benchmark.items()},
        },
        "gamma": {
            "sentences": answered.gamma,
            "benchmarks": {
                name: {
                    "gamma": plain(each.gamma),
                    "ratio_is_sufficient": each.ratio_is_sufficient,
                }
                for name, each in by_benchmark.items()
            },
        },
        "batch_size": {
            "sentences": answered.batch_size,
            "benchmarks": {name: plain(each.direction) for name, each in by_benchmark.items()},
        },
        "setting": {
            "sentences": answered.every_setting,
            "benchmarks": {name: plain(each.setting) for name, each in by_benchmark.items()},
            "task_types": plain(answers.task_types),
            "mix": plain(answers.mix),
        },
        "contrast": {"sentence": answered.contrast} | plain(answers.contrast),
        "published_rules": [plain(rule) | {"sentence": text} for rule, text in answered.rules],
        "signal": {name: each.signal for name, each in by_benchmark.items()},
        "optimum": {fit.cells.benchmark: _optimum(fit) for fit in advice.fits},
    }
    return record if answered.sized else _unsized(record)


def _what_was_run(overview: Overview) -> dict[str, Any]:
    gains = {}
    for gain, difference in ((gain, gain.difference) for gain in overview.gains):
        gains[gain.benchmark] = {
            "label": gain.label,
            "metric": gain.metric,
            "best_cell": gain.cell,
            "items": gain.items,
            "note": gain.note,
            "before_training": None if difference is None else difference.first,
            "best": None if difference is None else difference.second,
            "gain": None if difference is None else difference.gain - (gain.luck or 0.0),
            "luck": gain.luck,
            "gain_stderr": None if difference is None else difference.stderr,
        }
    return {"facts": overview.facts, "benchmarks": gains, "without_score": overview.unscored}


def _unsized(value: Any) -> Any:
    """The record of a table that does not say its batch size, for which 1 stands: null instead."""
    if isinstance(value, dict):
        unknown = ("batch_size", "batch_sizes", "lr_bs_ratio", "next_batch_size")
        return {
            name: None if name in unknown and not isinstance(part, dict) else _unsized(part)
            for name, part in value.items()
        }
    return [_unsized(part) for part in value] if isinstance(value, list) else value


def _optimum(fit: Fit) -> dict[str, Any]:
    """The best setting over both axes; the ratio and its bounds are null unless identified."""
    ratios = dict.fromkeys(("ratio", "low", "high"))
    if fit.status is FitStatus.IDENTIFIED and fit.optimum is not None:
        logs = zip(ratios, (fit.optimum.log2_ratio, fit.low, fit.high), strict=True)
        ratios = {name: 2**value for name, value in logs if value is not None}
    return {"status": fit.status, "reason": fit.reason} | ratios


def document(grids: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The file: units, and every grid by its name."""
    return {"stage": next(iter(grids), ""), "units": UNITS, "stages": dict(grids)}
