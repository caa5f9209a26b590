"""Which metric a benchmark goes by, and whether more of it is better, known before anything runs.

The direction is the task's own: its `metric_list`, else lm-eval's registry, else what the name of
the metric says. Where none of them tells, `problem` asks.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

from trainers.tasks import compat_lm_eval, task_files, task_groups, task_index
from trainers.tasks.registry import AVERAGE, Benchmark

LOWER = re.compile(
    r"neg(ative)?_?log_?(likelihood|prob)s?|incorrect|inaccura|mismatch|"
    r"ppl|perplexit|bits_per|bpb|nll|loss|error|mse|mae|brier|edit|distance|toxic|"
    r"(?<![a-z])(wer|cer|mer|ter|ece|rank|latency)(?![a-z])"
)
"""Names of metrics of which less is better ..."""

HIGHER = re.compile(
    r"acc|exact|match|f1|bleu|rouge|chrf|pass|win|reward|precision|recall|correct|score|mcc|auc|"
    r"likelihood|(?<![a-z])(em|hit|hits|map|mrr|ndcg)(?![a-z])"
)
"""... and of which more is, in what is left of the name."""


class Metric(NamedTuple):
    """A primary metric."""

    name: str
    """As evaluation records have it: with the filter, where that is not `none`. Empty where only
    the task's Python class knows."""
    higher_is_better: bool | None
    """None where nothing tells."""


def primary(benchmark: Benchmark) -> Metric:
    """The metric that a benchmark is compared by.

    Raises:
        TaskFileError: the task's file is wrong.
    """
    if benchmark.pairs is not None:
        return Metric(benchmark.metric or "accuracy", True)
    path = task_index.folder() / benchmark.tasks[0]
    if benchmark.group:
        aggregate = task_groups.aggregates(path)[0]
        keys = _leaf_with(aggregate.metric, path)
        filters = aggregate.filters or tuple(sorted(_filters(keys)))
        return Metric(named(aggregate.metric, filters[0]), _direction(aggregate.metric, keys))
    keys = task_files.config(path)
    if benchmark.metric is None:
        metric = next(iter(_listed(keys)), "")
        if not metric:
            return Metric("", None if "class" not in keys else True)
        return Metric(named(metric, _filters(keys)[0]), _direction(metric, keys))
    bare = benchmark.averaged[0] if benchmark.metric == AVERAGE else benchmark.metric
    return Metric(benchmark.metric, _direction(bare.partition(",")[0], keys))


def named(metric: str, filter_name: str) -> str:
    """The name of a metric after a filter of the answers."""
    return metric if filter_name == "none" else f"{metric},{filter_name}"


def partial(benchmark: Benchmark) -> str | None:
    """A sentence about a group whose primary metric only some of its tasks have: the others run and
    have no part in the score. A task that is a Python class may have any."""
    if not benchmark.group:
        return None
    path = task_index.folder() / benchmark.tasks[0]
    metric = task_groups.aggregates(path)[0].metric
    tasks = list(task_groups.leaves(path))
    having = sum("class" in keys or metric in _listed(keys) for keys in tasks)
    if having == len(tasks):
        return None
    return (
        f"{benchmark.name}: {metric}, its score, is of {having} of its {len(tasks)} tasks; the "
        "others run and do not count: name tasks in its place, or another metric first in "
        "aggregate_metric_list"
    )


def problem(benchmark: Benchmark) -> str | None:
    """What has to be said in a task file about its metric; None for nothing."""
    if benchmark.pairs is not None:
        return None
    metric = primary(benchmark)
    if metric.higher_is_better is None:
        name = metric.name.partition(",")[0]
        return (
            f"benchmark {benchmark.name!r}: is more of its metric {name!r} better? Say so in its "
            f"task file: metric_list: [{{metric: {name}, aggregation: mean, higher_is_better: "
            "true}] (or false)"
        )
    path = task_index.folder() / benchmark.tasks[0]
    for keys in [] if benchmark.group else [task_files.config(path)]:
        for entry in keys.get("metric_list") or []:
            name = _name(entry)
            known = compat_lm_eval.LOWER_IS_BETTER | compat_lm_eval.HIGHER_IS_BETTER
            if name not in known and "aggregation" not in entry:
                return (
                    f"task file {str(path)!r}: metric_list: {name!r} needs an aggregation; for a "
                    f"mean over items: {{metric: {name}, aggregation: mean, higher_is_better: "
                    "true} (or false)"
                )
    return None


def _leaf_with(metric: str, path: Path) -> dict[str, Any]:
    first = None
    for keys in task_groups.leaves(path):
        first = first or keys
        if metric in _listed(keys):
            return keys
    if first is None:
        raise task_files.TaskFileError(f"group file {str(path)!r}: has no task")
    if "class" in first:
        return first
    raise task_files.TaskFileError(
        f"group file {str(path)!r}: aggregate_metric_list: no task of the group has the metric "
        f"{metric!r}; its first has {', '.join(_listed(first))}"
    )


def _listed(keys: dict[str, Any]) -> list[str]:
    """Metrics of a task in its own order."""
    listed = keys.get("metric_list")
    if listed is None:
        default = compat_lm_eval.DEFAULT_METRICS.get(keys.get("output_type", "generate_until"))
        return [] if default is None or "class" in keys else [default]
    return [_name(entry) for entry in listed]


def _name(entry: dict[str, Any]) -> str:
    """Of a metric, which may be a function `FOLDER/module.function`."""
    metric = str(entry.get("metric", ""))
    return metric.rpartition(".")[2] if "/" in metric else metric


def _filters(keys: dict[str, Any]) -> list[str]:
    listed = keys.get("filter_list")
    if not isinstance(listed, list) or not listed:
        return ["none"]
    return [str(entry.get("name", "none")) for entry in listed]


def _direction(metric: str, keys: dict[str, Any]) -> bool | None:
    for entry in keys.get("metric_list") or []:
        if _name(entry) == metric and isinstance(entry.get("higher_is_better"), bool):
            return entry["higher_is_better"]
    if metric in compat_lm_eval.LOWER_IS_BETTER:
        return False
    if metric in compat_lm_eval.HIGHER_IS_BETTER or "class" in keys:
        return True
    return of_name(metric)


def of_name(metric: str) -> bool | None:
    """Whether more is better by what the name says; None where it says nothing, or both."""
    name = metric.lower()
    lower, higher = LOWER.search(name), HIGHER.search(LOWER.sub(" ", name))
    if bool(lower) == bool(higher):
        return None
    return higher is not None
