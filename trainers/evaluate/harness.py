"""lm-eval on one model -> scores with standard errors, and one record per item.

`python -m trainers.evaluate MODEL --benchmarks arc,gsm8k` scores a model outside a sweep; see
trainers/evaluate/__main__.py.
"""

import hashlib
import json
import random
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any
from unittest.mock import patch

import numpy as np

from trainers.evaluate import continuous_metrics, harness_results
from trainers.evaluate.scores import Evaluation, mean_of_tasks
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import metrics
from trainers.tasks.benchmarks import settings
from trainers.tasks.registry import Benchmark
from trainers.tasks.tasks import FEWSHOT_SEED, asked


def score(lm, benchmark: Benchmark, spec: EvaluateSpec) -> Evaluation:
    """Run the benchmark's lm-eval tasks on `lm`, and its companions after them.

    Raises:
        EvaluationUnavailable: the items or a resource are missing.
    """
    import lm_eval
    from lm_eval.utils import set_torch_seed

    from trainers.inference import harness_model

    _compile_templates_once()
    tasks, chosen = asked(benchmark, spec, _template(lm))
    chat_template = settings(benchmark, spec).chat_template
    for seed in (random.seed, np.random.seed, set_torch_seed):
        seed(FEWSHOT_SEED)
    evaluate: Any = lm_eval.evaluate
    harness_model.begin(lm)
    with (
        _without_progress_bars(),
        _expecting(lm, benchmark, tasks, chat_template),
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
        samples = {
            task: harness_results.by_document(results["samples"][task])
            for task in results["samples"]
        }
        computed_by = harness_model.description(lm)
        beside = _companions(lm, benchmark, tasks, samples, chat_template)
    evaluation = harness_results.read(results, tasks, samples, beside, benchmark, spec)
    own = {"template": _content(lm) if chat_template else None}
    if (partial := metrics.partial(benchmark)) is not None:
        warnings.warn(partial, stacklevel=2)
        own["partial"] = partial
    if cut := computed_by["cut_prompts"]:
        are, their = ("prompt is", "its") if cut == 1 else ("prompts are", "their")
        warnings.warn(
            f"{benchmark.name}: {cut} {are} longer than the model's context of {lm.max_length} "
            f"tokens and scored without {their} beginning, instructions and shots",
            stacklevel=2,
        )
    return evaluation._replace(settings=evaluation.settings | own | computed_by)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """lm-eval has no switch for all of its own; warnings stay."""
    from tqdm import tqdm

    start: Any = tqdm.__init__

    def disabled(bar: Any, *args: Any, **options: Any) -> None:
        start(bar, *args, **(options | {"disable": True}))

    with patch.object(tqdm, "__init__", disabled):
        yield


def _content(lm: Any) -> str:
    """Hash of the model's chat template: another one makes other prompts of the same items."""
    template = getattr(getattr(lm, "tokenizer", None), "chat_template", None)
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:16]


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


def _expecting(
    lm, benchmark: Benchmark, tasks: dict[str, Any], chat_template: bool
) -> AbstractContextManager[None]:
    """Tell a model class that can make use of it what `_companions` will ask of each prompt."""
    kind = benchmark.gold
    if kind is None or not hasattr(lm, "expecting"):
        return nullcontext()

    def texts(request: Any) -> list[tuple[str, str]]:
        golds = continuous_metrics.gold_texts(
            kind, tasks[request.task_name], request.doc, chat_template
        )
        return [gold.request(request.args[0]) for gold in golds]

    return lm.expecting(texts)


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
    by_size = bool(benchmark.group) and harness_results.aggregates(benchmark)[0].by_size
    return {
        metric: mean_of_tasks([columns[metric] for columns in per_task], by_size)
        for metric in shared
    }
