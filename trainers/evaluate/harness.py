"""lm-eval on one model -> scores with standard errors, and one record per item.

`python -m trainers.evaluate MODEL --benchmarks arc,gsm8k` scores a model outside a sweep; see
trainers/evaluate/__main__.py.
"""

import hashlib
import io
import json
import random
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, redirect_stderr
from functools import lru_cache
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np

from trainers.evaluate import continuous_metrics, metrics, task_groups
from trainers.evaluate.benchmarks import settings, task_paths
from trainers.evaluate.registry import AVERAGE, Benchmark
from trainers.evaluate.scores import Evaluation, contributions, mean_of_tasks, summarise
from trainers.evaluate.task_files import EvaluationUnavailable
from trainers.evaluate.tasks import FEWSHOT_SEED, asked, item_name
from trainers.models import load
from trainers.specs.spec import EvaluateSpec


def open_model(loaded: load.Loaded, spec: EvaluateSpec):
    """The model as lm-eval wants it (`trainers/inference/harness_model.py`, or lm-eval's vLLM
    class); the loaded one is left as it is."""
    if spec.backend == "vllm":
        return _vllm_model(loaded, spec)
    import torch

    from trainers.inference import harness_model as scoring
    from trainers.ops import memory

    model = loaded.model
    if load.bfloat16(spec.dtype) and model.dtype != torch.bfloat16:
        model = memory.with_room(lambda: scoring.in_bfloat16(loaded.model))
    return scoring.open_lm(model, loaded.tokenizer, spec.items_per_batch)


def _vllm_model(loaded: load.Loaded, spec: EvaluateSpec):
    """lm-eval's vLLM class, which reads a folder: the model's, written for the time of reading."""
    from lm_eval.models.vllm_causallms import VLLM

    harness_model: Any = VLLM
    dtype = "bfloat16" if load.bfloat16(spec.dtype) else "float32"
    with tempfile.TemporaryDirectory() as folder:
        loaded.model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
        return harness_model(pretrained=folder, dtype=dtype, seed=FEWSHOT_SEED)


def score(lm, benchmark: Benchmark, spec: EvaluateSpec) -> Evaluation:
    """Run the benchmark's lm-eval tasks on `lm`, and its companions after them.

    Raises:
        EvaluationUnavailable: the items or a resource are missing.
    """
    import lm_eval
    from lm_eval.utils import set_torch_seed

    _compile_templates_once()
    tasks, chosen = asked(benchmark, spec, _template(lm))
    chat_template = settings(benchmark, spec).chat_template
    for seed in (random.seed, np.random.seed, set_torch_seed):
        seed(FEWSHOT_SEED)
    evaluate: Any = lm_eval.evaluate
    with (
        redirect_stderr(io.StringIO()),  # its progress bars cannot be turned off
        _foreseen(lm, benchmark, tasks, chat_template),
    ):
        results = evaluate(
            lm,
            task_dict={"tasks": tasks, "groups": {}, "group_map": {}},
            samples=chosen,
            bootstrap_iters=0,
            apply_chat_template=chat_template,
            fewshot_as_multiturn=chat_template,
        )
        assert results is not None, "lm-eval returns None only on ranks other than 0"
        samples = {task: _by_document(results["samples"][task]) for task in results["samples"]}
        beside = _companions(lm, benchmark, tasks, samples, chat_template)
    found = _read(results, tasks, samples, beside, benchmark, spec)
    return found._replace(settings=found.settings | _computed_by(lm))


def _computed_by(lm: Any) -> dict[str, Any]:
    from trainers.inference import harness_model

    return harness_model.description(lm)


def _template(lm: Any) -> str:
    """What a prompt depends on beside the benchmark: how this model's tokenizer renders a chat."""
    tokenizer = getattr(lm, "tokenizer", None)
    parts = (getattr(tokenizer, name, None) for name in ("chat_template", "special_tokens_map"))
    return json.dumps([*parts], default=str, sort_keys=True)


def _compile_templates_once() -> None:
    """lm-eval compiles the template of each text anew for each item, 0.2 ms each."""
    from lm_eval import utils

    if not hasattr(utils.env.from_string, "cache_info"):
        once: Any = lru_cache(utils.env.from_string)
        utils.env.from_string = once


def _foreseen(
    lm, benchmark: Benchmark, tasks: dict[str, Any], chat_template: bool
) -> AbstractContextManager[None]:
    """Tell a model class that can make use of it what `_companions` will ask of each prompt."""
    kind = benchmark.gold
    if kind is None or not hasattr(lm, "foreseeing"):
        return nullcontext()

    def texts(request: Any) -> list[tuple[str, str]]:
        golds = continuous_metrics.gold_texts(
            kind, tasks[request.task_name], request.doc, chat_template
        )
        return [gold.request(request.args[0]) for gold in golds]

    return lm.foreseeing(texts)


def _companions(
    lm,
    benchmark: Benchmark,
    tasks: dict[str, Any],
    samples: dict[str, list[dict[str, Any]]],
    chat_template: bool,
) -> dict[str, np.ndarray]:
    """Metric -> values of all items, where every task of the benchmark has that companion.

    One that is not a number everywhere is left out, as after weights that have become nan.
    """
    per_task = []
    for name, of_task in samples.items():
        task = tasks[name]
        if benchmark.gold is not None:
            columns = continuous_metrics.of_gold(lm, benchmark.gold, task, of_task, chat_template)
        elif task.OUTPUT_TYPE == "multiple_choice":
            columns = continuous_metrics.of_choices(task, of_task)
        else:
            columns = {}
        per_task.append({k: column for k, column in columns.items() if np.isfinite(column).all()})
    shared = [metric for metric in per_task[0] if all(metric in columns for columns in per_task)]
    by_size = bool(benchmark.group) and _aggregates(benchmark)[0].by_size
    return {
        metric: mean_of_tasks([columns[metric] for columns in per_task], by_size)
        for metric in shared
    }


def _aggregates(benchmark: Benchmark) -> list[task_groups.Aggregate]:
    return task_groups.aggregates(task_paths(benchmark)[0])


class _Wanted(NamedTuple):
    """A metric after a filter, which tasks have part in it, and how they weigh."""

    metric: str
    filter: str
    tasks: list[str]
    by_size: bool


def _read(
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
    for aggregate in _aggregates(benchmark):
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


def _by_document(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One sample per document, in order; lm-eval lists a document once for each filter."""
    first = samples[0]["filter"]
    return [sample for sample in samples if sample["filter"] == first]


def _per_item(
    samples: list[dict[str, Any]], metric: str, filter_name: str, task: Any
) -> np.ndarray | None:
    """Values whose mean is the score: numbers as they are, lists (IFEval's instructions of a
    prompt) pooled, parts of a perplexity by the delta method; else None."""
    values = [sample[metric] for sample in samples if sample["filter"] == filter_name]
    if all(isinstance(value, list) and value for value in values):
        sums = np.array([float(sum(value)) for value in values])
        return contributions(sums, np.array([float(len(value)) for value in values]))
    if (parts := _perplexity_parts(values, task.aggregation().get(metric))) is not None:
        return parts
    if all(isinstance(value, bool | int | float | np.number) for value in values):
        return np.array(values, dtype=float)
    return None


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
