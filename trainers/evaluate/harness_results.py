"""What lm-eval returns -> scores with standard errors, items, and the settings behind them."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np

from trainers.evaluate import continuous_metrics
from trainers.evaluate.scores import Evaluation, contributions, mean_of_tasks, summarise
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import metrics, task_groups
from trainers.tasks.benchmarks import settings, task_paths
from trainers.tasks.registry import AVERAGE, Benchmark
from trainers.tasks.task_files import EvaluationUnavailable
from trainers.tasks.tasks import item_name


def aggregates(benchmark: Benchmark) -> list[task_groups.Aggregate]:
    return task_groups.aggregates(task_paths(benchmark)[0])


class _Wanted(NamedTuple):
    """A metric after a filter, which tasks have part in it, and how they weigh."""

    metric: str
    filter: str
    tasks: list[str]
    by_size: bool


def read(
    results: Any,
    tasks: dict[str, Any],
    samples: dict[str, list[dict[str, Any]]],
    beside: dict[str, np.ndarray],
    benchmark: Benchmark,
    spec: EvaluateSpec,
) -> Evaluation:
    """lm-eval's numbers, with an error over items for each that is a mean over items or, as a
    perplexity, of one.

    Another corpus-level metric (BLEU) keeps its value and has neither error nor items.
    """
    reported: dict[str, float] = {}
    values: dict[str, np.ndarray] = {}
    for metric, filter_name, names, by_size in _metrics(results["samples"], benchmark):
        name = metrics.named(metric, filter_name)
        key = f"{metric},{filter_name}"
        weights = [len(samples[task]) if by_size else 1 for task in names]
        numbers = [results["results"][task][key] for task in names]
        reported[name] = float(np.average(numbers, weights=weights))
        per_task = [
            _per_item(results["samples"][task], metric, filter_name, tasks[task]) for task in names
        ]
        columns = [column for column in per_task if column is not None]
        if len(columns) == len(names):
            combined = mean_of_tasks(columns, by_size)
            if np.isclose(combined.mean(), reported[name], rtol=1e-9, atol=1e-9):
                values[name] = _among_all(combined, names, samples)
    if benchmark.averaged:
        values[AVERAGE] = np.mean([values[name] for name in benchmark.averaged], axis=0)
        reported[AVERAGE] = float(values[AVERAGE].mean())
    values |= beside
    reported |= {metric: float(column.mean()) for metric, column in beside.items()}
    primary = metrics.primary(benchmark)
    if primary.name and primary.name not in reported:
        raise EvaluationUnavailable(
            f"benchmark {benchmark.name!r}: its primary metric {primary.name!r} is not among what "
            f"its task returns: {', '.join(reported)}; name one of these first in metric_list"
        )
    lower = {name for name in reported if _is_lower(results, name)}
    if primary.higher_is_better is not None and primary.name:
        lower = lower - {primary.name} if primary.higher_is_better else lower | {primary.name}
    return summarise(
        reported,
        values,
        _item_names(samples),
        primary=primary.name or next(iter(reported)),
        lower_is_better=lower | continuous_metrics.LOWER_IS_BETTER,
        settings=_record(results, samples, benchmark, spec),
    )


def _is_lower(results: Any, name: str) -> bool:
    """Whether less of a metric is better, by any task that has it."""
    metric = name.partition(",")[0]
    return any(of_task.get(metric) is False for of_task in results["higher_is_better"].values())


def _among_all(
    column: np.ndarray, names: list[str], samples: dict[str, list[dict[str, Any]]]
) -> np.ndarray:
    """Values of some tasks' items, at their places among the items of all tasks; nan elsewhere."""
    member = [np.full(len(of_task), task in names) for task, of_task in samples.items()]
    places = np.concatenate(member)
    if places.all():
        return column
    every = np.full(len(places), np.nan)
    every[places] = column
    return every


