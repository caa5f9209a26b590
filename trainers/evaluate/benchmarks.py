"""Benchmark -> lm-eval tasks, metric, shots and chat template: the settings that define a score.

The entries are the preset `paper`: the settings of SmolTulu (arXiv 2412.08347), which evaluates
with SmolLM2's lighteval suite (huggingface/smollm, text/evaluation/tasks.py), in lm-eval's terms.
The preset `lm_eval` takes the tasks as lm-eval has them; `settings` says what either comes to. Any
other lm-eval task is a benchmark too, by its name or as a YAML file.
"""

import hashlib
import importlib.util
import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

from trainers.evaluate import task_files, task_index
from trainers.evaluate.task_files import EvaluationUnavailable
from trainers.specs.spec import EvaluateSpec

FORMAT = 3
"""Raised when the same settings would give other scores or other metrics."""

AVERAGE = "average"
"""Metric name of the unweighted mean of `Benchmark.averaged`."""


class Settings(NamedTuple):
    """What an evaluation preset decides of a benchmark."""

    chat_template: bool
    shots: int | None
    """None: as the task has it."""
    max_gen_toks: int | None
    """Longest answer in tokens; None: as the task has it, or lm-eval's 256."""


class Pairs(NamedTuple):
    """Rows with a chosen and a rejected answer."""

    data: str
    """A data set on the hub."""
    split: str
    file: str
    """Pattern of the one file that has them in `evaluate.data_dir`."""


class Benchmark(NamedTuple):
    """`chat_template`, `shots` and `max_gen_toks` are those of the preset `paper`; the preset
    `lm_eval` has no chat template and the other two as the task has them."""

    name: str
    tasks: tuple[str, ...]
    """YAML files, absolute or below lm_eval/tasks. Several tasks count equally."""
    metric: str | None
    """The primary metric, as lm-eval names it; `average` for the mean of `averaged`; None: the
    task's first."""
    chat_template: bool = True
    shots: int | None = None
    max_gen_toks: int | None = None
    averaged: tuple[str, ...] = ()
    gold: Literal["solution", "target"] | None = None
    """What a generative benchmark's companions measure the log-likelihood of: see
    trainers/evaluate/continuous_metrics.py. Those of multiple choice need no declaration."""
    items: int | None = None
    """Items of the public data, all tasks together; for plans."""
    tokens_per_item: int | None = None
    """Tokens that lm-eval's stock class forwards for an item with its companions, at most; for
    plans. Measured with the tokenizer of SmolLM2, or of the tiny model, on 150 items."""
    needs_punkt: bool = False
    """Needs nltk's sentence splitter, which lm-eval would download only after all generation."""
    local_files: tuple[tuple[str, str, str], ...] = ()
    """(stem of the task's file, split, file pattern) of the items in `evaluate.data_dir`."""
    pairs: Pairs | None = None
    """Of a benchmark for reward models, which is no task of lm-eval: see
    trainers/evaluate/pair_accuracy.py."""

    @property
    def scores(self) -> Literal["policy", "reward"]:
        """The kind of model that it is for."""
        return "policy" if self.pairs is None else "reward"


FEWSHOT_SPLIT = re.compile(r"^fewshot_split: (\w+)$", re.MULTILINE)
STOCK_SHOTS = re.compile(r"^num_fewshot: (\d+)$", re.MULTILINE)

WORLD = Path(__file__).parents[1] / "world"

IFEVAL_METRICS = (
    "prompt_level_strict_acc",
    "inst_level_strict_acc",
    "prompt_level_loose_acc",
    "inst_level_loose_acc",
)


def _world(form: str, metric: str, tokens_per_item: int, **settings: Any) -> Benchmark:
    name = f"world_{form}"
    return Benchmark(
        name,
        (str(WORLD / f"{name}.yaml"),),
        metric,
        shots=0,
        items=300,
        tokens_per_item=tokens_per_item,
        **settings,
    )


