"""A benchmark's lm-eval tasks with their items, the shots of each item, and the subset scored."""

import hashlib
import json
import random
import re
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

from trainers import files
from trainers.specs.evaluation import EvaluateAt, EvaluateSpec
from trainers.tasks import task_files, task_groups
from trainers.tasks.benchmarks import fingerprint, local_splits, settings, task_paths
from trainers.tasks.registry import Benchmark
from trainers.tasks.task_files import EvaluationUnavailable, TaskFileError

SUBSET_SEED = 0
FEWSHOT_SEED = 1234
"""lm-eval's own default, which published numbers use."""

READING_SEED = 0
"""lm-eval's default for Python's own random numbers."""

KEPT_CHARACTERS = 2**26
"""Of the prompts that a process keeps for its next model, all benchmarks together."""

SPLIT_KEY = re.compile(r"^(\w+_split): (\w+)$", re.MULTILINE)
"""Which split of the data a task file uses as its training, validation, test or few-shot split."""


class Asked(NamedTuple):
    """What one benchmark asks of a model."""

    tasks: dict[str, Any]
    chosen: dict[str, list[int]] | None
    """See `subsets`."""


_kept: dict[tuple[str, str], Asked] = {}


def asked(benchmark: Benchmark, spec: EvaluateSpec, template: str) -> Asked:
    """The tasks and the items scored. The next model of this process whose tokenizer renders
    prompts alike, by `template`, is asked the same requests: to load and render them anew is a
    good part of scoring a small model.

    Raises:
        EvaluationUnavailable: the items are missing.
    """
    if sum(map(_characters, _kept.values())) > KEPT_CHARACTERS:
        _kept.clear()
    try:
        key = (fingerprint(benchmark, spec), template)
    except TaskFileError as error:
        raise EvaluationUnavailable(f"benchmark {benchmark.name!r}: {error}") from error
    if key not in _kept:
        tasks = load(benchmark, spec)
        for task in tasks.values():
            _build_once(task)
        _kept[key] = Asked(tasks, subsets(tasks, spec.limit))
    return _kept[key]


def _characters(asked: Asked) -> int:
    built = (request for task in asked.tasks.values() for request in _requests(task))
    return sum({id(request.args[0]): len(request.args[0]) for request in built}.values())


def _requests(task: Any) -> list[Any]:
    return getattr(task, "_instances", None) or []  # there is no such thing before they are built


def _build_once(task: Any) -> None:
    """lm-eval builds a task's requests for each model; from the second one on, forget the answers
    instead."""
    build = task.build_all_requests

    def build_or_reset(**options: Any) -> None:
        if not _requests(task):
            build(**options)
        for request in _requests(task):
            request.resps, request.filtered_resps = [], {}

    task.build_all_requests = build_or_reset


def load(benchmark: Benchmark, spec: EvaluateSpec) -> dict[str, Any]:
    """The tasks by name, under the spec's preset; also how their data is fetched beforehand.

    Raises:
        EvaluationUnavailable: the items are missing, or a task file is wrong.
    """
    try:
        with _seeded(), _at(spec):
            tasks = _load(benchmark, spec)
    except EvaluationUnavailable:
        raise
    except Exception as error:  # hub client, datasets, yaml and a user's functions raise their own
        raise EvaluationUnavailable(f"benchmark {benchmark.name!r}: {_reason(error)}") from error
    preset = settings(benchmark, spec)
    for task in tasks.values():
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
        shots = task.get_config("num_fewshot") if preset.shots is None else preset.shots
        task.set_config(key="num_fewshot", value=shots or 0)
        if preset.max_gen_toks is not None:
            limit = {"max_gen_toks": preset.max_gen_toks}
            task.set_config(key="generation_kwargs", value=limit, update=True)
    return tasks


@contextmanager
def _seeded() -> Iterator[None]:
    """Random numbers as lm-eval's command has them: some tasks shuffle choices as they read their
    items."""
    states = random.getstate(), np.random.get_state()
    random.seed(READING_SEED)
    np.random.seed(FEWSHOT_SEED)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@contextmanager
def _at(spec: EvaluateSpec) -> Iterator[None]:
    """Data sets of the hub at the commits that the spec has, each in a cache of its own: offline
    `datasets` takes the newest thing of that name in its cache, whatever the commit asked for."""
    if not isinstance(spec, EvaluateAt):
        yield
        return
    import datasets

    read, commits = datasets.load_dataset, spec.commits

    def read_at(path: str, *arguments: Any, **options: Any) -> Any:
        if (commit := commits.get(path)) is not None:
            folder = str(files.cache_folder("benchmarks") / commit)
            options |= {"revision": commit, "cache_dir": folder}
        return read(path, *arguments, **options)

    with patch.object(datasets, "load_dataset", read_at):
        yield