def _record(
    results: Any, samples: dict[str, list[dict[str, Any]]], benchmark: Benchmark, spec: EvaluateSpec
) -> dict[str, Any]:
    """With what it was scored. `prompts` and `documents` are hashes of what only shows when it
    runs: every request as rendered, and the items, in order; where two models differ in them their
    scores do not belong in one column."""
    every = [sample for of_task in samples.values() for sample in of_task]
    return {
        "benchmark": benchmark.name,
        "preset": spec.preset,
        "backend": spec.backend,
        **settings(benchmark, spec)._asdict(),
        "tasks": {task: results["versions"].get(task) for task in samples},
        "shots": {task: results["n-shot"].get(task) for task in samples},
        "n": {task: results["n-samples"][task]["effective"] for task in samples},
        "items": sum(results["n-samples"][task]["original"] for task in samples),
        "limit": spec.limit,
        "prompts": _hash(json.dumps(sample["arguments"]) for sample in every),
        "documents": _hash(sample["doc_hash"] for sample in every),
        "lm_eval": metadata.version("lm_eval"),
    }


def _hash(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()[:16]


def _item_names(samples: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Hash of each document, the same in every trial and under every limit; one that occurs again
    in a task (BBH has two such) is the same name with its count."""
    names = []
    for task, of_task in samples.items():
        seen: dict[str, int] = {}
        for sample in of_task:
            name = item_name(task, sample["doc_hash"])
            seen[name] = seen.get(name, 0) + 1
            names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names


def _metrics(samples: dict[str, list[dict[str, Any]]], benchmark: Benchmark) -> Iterator[_Wanted]:
    """Every metric of the benchmark: those of its first task, which all its tasks have, or what a
    group reports of those of its tasks that have it."""
    available = {task: list(_of_task(of_task)) for task, of_task in samples.items()}
    if not benchmark.group:
        for metric, filter_name in next(iter(available.values())):
            yield _Wanted(metric, filter_name, list(samples), by_size=False)
        return
    for aggregate in aggregates(benchmark):
        there = sorted(
            {f for pairs in available.values() for m, f in pairs if m == aggregate.metric}
        )
        for filter_name in aggregate.filters or there:
            pair = (aggregate.metric, filter_name)
            names = [task for task, of_task in available.items() if pair in of_task]
            if names:
                yield _Wanted(*pair, names, aggregate.by_size)


def _of_task(samples: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """(metric, filter) of every metric of a task."""
    for filter_name in dict.fromkeys(sample["filter"] for sample in samples):
        first = next(sample for sample in samples if sample["filter"] == filter_name)
        yield from ((metric, filter_name) for metric in first["metrics"])


def by_document(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One sample per document, in order; lm-eval lists a document once for each filter."""
    first = samples[0]["filter"]
    return [sample for sample in samples if sample["filter"] == first]


def _per_item(
    samples: list[dict[str, Any]], metric: str, filter_name: str, task: Any
) -> np.ndarray | None:
    """Values whose mean is the score: numbers as they are, lists of numbers (IFEval's instructions
    of a prompt) pooled, parts of a perplexity by the delta method; else None (BLEU's texts)."""
    values = [sample[metric] for sample in samples if sample["filter"] == filter_name]
    if all(isinstance(value, list) and value and _numbers(value) for value in values):
        sums = np.array([float(sum(value)) for value in values])
        return contributions(sums, np.array([float(len(value)) for value in values]))
    if (parts := _perplexity_parts(values, task.aggregation().get(metric))) is not None:
        return parts
    return np.array(values, dtype=float) if _numbers(values) else None


def _numbers(values: list[Any]) -> bool:
    return all(isinstance(value, bool | int | float | np.number) for value in values)


def _perplexity_parts(values: list[Any], aggregation: Any) -> np.ndarray | None:
    """Of log-likelihoods in nats, alone or with their number of words or bytes.

    With r = -sum(log-likelihoods) / sum(numbers) and its contributions r_i (see `contributions`):
    r_i / ln 2 for bits per byte, and for exp(r) the linearised exp(r) (1 + r_i - r).
    """
    from lm_eval.api.metrics import bits_per_byte, perplexity, weighted_perplexity

    if aggregation not in (bits_per_byte, perplexity, weighted_perplexity):
        return None
    pairs = [value if isinstance(value, tuple) else (value, 1) for value in values]
    log_likelihoods, numbers = np.array(pairs, dtype=float).T
    rates = contributions(-log_likelihoods, numbers)
    if aggregation is bits_per_byte:
        return rates / np.log(2)
    rate = rates.mean()
    return np.exp(rate) * (1 + rates - rate)
