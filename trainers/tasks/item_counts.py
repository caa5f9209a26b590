"""How many items of a benchmark are scored, known before anything runs."""

from functools import lru_cache
from pathlib import Path

from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import item_sources, task_files
from trainers.tasks.benchmarks import local_splits, task_paths
from trainers.tasks.registry import Benchmark
from trainers.tasks.task_files import EvaluationUnavailable


def scored(benchmark: Benchmark, spec: EvaluateSpec) -> int | None:
    """Of `evaluate.data_dir` where the benchmark is read from there, else of its public data; a
    limit holds for each of its tasks. None where nobody knows."""
    limit = spec.limit
    if spec.data_dir is not None and (benchmark.local_files or benchmark.pairs):
        try:
            tasks = _local(benchmark, spec, spec.data_dir)
        except EvaluationUnavailable:  # which the plan tells of in its own place
            return None
        return sum(rows if limit is None else min(rows, limit) for rows in tasks)
    if benchmark.items is None or limit is None:
        return benchmark.items
    return min(benchmark.items, limit * len(benchmark.tasks))


def _local(benchmark: Benchmark, spec: EvaluateSpec, data_dir: str) -> list[int]:
    """Items of each task."""
    if benchmark.pairs is not None:
        file = task_files.local_file(Path(data_dir), benchmark.pairs.file)
        return [_rows(file, file.stat().st_mtime_ns)]
    return [_rows_scored(benchmark, path, spec) for path in task_paths(benchmark)]


def _rows_scored(benchmark: Benchmark, task: Path, spec: EvaluateSpec) -> int:
    splits, keys = local_splits(benchmark, task, spec), task_files.config(task)
    named = (keys.get(key) for key in ("test_split", "validation_split"))
    split = next((split for split in named if split in splits), None)
    return 0 if split is None else _rows(splits[split], splits[split].stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _rows(path: Path, _changed: int) -> int:
    return sum(1 for _ in item_sources.rows_of(str(path)))
