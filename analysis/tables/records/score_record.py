"""What one score in a trial's scores/*.json may be."""

import math
from typing import Any

PROPORTIONS = ("acc", "acc_norm", "exact_match", "accuracy", "ranking_accuracy", "pass@1")
"""Metrics, by the beginning of their names, that lie between 0 and 1."""

WAY_OUT = "delete the file to have the trial scored anew"


def problem(score: Any) -> str:
    """Why no benchmark has left such a score, and the way out; "" where one may have."""
    told = _problem(score)
    return f"{told}; {WAY_OUT}" if told else ""


def primary_metric(scores: list[dict[str, Any]], asked: str | None) -> str | None:
    """The metric that a benchmark goes by: the one `asked` for where it was measured, else the one
    that the record calls primary."""
    measured = {score.get("metric"): bool(score.get("primary")) for score in scores}
    if asked in measured:
        return asked
    return next((name for name, primary in measured.items() if primary), None)


def recorded_as(record: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """The benchmark that a record is of: the one that is asked for where its metric was measured,
    else that of the record, which an earlier version wrote without it."""
    measured = {score.get("metric") for score in record["scores"]}
    asked: str = evaluation["benchmark"]
    return asked if evaluation.get("metric") in measured else record.get("benchmark", asked)


def _problem(score: Any) -> str:
    if not isinstance(score, dict):
        return f"scores: {score!r} is no score"
    metric, value = score.get("metric"), score.get("value")
    if not isinstance(metric, str | None):
        return f"scores: metric is {metric!r}, which is no name"
    if not isinstance(score.get("primary"), bool | None):
        return f"{metric}: primary is {score.get('primary')!r}, which is neither true nor false"
    for name in ("value", "stderr", "n"):
        number = score.get(name)
        if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
            return f"{metric}: {name} is {number!r}, which is no number"
    for name in ("stderr", "n"):
        if (score.get(name) or 0) < 0:
            return f"{metric}: {name} is {score[name]}, which is below 0"
    if (
        value is None
        or metric is None
        or metric.split(",")[0] not in PROPORTIONS
        or not math.isfinite(value)
    ):
        return ""
    if not 0 <= value <= 1:
        return f"{metric} is {value}, which has to lie between 0 and 1"
    return ""
