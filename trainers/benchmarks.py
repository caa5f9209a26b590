"""Benchmark -> lm-eval tasks, metric, shots and chat template: the settings that define a score.

Settings follow SmolTulu (arXiv 2412.08347), which evaluates with SmolLM2's lighteval suite, in
lm-eval's terms. Any other lm-eval task is a benchmark too, as a YAML file.
"""

import hashlib
import json
import re
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from trainers.spec import EvaluateSpec

AVERAGE = "average"
"""Metric name of the unweighted mean of `Benchmark.averaged`."""


class EvaluationUnavailable(Exception):
    """A benchmark cannot be run here and now: its items or a resource are missing."""


class Benchmark(NamedTuple):
    name: str
    tasks: tuple[str, ...]
    """YAML files, absolute or below lm_eval/tasks. Several tasks count equally."""
    metric: str | None
    """The primary metric, as lm-eval names it; `average` for the mean of `averaged`; None: the
    task's first."""
    chat_template: bool = True
    averaged: tuple[str, ...] = ()
    max_gen_toks: int | None = None
    items: int | None = None
    """Items of the public data, all tasks together; for plans."""
    tokens_per_item: int | None = None
    """Tokens that lm-eval's stock class forwards for an item, at most; for plans. Measured with
    the tokenizer of SmolLM2, or of the tiny model, on 150 items."""
    needs_punkt: bool = False
    """Needs nltk's sentence splitter, which lm-eval would download only after all generation."""
    local_files: tuple[tuple[str, str, str], ...] = ()
    """(task, split, file pattern) of the items in `evaluate.data_dir`."""


INCLUDE = re.compile(r"^include: *['\"]?([^\s'\"]+)", re.MULTILINE)

NAMED_FILE = re.compile(r"[^\s'\",\[\]{}]+\.(?:jsonl?|parquet|csv)\b")
"""A data file that a task file names, as `dataset_kwargs: {data_files: ...}` does."""

WORLD = Path(__file__).parent / "world"

IFEVAL_METRICS = (
    "prompt_level_strict_acc",
    "inst_level_strict_acc",
    "prompt_level_loose_acc",
    "inst_level_loose_acc",
)


def _world(form: str, metric: str, tokens_per_item: int) -> Benchmark:
    name = f"world_{form}"
    return Benchmark(
        name,
        (str(WORLD / f"{name}.yaml"),),
        metric,
        items=300,
        tokens_per_item=tokens_per_item,
    )


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        # ARC (average): unweighted mean of easy and challenge, acc_norm, no shots.
        Benchmark(
            "arc",
            ("arc/arc_easy.yaml", "arc/arc_challenge.yaml"),
            "acc_norm",
            items=3548,
            tokens_per_item=260,
            local_files=(
                ("arc_easy", "test", "arc_easy_test*.jsonl"),
                ("arc_challenge", "test", "arc_challenge_test*.jsonl"),
            ),
        ),
        # GSM8K: 5 shots from the training set, 256 new tokens, the last number of the answer.
        Benchmark(
            "gsm8k",
            ("gsm8k/gsm8k.yaml",),
            "exact_match,flexible-extract",
            max_gen_toks=256,
            items=1319,
            tokens_per_item=1376,
            local_files=(
                ("gsm8k", "test", "gsm8k_test*.jsonl"),
                ("gsm8k", "train", "gsm8k_train*.jsonl"),
            ),
        ),
        Benchmark(
            "hellaswag",
            ("hellaswag/hellaswag.yaml",),
            "acc_norm",
            items=10042,
            tokens_per_item=430,
            local_files=(("hellaswag", "validation", "hellaswag_validation*.jsonl"),),
        ),
        # IFEval (average): the paper does not define it; the mean of the four is inferred.
        Benchmark(
            "ifeval",
            ("ifeval/ifeval.yaml",),
            AVERAGE,
            averaged=IFEVAL_METRICS,
            items=541,
            tokens_per_item=1358,
            needs_punkt=True,
            local_files=(("ifeval", "train", "ifeval*.jsonl"),),
        ),
        # The miniature world of grids/quickstart.yaml, in the forms of the four above.
        _world("choice", "acc", tokens_per_item=91),
        _world("arithmetic", "exact_match,strict-match", tokens_per_item=50),
        _world("continuation", "acc", tokens_per_item=112),
        _world("instruction", "obeyed", tokens_per_item=32),
    )
}

HELDOUT = "heldout_loss"
"""The loss on the held-out slice of a stage's data: a benchmark that every trained stage has."""


def find(name: str) -> Benchmark:
    """A benchmark by name, or an lm-eval task by the path of its YAML file.

    Raises:
        KeyError: neither.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return Benchmark(path.stem, (str(path.resolve()),), None)
    raise KeyError(name)


def problem(name: str) -> str | None:
    """What is wrong with a benchmark's name, or None."""
    try:
        find(name)
    except KeyError:
        if name.endswith((".yaml", ".yml")):
            return f"no lm-eval task file {name!r}"
        known = ", ".join(BENCHMARKS)
        return f"{name!r} is not a benchmark; use one of {known}, or a task's YAML file"
    return None


def task_text(path: Path) -> str:
    """A task file with all that it includes, its own keys first."""
    return "\n".join(file.read_text(encoding="utf-8") for file in _with_included(path))


def _with_included(path: Path) -> list[Path]:
    included = INCLUDE.search(path.read_text(encoding="utf-8"))
    return [path, *(_with_included(path.parent / included[1]) if included else [])]


def local_file(data_dir: Path, pattern: str) -> Path:
    """The one file in `data_dir` that matches.

    Raises:
        EvaluationUnavailable: none does, or several.
    """
    found = sorted(data_dir.glob(pattern))
    if len(found) != 1:
        what = "no file" if not found else f"{len(found)} files"
        raise EvaluationUnavailable(f"evaluate.data_dir: {what} {pattern} in {data_dir}")
    return found[0].resolve()


def fingerprint(benchmark: Benchmark, spec: EvaluateSpec) -> str:
    """Hash of what decides a score apart from the weights, known before anything runs.

    Covers the benchmark's entry, the evaluation settings, the task's own files, local items, and
    lm-eval's version.
    """
    entry = {**benchmark._asdict(), "tasks": [Path(task).name for task in benchmark.tasks]}
    for only_for_plans in ("items", "tokens_per_item"):
        del entry[only_for_plans]
    parts = [
        entry,
        spec.model_dump(mode="json", exclude={"benchmarks", "data_dir"}),
        metadata.version("lm_eval"),
        [_file_hash(path) for path in _own_files(benchmark, spec)],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _own_files(benchmark: Benchmark, spec: EvaluateSpec) -> list[Path]:
    """A task file of ours or the user's with all that it includes, names and has beside it, and
    the local items."""
    files = []
    for task in map(Path, benchmark.tasks):
        if task.is_absolute():
            files += [*_with_included(task), *sorted(task.parent.glob("*.py"))]
            named = map(Path, NAMED_FILE.findall(task_text(task)))
            files += [path for path in named if path.is_file()]
    if spec.data_dir is not None:
        files += [local_file(Path(spec.data_dir), pattern) for *_, pattern in benchmark.local_files]
    return files


def missing(benchmark: Benchmark, spec: EvaluateSpec) -> str | None:
    """What a benchmark lacks on this machine, found before anything is generated; None where all
    is there."""
    try:
        for _, _, pattern in benchmark.local_files if spec.data_dir is not None else ():
            local_file(Path(spec.data_dir or ""), pattern)
    except EvaluationUnavailable as error:
        return str(error)
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


def _file_hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
