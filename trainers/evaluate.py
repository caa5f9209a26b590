"""lm-eval on one model -> scores with standard errors, and one record per item."""

import json
import random
import tempfile
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from trainers import models
from trainers.benchmarks import AVERAGE, Benchmark, EvaluationUnavailable, local_file
from trainers.scores import Evaluation, contributions, mean_of_tasks, summarise
from trainers.spec import EvaluateSpec

SUBSET_SEED = 0
FEWSHOT_SEED = 1234
"""lm-eval's own default, which published numbers use."""


def open_model(loaded: models.Loaded, spec: EvaluateSpec):
    """lm-eval's stock model class around a loaded model."""
    import torch
    from lm_eval.models.huggingface import HFLM

    model = loaded.model
    if models.bfloat16(spec.dtype):
        model = model.to(torch.bfloat16)
    return HFLM(pretrained=model, tokenizer=loaded.tokenizer, batch_size=spec.batch_size)


def score(lm, benchmark: Benchmark, spec: EvaluateSpec) -> Evaluation:
    """Run the benchmark's lm-eval tasks on `lm`.

    Raises:
        EvaluationUnavailable: the items or a resource are missing.
    """
    import lm_eval
    from lm_eval.utils import set_torch_seed

    chat_template = benchmark.chat_template if spec.chat_template is None else spec.chat_template
    with _task_files(benchmark, spec) as files:
        tasks = _load(files, benchmark)
    for seed in (random.seed, np.random.seed, set_torch_seed):
        seed(FEWSHOT_SEED)
    results = lm_eval.evaluate(
        lm,
        task_dict={"tasks": tasks, "groups": {}, "group_map": {}},
        samples=_subsets(tasks, spec.limit),
        bootstrap_iters=0,
        apply_chat_template=chat_template,
        fewshot_as_multiturn=chat_template,
    )
    assert results is not None, "lm-eval returns None only on ranks other than 0"
    return _read(results, benchmark)


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
    """The tasks' YAML files; with a `data_dir`, written around the stock ones to read local items."""
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
    absent = [name for name in ("train", "validation", "test") if name not in splits]
    names = {"train": "training_split", "validation": "validation_split", "test": "test_split"}
    config = {
        "include": str(path),
        "dataset_path": "json",
        "dataset_name": None,
        # datasets caches by path: a private folder, or an edited file would not be seen
        "dataset_kwargs": {"data_files": splits, "cache_dir": str(folder / "cache")},
        **{names[split]: None for split in absent},
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
    """One set of per-item values per metric, from lm-eval's samples, checked against its own numbers."""
    per_task = {
        task: _metrics(results["results"][task], samples)
        for task, samples in results["samples"].items()
    }
    tasks = list(per_task)
    names = list(per_task[tasks[0]])
    values = {name: mean_of_tasks([per_task[task][name] for task in tasks]) for name in names}
    if benchmark.averaged:
        values[AVERAGE] = np.mean([values[name] for name in benchmark.averaged], axis=0)
    items = [sample["doc_hash"][:16] for task in tasks for sample in _by_document(results, task)]
    higher = results["higher_is_better"]
    lower = {name for name in names if higher[tasks[0]].get(name.split(",")[0]) is False}
    settings = {
        "benchmark": benchmark.name,
        "tasks": {task: results["versions"].get(task) for task in tasks},
        "shots": {task: results["n-shot"].get(task) for task in tasks},
        "n": {task: results["n-samples"][task]["effective"] for task in tasks},
        "lm_eval": metadata.version("lm_eval"),
    }
    return summarise(values, items, benchmark.metric or names[0], lower, settings)


def _by_document(results: Any, task: str) -> list[dict[str, Any]]:
    """One sample per document, in order; with several filters lm-eval lists a document once for each."""
    samples = results["samples"][task]
    first = samples[0]["filter"]
    return [sample for sample in samples if sample["filter"] == first]


def _metrics(result: dict[str, Any], samples: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    metrics = {}
    for filter_name in dict.fromkeys(sample["filter"] for sample in samples):
        mine = [sample for sample in samples if sample["filter"] == filter_name]
        for metric in mine[0]["metrics"]:
            name = metric if filter_name == "none" else f"{metric},{filter_name}"
            values = _per_item([sample[metric] for sample in mine])
            reported = result[f"{metric},{filter_name}"]
            if not np.isclose(values.mean(), reported, rtol=0, atol=1e-9):
                raise ValueError(
                    f"metric {name!r} is not a mean over items (lm-eval {reported}, items {values.mean()})"
                )
            metrics[name] = values
    return metrics


def _per_item(values: list[Any]) -> np.ndarray:
    """Numbers as they are; lists (IFEval's instructions of a prompt) pooled over all items."""
    if isinstance(values[0], list):
        sums = np.array([float(sum(value)) for value in values])
        return contributions(sums, np.array([float(len(value)) for value in values]))
    return np.array(values, dtype=float)
