"""lm-eval on one model -> scores with standard errors, and one record per item."""

import io
import json
import random
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np

from trainers import models
from trainers.benchmarks import AVERAGE, Benchmark, EvaluationUnavailable, local_file, task_text
from trainers.scores import Evaluation, contributions, mean_of_tasks, summarise
from trainers.spec import EvaluateSpec

SUBSET_SEED = 0
FEWSHOT_SEED = 1234
"""lm-eval's own default, which published numbers use."""

SPLIT_KEY = re.compile(r"^(\w+_split): (\w+)$", re.MULTILINE)
"""Which split of the data a task file uses as its training, validation, test or few-shot split."""


def open_model(loaded: models.Loaded, spec: EvaluateSpec):
    """lm-eval's stock model class around a loaded model."""
    import torch
    from lm_eval.models.huggingface import HFLM

    model = cast(Any, loaded.model)  # transformers wraps `to` in a way that hides its type
    if models.bfloat16(spec.dtype):
        model = model.to(torch.bfloat16)
    harness_model: Any = HFLM
    return harness_model(pretrained=model, tokenizer=loaded.tokenizer, batch_size=spec.batch_size)


def score(lm, benchmark: Benchmark, spec: EvaluateSpec) -> Evaluation:
    """Run the benchmark's lm-eval tasks on `lm`.

    Raises:
        EvaluationUnavailable: the items or a resource are missing.
    """
    import lm_eval
    from lm_eval.utils import set_torch_seed

    chat_template = benchmark.chat_template if spec.chat_template is None else spec.chat_template
    tasks = load(benchmark, spec)
    for seed in (random.seed, np.random.seed, set_torch_seed):
        seed(FEWSHOT_SEED)
    evaluate: Any = lm_eval.evaluate
    with redirect_stderr(io.StringIO()):  # its progress bars cannot be turned off
        results = evaluate(
            lm,
            task_dict={"tasks": tasks, "groups": {}, "group_map": {}},
            samples=_subsets(tasks, spec.limit),
            bootstrap_iters=0,
            apply_chat_template=chat_template,
            fewshot_as_multiturn=chat_template,
        )
    assert results is not None, "lm-eval returns None only on ranks other than 0"
    return _read(results, benchmark)


def load(benchmark: Benchmark, spec: EvaluateSpec) -> dict[str, Any]:
    """The benchmark's lm-eval tasks with their items; also how their data is fetched beforehand.

    Raises:
        EvaluationUnavailable: the items are missing.
    """
    with _task_files(benchmark, spec) as files:
        return _load(files, benchmark)


def _load(files: list[str], benchmark: Benchmark) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    try:
        # Without the defaults: indexing every stock task takes ten seconds.
        tasks = TaskManager(include_defaults=False).load(files)["tasks"]
    except Exception as error:  # hub client, datasets and yaml each raise their own
        raise EvaluationUnavailable(f"benchmark {benchmark.name!r}: {error}") from error
    for task in tasks.values():
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        if benchmark.max_gen_toks is not None:
            limit = {"max_gen_toks": benchmark.max_gen_toks}
            task.set_config(key="generation_kwargs", value=limit, update=True)
    return tasks


@contextmanager
def _task_files(benchmark: Benchmark, spec: EvaluateSpec):
    """The tasks' YAML files; with a `data_dir`, written around the stock ones to read local
    items."""
    import lm_eval

    stock = Path(lm_eval.__file__).parent / "tasks"
    paths = [Path(task) if Path(task).is_absolute() else stock / task for task in benchmark.tasks]
    if spec.data_dir is None or not benchmark.local_files:
        yield [str(path) for path in paths]
        return
    with tempfile.TemporaryDirectory() as folder:
        yield [_localised(path, benchmark, Path(spec.data_dir), Path(folder)) for path in paths]


def _localised(path: Path, benchmark: Benchmark, data_dir: Path, folder: Path) -> str:
    splits = {
        split: str(local_file(data_dir, pattern))
        for task, split, pattern in benchmark.local_files
        if task == path.stem
    }
    config = {
        "include": str(path),
        "dataset_path": "json",
        "dataset_name": None,
        # datasets caches by path: a private folder, or an edited file would not be seen
        "dataset_kwargs": {"data_files": splits, "cache_dir": str(folder / "cache")},
        **{key: None for key, split in SPLIT_KEY.findall(task_text(path)) if split not in splits},
    }
    written = folder / path.name
    written.write_text(json.dumps(config))  # JSON is YAML
    return str(written)


def _subsets(tasks: dict[str, Any], limit: int | None) -> dict[str, list[int]] | None:
    """A seeded random subset of each task's items; a larger limit keeps the smaller one's items."""
    if limit is None:
        return None
    return {
        name: sorted(_first(len(task.eval_docs), limit).tolist()) for name, task in tasks.items()
    }


def _first(items: int, limit: int) -> np.ndarray:
    return np.random.default_rng(SUBSET_SEED).permutation(items)[:limit]


def _read(results: Any, benchmark: Benchmark) -> Evaluation:
    """lm-eval's numbers, with an error over items for each that is a mean over items.

    A corpus-level metric (BLEU, perplexity) keeps its value and has neither error nor items.
    """
    tasks = list(results["samples"])
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
    items = [sample["doc_hash"][:16] for task in tasks for sample in _by_document(results, task)]
    higher = results["higher_is_better"][tasks[0]]
    settings = {
        "benchmark": benchmark.name,
        "tasks": {task: results["versions"].get(task) for task in tasks},
        "shots": {task: results["n-shot"].get(task) for task in tasks},
        "n": {task: results["n-samples"][task]["effective"] for task in tasks},
        "items": sum(results["n-samples"][task]["original"] for task in tasks),
        "lm_eval": metadata.version("lm_eval"),
    }
    return summarise(
        reported,
        values,
        items,
        primary=benchmark.metric or next(iter(reported)),
        lower_is_better={name for name in reported if higher.get(name.split(",")[0]) is False},
        settings=settings,
    )


def _metrics(samples: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """(our name, lm-eval's metric, its filter) of every metric; the filter `none` goes unnamed."""
    for filter_name in dict.fromkeys(sample["filter"] for sample in samples):
        first = next(sample for sample in samples if sample["filter"] == filter_name)
        for metric in first["metrics"]:
            name = metric if filter_name == "none" else f"{metric},{filter_name}"
            yield name, metric, filter_name


def _by_document(results: Any, task: str) -> list[dict[str, Any]]:
    """One sample per document, in order; lm-eval lists a document once for each filter."""
    samples = results["samples"][task]
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
