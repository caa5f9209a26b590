"""A benchmark by its name -> its tasks, the settings that define its score, and its fingerprint.

A benchmark is one of trainers/tasks/registry.py, a task or group of lm-eval, or a YAML file of
one. Loads no torch; read at plan time.
"""

import hashlib
import importlib.util
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from trainers.specs.evaluation import EvaluateSpec
from trainers.specs.preference import PAIR_ACCURACY, RANKING_ACCURACY
from trainers.specs.rlvr import HELDOUT_REWARD
from trainers.tasks import metrics, own_files, task_files, task_groups, task_index
from trainers.tasks.registry import AVERAGE, BENCHMARKS, HELDOUT, Benchmark
from trainers.tasks.task_files import EvaluationUnavailable, TaskFileError

__all__ = ["AVERAGE", "BENCHMARKS", "HELDOUT", "Benchmark"]  # of the registry, for importers

FORMAT = 3
"""Raised when the same settings would give other scores or other metrics."""

OF_STAGES = (HELDOUT, PAIR_ACCURACY, RANKING_ACCURACY, HELDOUT_REWARD)
"""Benchmarks that a stage has by its held-out slice, whatever the grid lists."""

ANSWER_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names in a task's `generation_kwargs` of the longest answer, the first of which counts."""

LM_EVAL_ANSWER = 256
"""Tokens of an answer where a task does not say."""

FEWSHOT_SPLIT = re.compile(r"^fewshot_split: (\w+)$", re.MULTILINE)
STOCK_SHOTS = re.compile(r"^num_fewshot: (\d+)$", re.MULTILINE)


class Settings(NamedTuple):
    """What an evaluation preset decides of a benchmark."""

    chat_template: bool
    shots: int | None
    """None: as the task has it."""
    max_gen_toks: int | None
    """Longest answer in tokens; None: as the task has it, or lm-eval's 256."""


def find(name: str) -> Benchmark:
    """A benchmark by name, else a task or group of lm-eval by its name or by the path of its YAML
    file.

    Raises:
        KeyError: none of them.
        TaskFileError: the file is none of a task.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    if task_files.is_path(name):
        path = Path(name).resolve()
        if not path.is_file():
            raise KeyError(name)
        try:
            group = task_files.config(path)["group"] if task_groups.is_group(path) else ""
        except TaskFileError as error:
            raise TaskFileError(f"benchmark {path.stem!r}: {error}") from error
        return Benchmark(path.stem, (str(path),), None, group=group)
    if (task := task_index.find(name)) is not None:
        return Benchmark(name, (task,), None)
    if (group := task_index.find_group(name)) is not None:
        return Benchmark(name, (group,), None, group=name)
    raise KeyError(name)


def same(name: str, other: str) -> bool:
    """Whether two names are of one benchmark; files may be named in several ways."""
    return canonical(name) == canonical(other)


def canonical(name: str) -> str:
    """A name as it stands, or the absolute path of a task file."""
    return str(Path(name).resolve()) if task_files.is_path(name) else name


def labels(names: Sequence[str]) -> dict[str, str]:
    """Name as the grid has it -> name in tables and records.

    A task file goes by its own name without the suffix, and by its folder's before it where another
    benchmark of the grid, or one that is built in, has that name.
    """
    known = {name: find(name).name for name in names}
    taken = [*known.values(), *OF_STAGES]
    for name in names:
        if not task_files.is_path(name):
            continue
        path = Path(name).resolve()
        if taken.count(path.stem) > 1 or path.stem in (*BENCHMARKS, *OF_STAGES):
            known[name] = f"{path.parent.name}-{path.stem}"
            for parent in path.parent.parents:
                if list(known.values()).count(known[name]) == 1 or not parent.name:
                    break
                known[name] = f"{parent.name}-{known[name]}"
    return known


def problem(name: str) -> str | None:
    """What is wrong with a benchmark's name or its task file, or None."""
    if name in BENCHMARKS:
        return None
    path = Path(name)
    if task_files.is_path(name):
        if not path.is_file():
            return f"no lm-eval task file {name!r}{_near(path)}"
        if (wrong := task_files.problem(path.resolve())) is not None:
            return wrong
    try:
        benchmark = find(name)
        task = task_index.folder() / benchmark.tasks[0]
        if benchmark.group and task_files.is_path(name):
            list(task_groups.leaves(task))
        wrong = task_files.problem(task) if not task_files.is_path(name) else None
        return wrong or metrics.problem(benchmark)
    except KeyError:
        return task_index.problem(name, list(BENCHMARKS))
    except TaskFileError as error:
        return str(error)


def _near(path: Path) -> str:
    folder = path.parent
    files = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    return task_files.meant(path.name, [name for name in files if task_files.is_path(name)])


def settings(benchmark: Benchmark, spec: EvaluateSpec) -> Settings:
    """What the spec's preset comes to; `evaluate.chat_template` overrides either."""
    match spec.preset:
        case "paper":
            preset = Settings(benchmark.chat_template, benchmark.shots, benchmark.max_gen_toks)
        case "lm_eval":
            preset = Settings(False, None, None)
    if spec.chat_template is not None:
        preset = preset._replace(chat_template=spec.chat_template)
    return preset


