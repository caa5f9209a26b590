"""The benchmarks that are built in, each with its lm-eval tasks, metric, shots and public items.

The settings are the preset `paper`: those of SmolTulu (arXiv 2412.08347), which evaluates with
SmolLM2's lighteval suite (huggingface/smollm, text/evaluation/tasks.py), in lm-eval's terms.
Labels, task types and chance levels, which tables of any origin need, are in
analysis/benchmarks.py.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

AVERAGE = "average"
"""Metric name of the unweighted mean of `Benchmark.averaged`."""

HELDOUT = "heldout_loss"
"""The loss on the held-out slice of a stage's data: a benchmark that every trained stage has."""


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
    group: str = ""
    """Name of lm-eval's group whose file `tasks` names: one score over all tasks of the group."""

    @property
    def scores(self) -> Literal["policy", "reward"]:
        """The kind of model that it is for."""
        return "policy" if self.pairs is None else "reward"


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
