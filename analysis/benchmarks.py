"""What is known about each benchmark: its label, task type and chance level.

The assignment to reasoning or pattern recognition is the paper's (SmolTulu, arXiv 2412.08347,
abstract), which sorts four benchmarks only: ARC, GSM8K, HellaSwag and IFEval. Edit `TASKS` to try
another one.
"""

from typing import Literal, NamedTuple

TaskType = Literal["reasoning", "pattern", "loss", "other"]

TASK_TYPE_LABELS: dict[str, str] = {
    "reasoning": "Reasoning",
    "pattern": "Pattern recognition",
    "loss": "Held-out loss",
    "other": "Other benchmarks",
}


class Task(NamedTuple):
    """One benchmark; `chance` is the score of guessing, a fraction, None where none is defined;
    `share` whether its usual score is a share of its items, between 0 and 1."""

    benchmark: str
    label: str
    task_type: TaskType
    chance: float | None
    share: bool = True


TASKS = {
    task.benchmark: task
    for task in (
        Task("arc", "ARC", "reasoning", 0.25),
        Task("arc_challenge", "ARC challenge", "reasoning", 0.25),
        Task("arc_easy", "ARC easy", "reasoning", 0.25),
        Task("gsm8k", "GSM8K", "reasoning", 0.0),
        Task("gsm8k_cot", "GSM8K, chain of thought", "reasoning", 0.0),
        Task("hellaswag", "HellaSwag", "pattern", 0.25),
        Task("ifeval", "IFEval", "pattern", None),
        # in the paper's table 3, which gives them no task type
        Task("piqa", "PIQA", "other", 0.5),
        Task("bbh", "BBH", "other", None),
        # 3 to 10 options: the mean of 1 / options over 1,400 items, 100 of each category
        Task("mmlu_pro", "MMLU-Pro", "other", 0.11),
        # the quickstart's counterparts of ARC, GSM8K, HellaSwag and IFEval
        Task("world_choice", "World choice", "reasoning", 0.25),
        Task("world_arithmetic", "World arithmetic", "reasoning", 0.0),
        Task("world_continuation", "World continuation", "pattern", 0.25),
        Task("world_instruction", "World instruction", "pattern", None),
        # of reward models, in the paper's table 8
        Task("rewardbench", "RewardBench", "other", 0.5),
        Task("rewardbench_chat", "RewardBench, Chat", "other", 0.5),
        Task("rewardbench_chat_hard", "RewardBench, Chat Hard", "other", 0.5),
        Task("rewardbench_safety", "RewardBench, Safety", "other", 0.5),
        Task("rewardbench_reasoning", "RewardBench, Reasoning", "other", 0.5),
        Task("ufb", "UFB test_prefs", "other", 0.5),
        # of what the sweep holds out of the training data
        Task("pair_accuracy", "Held-out pairs", "other", 0.5),
        Task("ranking_accuracy", "Ranking accuracy", "other", 0.5),  # arXiv 2405.19534
        Task("heldout_loss", "Held-out loss", "loss", None, False),
        # what a guess earns hangs on the grader, which may be the user's
        Task("heldout_reward", "Held-out reward", "other", None, False),
        # of Step Law's grids (arXiv 2503.04715)
        Task("pretraining_loss", "Pretraining loss", "other", None, False),
    )
}


ON_DATA_OF = "@"
"""Between a benchmark and the stage whose data it is measured on, where that is not the model's."""


def task(benchmark: str) -> Task:
    """The record of a benchmark; one nobody has sorted is "other", without a chance level.

    `heldout_loss@sft` is the held-out loss on the data of stage sft of a model that it starts from;
    it has no part in a type, whose scores are of the model's own stage.
    """
    name, at, stage = benchmark.partition(ON_DATA_OF)
    known = TASKS.get(name)
    if known is None:
        return Task(benchmark, benchmark, "other", None, False)
    if not at:
        return known
    return known._replace(
        benchmark=benchmark, label=f"{known.label}, {stage} data", task_type="other"
    )


def table_type(benchmark: str) -> TaskType:
    """What the column `task_type` says: that of the benchmark, on whichever stage's data."""
    return task(benchmark.partition(ON_DATA_OF)[0]).task_type