def task_paths(benchmark: Benchmark) -> list[Path]:
    """The YAML files of a benchmark's tasks, or that of its group."""
    stock = task_index.folder()
    return [stock / task for task in benchmark.tasks]  # an absolute path stays as it is


def task_configs(benchmark: Benchmark) -> list[dict[str, Any]]:
    """The keys of each of a benchmark's tasks."""
    paths = task_paths(benchmark)
    if benchmark.group:
        return list(task_groups.leaves(paths[0]))
    return [task_files.config(path) for path in paths]


def longest_answer(benchmark: Benchmark, spec: EvaluateSpec) -> int:
    """Tokens of the longest answer that a model may write to an item; 0 where it writes none."""
    preset = settings(benchmark, spec).max_gen_toks
    return _stock_answer(benchmark) if preset is None else preset


@cache
def _stock_answer(benchmark: Benchmark) -> int:
    """As the tasks have it."""
    written = [
        config.get("generation_kwargs") or {}
        for config in task_configs(benchmark)
        if config.get("output_type", "generate_until") == "generate_until"
    ]
    lengths = [[given[key] for key in ANSWER_LENGTHS if given.get(key)] for given in written]
    return max((int([*given, LM_EVAL_ANSWER][0]) for given in lengths), default=0)


def fingerprint(benchmark: Benchmark, spec: EvaluateSpec) -> str:
    """Hash of what decides a score apart from the weights, known before anything runs.

    Covers the tasks, the metrics, what the preset comes to, the evaluation settings, the tasks' own
    files (`own_files`), local items, and lm-eval's version, which stands for its tasks. What only
    shows when a benchmark runs (the prompts as rendered, the items drawn) is marked in the record.
    """
    excluded = {"benchmarks", "data_dir", "preset", "chat_template"}
    parts = [
        FORMAT,
        [Path(task).name for task in benchmark.tasks],
        [benchmark.name, benchmark.metric, benchmark.averaged, benchmark.gold],
        settings(benchmark, spec),
        spec.model_dump(mode="json", exclude=excluded, by_alias=True),
        metadata.version("lm_eval"),
        [own_files.content(path) for path in _own_files(benchmark, spec)],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _own_files(benchmark: Benchmark, spec: EvaluateSpec) -> list[Path]:
    """Those of a task that is ours or the user's, and the local items."""
    tasks = [Path(task) for task in benchmark.tasks if Path(task).is_absolute()]
    files = [file for task in tasks for file in own_files.of_task(task)]
    if spec.data_dir is not None:
        patterns = [pattern for *_, pattern in benchmark.local_files]
        patterns += [benchmark.pairs.file] if benchmark.pairs is not None else []
        files += [task_files.local_file(Path(spec.data_dir), pattern) for pattern in patterns]
    return files


def missing(benchmark: Benchmark, spec: EvaluateSpec) -> str | None:
    """What a benchmark lacks on this machine, found before anything is generated; None where all
    is there."""
    if (lacks := missing_items(benchmark, spec)) is not None:
        return lacks
    if spec.backend == "vllm" and importlib.util.find_spec("vllm") is None:
        return (
            "evaluate.backend: vllm is not installed here; run `python -m pip install "
            "'lm-eval[vllm]'` where the GPU is, or leave the backend out"
        )
    if benchmark.needs_punkt:
        import nltk

        try:
            nltk.data.find("tokenizers/punkt_tab")
        except LookupError:
            return (
                f"benchmark {benchmark.name!r} needs nltk's sentence splitter; run "
                "`python -m nltk.downloader punkt_tab`, or set NLTK_DATA to a folder that has it"
            )
    return None


def missing_items(benchmark: Benchmark, spec: EvaluateSpec) -> str | None:
    """What is not in `evaluate.data_dir`, or None."""
    try:
        if spec.data_dir is not None and benchmark.pairs is not None:
            task_files.local_file(Path(spec.data_dir), benchmark.pairs.file)
        if spec.data_dir is not None and benchmark.local_files:
            for path in task_paths(benchmark):
                local_splits(benchmark, path, spec)
    except EvaluationUnavailable as error:
        return str(error)
    return None


def local_splits(benchmark: Benchmark, task: Path, spec: EvaluateSpec) -> dict[str, Path]:
    """Split -> local file of one of a benchmark's tasks.

    Raises:
        EvaluationUnavailable: a file is not there, or the shots come from a split that has none.
    """
    data_dir = Path(spec.data_dir or "")
    splits = {
        split: task_files.local_file(data_dir, pattern)
        for stem, split, pattern in benchmark.local_files
        if stem == task.stem
    }
    text = task_files.text(task)
    shots, source = settings(benchmark, spec).shots, FEWSHOT_SPLIT.search(text)
    if shots is None:
        stock = STOCK_SHOTS.search(text)
        shots = int(stock[1]) if stock else 0
    if shots and source and source[1] not in splits:
        raise EvaluationUnavailable(
            f"evaluate.data_dir: benchmark {benchmark.name!r} takes its {shots} shots from the "
            f"split {source[1]!r}, which has no file in {data_dir}; leave data_dir out, or use the "
            "preset paper"
        )
    return splits