# The 27 subtasks of Suzgun et al. (arXiv 2210.09261), each with its own three shots.
BBH_SUBTASKS = (
    "boolean_expressions", "causal_judgement", "date_understanding", "disambiguation_qa",
    "dyck_languages", "formal_fallacies", "geometric_shapes", "hyperbaton",
    "logical_deduction_five_objects", "logical_deduction_seven_objects",
    "logical_deduction_three_objects", "movie_recommendation", "multistep_arithmetic_two",
    "navigate", "object_counting", "penguins_in_a_table", "reasoning_about_colored_objects",
    "ruin_names", "salient_translation_error_detection", "snarks", "sports_understanding",
    "temporal_sequences", "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects", "tracking_shuffled_objects_three_objects",
    "web_of_lies", "word_sorting",
)  # fmt: skip

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        # ARC (average): unweighted mean of easy and challenge, acc_norm, no shots.
        Benchmark(
            "arc",
            ("arc/arc_easy.yaml", "arc/arc_challenge.yaml"),
            "acc_norm",
            shots=0,
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
            shots=5,
            max_gen_toks=256,
            gold="solution",
            items=1319,
            tokens_per_item=3800,
            local_files=(
                ("gsm8k", "test", "gsm8k_test*.jsonl"),
                ("gsm8k", "train", "gsm8k_train*.jsonl"),
            ),
        ),
        Benchmark(
            "hellaswag",
            ("hellaswag/hellaswag.yaml",),
            "acc_norm",
            shots=0,
            items=10042,
            tokens_per_item=450,
            local_files=(("hellaswag", "validation", "hellaswag_validation*.jsonl"),),
        ),
        # IFEval (average): the paper does not define it; the mean of the four is inferred.
        Benchmark(
            "ifeval",
            ("ifeval/ifeval.yaml",),
            AVERAGE,
            shots=0,
            max_gen_toks=1280,
            averaged=IFEVAL_METRICS,
            items=541,
            tokens_per_item=1360,
            needs_punkt=True,
            local_files=(("ifeval", "train", "ifeval*.jsonl"),),
        ),
        Benchmark(
            "piqa",
            ("piqa/piqa.yaml",),
            "acc_norm",
            shots=0,
            items=1838,
            tokens_per_item=133,
            local_files=(("piqa", "validation", "piqa_validation*.jsonl"),),
        ),
        # BBH: 3 shots, the answer alone without a chain of thought, macro average. The longest
        # gold answer has 50 tokens: a text of 128 matches none, and lm-eval's 256 cost the double.
        Benchmark(
            "bbh",
            tuple(f"bbh/fewshot/{subtask}.yaml" for subtask in BBH_SUBTASKS),
            "exact_match",
            shots=3,
            max_gen_toks=128,
            gold="target",
            items=6511,
            tokens_per_item=1071,
            local_files=tuple((name, "test", f"bbh/{name}.jsonl") for name in BBH_SUBTASKS),
        ),
        # MMLU-Pro (MCF): the letters' log-likelihoods; lm-eval's own mmlu_pro is generative.
        Benchmark(
            "mmlu_pro",
            ("leaderboard/mmlu_pro/mmlu_pro.yaml",),
            "acc",
            shots=0,
            items=12032,
            tokens_per_item=250,
            local_files=(("mmlu_pro", "test", "mmlu_pro_test*.jsonl"),),
        ),
        # RewardBench by category: Lambert et al. 2024, arXiv 2403.13787.
        Benchmark(
            "rewardbench",
            (),
            AVERAGE,
            items=2985,
            pairs=Pairs("allenai/reward-bench", "filtered", "rewardbench*.jsonl"),
        ),
        # UFB, as SmolTulu's Table 8 has it.
        Benchmark(
            "ufb",
            (),
            "accuracy",
            pairs=Pairs(
                "allenai/ultrafeedback_binarized_cleaned", "test_prefs", "ultrafeedback_eval*.jsonl"
            ),
        ),
        # The miniature world of grids/quickstart.yaml, in the forms of the first four.
        _world("choice", "acc", tokens_per_item=91),
        _world("arithmetic", "exact_match,strict-match", tokens_per_item=136, gold="solution"),
        _world("continuation", "acc", tokens_per_item=112),
        _world("instruction", "obeyed", tokens_per_item=32),
    )
}

