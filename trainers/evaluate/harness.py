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
from typing import Any

import numpy as np

from trainers.evaluate import continuous_metrics
from trainers.evaluate.benchmarks import AVERAGE, Benchmark, settings
from trainers.evaluate.scores import Evaluation, contributions, mean_of_tasks, summarise
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
    return scoring.open_lm(model, loaded.tokenizer, spec.batch_size)


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
    found = _read(results, samples, beside, benchmark, spec)
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
    for name, mine in samples.items():
        task = tasks[name]
        if benchmark.gold is not None:
            found = continuous_metrics.of_gold(lm, benchmark.gold, task, mine, chat_template)
        elif task.OUTPUT_TYPE == "multiple_choice":
            found = continuous_metrics.of_choices(task, mine)
        else:
            found = {}
        per_task.append({k: column for k, column in found.items() if np.isfinite(column).all()})
    shared = [metric for metric in per_task[0] if all(metric in found for found in per_task)]
    return {metric: mean_of_tasks([found[metric] for found in per_task]) for metric in shared}


def _read(
    results: Any,
    samples: dict[str, list[dict[str, Any]]],
    beside: dict[str, np.ndarray],
    benchmark: Benchmark,
    spec: EvaluateSpec,
) -> Evaluation:
    """lm-eval's numbers, with an error over items for each that is a mean over items.

    A corpus-level metric (BLEU, perplexity) keeps its value and has neither error nor items.
    """
    tasks = list(samples)
    reported: dict[str, float] = {}
    values: dict[str, np.ndarray] = {}
    for name, metric, filter_name in _metrics(results["samples"][tasks[0]]):
        per_task = [_per_item(results["samples"][task], metric, filter_name) for task in tasks]
        key = f"{metric},{filter_name}"
        reported[name] = float(np.mean([results["results"][task][key] for task in tasks]))
        found = [column for column in per_task if column is not None]
        if len(found) == len(tasks):
            combined = mean_of_tasks(found)
            if np.isclose(combined.mean(), reported[name], rtol=0, atol=1e-9):
                values[name] = combined
    if benchmark.averaged:
        values[AVERAGE] = np.mean([values[name] for name in benchmark.averaged], axis=0)
        reported[AVERAGE] = float(values[AVERAGE].mean())
    values |= beside
    reported |= {metric: float(column.mean()) for metric, column in beside.items()}
    higher = results["higher_is_better"][tasks[0]]
    lower = {name for name in reported if higher.get(name.split(",")[0]) is False}
    return summarise(
        reported,
        values,
        _item_names(samples),
        primary=benchmark.metric or next(iter(reported)),
        lower_is_better=lower | continuous_metrics.LOWER_IS_BETTER,
        settings=_record(results, samples, benchmark, spec),
    )


def _record(
    results: Any, samples: dict[str, list[dict[str, Any]]], benchmark: Benchmark, spec: EvaluateSpec
) -> dict[str, Any]:
    """With what it was scored. `prompts` and `documents` are hashes of what only shows when it
    runs: every request as rendered, and the items, in order; where two models differ in them their
    scores do not belong in one column."""
    every = [sample for mine in samples.values() for sample in mine]
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
    for task, mine in samples.items():
        seen: dict[str, int] = {}
        for sample in mine:
            name = item_name(task, sample["doc_hash"])
            seen[name] = seen.get(name, 0) + 1
            names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names


def _metrics(samples: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """(our name, lm-eval's metric, its filter) of every metric; the filter `none` goes unnamed."""
    for filter_name in dict.fromkeys(sample["filter"] for sample in samples):
        first = next(sample for sample in samples if sample["filter"] == filter_name)
        for metric in first["metrics"]:
            name = metric if filter_name == "none" else f"{metric},{filter_name}"
            yield name, metric, filter_name


def _by_document(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One sample per document, in order; lm-eval lists a document once for each filter."""
    first = samples[0]["filter"]
    return [sample for sample in samples if sample["filter"] == first]


def _per_item(samples: list[dict[str, Any]], metric: str, filter_name: str) -> np.ndarray | None:
    """Numbers as they are, lists (IFEval's instructions of a prompt) pooled; else None."""
    values = [sample[metric] for sample in samples if sample["filter"] == filter_name]
    if all(isinstance(value, list) and value for value in values):
        sums = np.array([float(sum(value)) for value in values])
        return contributions(sums, np.array([float(len(value)) for value in values]))
    if all(isinstance(value, bool | int | float | np.number) for value in values):
        return np.array(values, dtype=float)
    return None