def _load(benchmark: Benchmark, spec: EvaluateSpec) -> dict[str, Any]:
    """Relative names in a user's task file are relative to its folder, where lm-eval and datasets
    would take them from the working folder."""
    from lm_eval.tasks import TaskManager

    path = task_paths(benchmark)[0]
    own_folder = chdir(path.parent) if Path(benchmark.tasks[0]).is_absolute() else nullcontext()
    if benchmark.group:
        with task_groups.manager(path) as manager, own_folder:
            return manager.load([benchmark.group])["tasks"]
    folder = tempfile.TemporaryDirectory()
    with own_folder:
        # Without the defaults: indexing every stock task takes ten seconds.
        manager: Any = TaskManager(include_defaults=False)
        tasks = manager.load(localised(benchmark, spec, Path(folder.name)))["tasks"]
    for task in tasks.values():
        task.folder_of_items = folder  # which goes with the tasks: they write there again
    return tasks


def _reason(error: Exception) -> str:
    """One line; a key that a task does not have with the nearest that it has."""
    from lm_eval.config.task import TaskConfig

    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if unknown := re.search(r"unexpected keyword argument '(\w+)'", line):
        meant = task_files.meant(unknown[1], TaskConfig.__dataclass_fields__)
        return f"its task file has an unknown key {unknown[1]!r}{meant}"
    return f"{line} ({type(error).__name__})"


def localised(benchmark: Benchmark, spec: EvaluateSpec, folder: Path) -> list[str]:
    """The tasks' YAML files; with a `data_dir`, written into `folder` around the stock ones to read
    local items."""
    paths = task_paths(benchmark)
    if spec.data_dir is not None and benchmark.local_files:
        paths = [_localised(path, benchmark, spec, folder) for path in paths]
    return [str(path) for path in paths]


def _localised(path: Path, benchmark: Benchmark, spec: EvaluateSpec, folder: Path) -> Path:
    splits = {name: str(file) for name, file in local_splits(benchmark, path, spec).items()}
    config = {
        "include": str(path),
        "dataset_path": "json",
        "dataset_name": None,
        # datasets caches by path: a private folder, or an edited file would not be seen
        "dataset_kwargs": {"data_files": splits, "cache_dir": str(folder / "cache")},
        **{
            key: None
            for key, split in SPLIT_KEY.findall(task_files.text(path))
            if split not in splits
        },
    }
    written = folder / path.name
    written.write_text(json.dumps(config))  # JSON is YAML
    return written


def subsets(tasks: dict[str, Any], limit: int | None) -> dict[str, list[int]] | None:
    """A seeded random subset of each task's items; a larger limit keeps the smaller one's items.

    The prompt of an item is the same in every subset (see `_keep_shots`). None: all items.
    """
    if limit is None:
        return None
    chosen = {}
    for name, task in tasks.items():
        items = task.eval_docs
        chosen[name] = sorted(first(len(items), limit).tolist())
        _keep_shots(task, items, chosen[name])
    return chosen


def item_name(task: str, document_hash: str) -> str:
    """The name of a document in evaluation records; `document_hash` is lm-eval's."""
    return hashlib.sha256(f"{task} {document_hash}".encode()).hexdigest()[:16]


def first(items: int, limit: int) -> np.ndarray:
    return np.random.default_rng(SUBSET_SEED).permutation(items)[:limit]


class _Drawn:
    """Takes the place of a task's sampler: shots drawn before, handed out item after item."""

    def __init__(self, shots: list[Any]):
        self._left = iter(shots)

    def sample(self, *_: Any, **__: Any) -> Any:
        return next(self._left)


def _keep_shots(task: Any, items: Any, chosen: list[int]) -> None:
    """Give the chosen items the shots that they have when all items are scored.

    lm-eval draws each item's shots from one random stream in the order of the items scored, so that
    leaving items out would change the prompts of the others.
    """
    from lm_eval.api.samplers import FirstNSampler

    shots = task.get_config("num_fewshot")
    sampler = getattr(task, "sampler", None)
    if not shots or sampler is None or isinstance(sampler, FirstNSampler):
        return
    among_items = task.fewshot_cfg.split == task.get_config("test_split")
    every = [sampler.sample(n=shots, eval_doc=item if among_items else None) for item in items]
    task.sampler = _Drawn([every[place] for place in chosen])