HELDOUT = "heldout_loss"
"""The loss on the held-out slice of a stage's data: a benchmark that every trained stage has."""


def find(name: str) -> Benchmark:
    """A benchmark by name, else a task of lm-eval by its name or by the path of its YAML file.

    Raises:
        KeyError: none of them.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return Benchmark(path.stem, (str(path.resolve()),), None)
        raise KeyError(name)
    stock = task_index.find(name)
    if stock is None:
        raise KeyError(name)
    return Benchmark(name, (stock,), None)


def problem(name: str) -> str | None:
    """What is wrong with a benchmark's name, or None."""
    try:
        benchmark = find(name)
    except KeyError:
        if name.endswith((".yaml", ".yml")):
            return f"no lm-eval task file {name!r}"
        return task_index.problem(name, list(BENCHMARKS))
    if name in BENCHMARKS or not name.endswith((".yaml", ".yml")):
        return None
    return next(filter(None, map(task_files.reads_no_file, task_paths(benchmark))), None)


def settings(benchmark: Benchmark, spec: EvaluateSpec) -> Settings:
    """What the spec's preset comes to; `evaluate.chat_template` overrides either."""
    match spec.preset:
        case "paper":
            found = Settings(benchmark.chat_template, benchmark.shots, benchmark.max_gen_toks)
        case "lm_eval":
            found = Settings(False, None, None)
    if spec.chat_template is not None:
        found = found._replace(chat_template=spec.chat_template)
    return found


def task_paths(benchmark: Benchmark) -> list[Path]:
    """The YAML files of a benchmark's tasks."""
    stock = task_index.folder()
    return [stock / task for task in benchmark.tasks]  # an absolute path stays as it is


def fingerprint(benchmark: Benchmark, spec: EvaluateSpec) -> str:
    """Hash of what decides a score apart from the weights, known before anything runs.

    Covers the tasks, the metrics, what the preset comes to, the evaluation settings, the tasks' own
    files, local items, and lm-eval's version, which stands for its tasks. What only shows when a
    benchmark runs (the prompts as rendered, the items drawn) is marked in the record.
    """
    parts = [
        FORMAT,
        [Path(task).name for task in benchmark.tasks],
        [benchmark.name, benchmark.metric, benchmark.averaged, benchmark.gold],
        settings(benchmark, spec),
        spec.model_dump(mode="json", exclude={"benchmarks", "data_dir", "preset", "chat_template"}),
        metadata.version("lm_eval"),
        [hashlib.sha256(path.read_bytes()).hexdigest() for path in _own_files(benchmark, spec)],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _own_files(benchmark: Benchmark, spec: EvaluateSpec) -> list[Path]:
    """A task file of ours or the user's with all that it includes, names and has beside it, and
    the local items."""
    files = []
    for task in map(Path, benchmark.tasks):
        if task.is_absolute():
            files += [*task_files.with_included(task), *sorted(task.parent.glob("*.py"))]
            named = map(Path, task_files.NAMED_FILE.findall(task_files.text(task)))
            files += [path for path in named if path.is_file()]
    if spec.data_dir is not None:
        patterns = [pattern for *_, pattern in benchmark.local_files]
        patterns += [benchmark.pairs.file] if benchmark.pairs is not None else []
        files += [task_files.local_file(Path(spec.data_dir), pattern) for pattern in patterns]
    return files


def missing(benchmark: Benchmark, spec: EvaluateSpec) -> str | None:
    """What a benchmark lacks on this machine, found before anything is generated; None where all
    is there."""
    try:
        if spec.data_dir is not None and benchmark.pairs is not None:
            task_files.local_file(Path(spec.data_dir), benchmark.pairs.file)
        if spec.data_dir is not None and benchmark.local_files:
            for path in task_paths(benchmark):
                local_splits(benchmark, path, spec)
    except EvaluationUnavailable as error:
        return str(error)
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
