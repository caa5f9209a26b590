"""What is known about each benchmark: its label, task type, chance level and where that comes from.

The assignment to reasoning or pattern recognition is the paper's (SmolTulu, arXiv 2412.08347,
abstract), which sorts four benchmarks only. Edit `TASKS` to try another one.
"""

from typing import Literal, NamedTuple

TaskType = Literal["reasoning", "pattern", "loss", "other"]

TASK_TYPE_LABELS: dict[str, str] = {
    "reasoning": "Reasoning",
    "pattern": "Pattern recognition",
    "loss": "Held-out loss",
    "other": "Other benchmarks",
}

SMOLTULU = "SmolTulu, arXiv 2412.08347, abstract"
NOT_SORTED = "reported in SmolTulu (arXiv 2412.08347, table 3), which gives it no task type"
REWARD_MODELS = "reward models in SmolTulu (arXiv 2412.08347, table 8), which gives it no task type"
STEP_LAW = "training loss of Step Law's grids, arXiv 2503.04715"
MINIATURE = "miniature benchmark of the quickstart, the counterpart of {}"


class Task(NamedTuple):
    """One benchmark; `chance` is the score of guessing, a fraction, None where none is defined;
    `share` whether its usual score is a share of its items, between 0 and 1."""

    benchmark: str
    label: str
    task_type: TaskType
    chance: float | None
    citation: str
    share: bool = True


TASKS = {
    task.benchmark: task
    for task in (
        Task("arc", "ARC", "reasoning", 0.25, SMOLTULU),
        Task("arc_challenge", "ARC challenge", "reasoning", 0.25, SMOLTULU),
        Task("arc_easy", "ARC easy", "reasoning", 0.25, SMOLTULU),
        Task("gsm8k", "GSM8K", "reasoning", 0.0, SMOLTULU),
        Task("gsm8k_cot", "GSM8K, chain of thought", "reasoning", 0.0, SMOLTULU),
        Task("hellaswag", "HellaSwag", "pattern", 0.25, SMOLTULU),
        Task("ifeval", "IFEval", "pattern", None, SMOLTULU),
        Task("piqa", "PIQA", "other", 0.5, NOT_SORTED),
        Task("bbh", "BBH", "other", None, NOT_SORTED),
        # 3 to 10 options: the mean of 1 / options over 1,400 items, 100 of each category
        Task("mmlu_pro", "MMLU-Pro", "other", 0.11, NOT_SORTED),
        Task("world_choice", "World choice", "reasoning", 0.25, MINIATURE.format("ARC")),
        Task("world_arithmetic", "World arithmetic", "reasoning", 0.0, MINIATURE.format("GSM8K")),
        Task(
            "world_continuation",
            "World continuation",
            "pattern",
            0.25,
            MINIATURE.format("HellaSwag"),
        ),
        Task("world_instruction", "World instruction", "pattern", None, MINIATURE.format("IFEval")),
        Task("rewardbench", "RewardBench", "other", 0.5, REWARD_MODELS),
        Task("rewardbench_chat", "RewardBench, Chat", "other", 0.5, REWARD_MODELS),
        Task("rewardbench_chat_hard", "RewardBench, Chat Hard", "other", 0.5, REWARD_MODELS),
        Task("rewardbench_safety", "RewardBench, Safety", "other", 0.5, REWARD_MODELS),
        Task("rewardbench_reasoning", "RewardBench, Reasoning", "other", 0.5, REWARD_MODELS),
        Task("ufb", "UFB test_prefs", "other", 0.5, REWARD_MODELS),
        Task("pair_accuracy", "Held-out pairs", "other", 0.5, "accuracy on held-out pairs"),
        Task("ranking_accuracy", "Ranking accuracy", "other", 0.5, "arXiv 2405.19534"),
        Task(  # what a guess earns hangs on the grader, which may be the user's
            "heldout_reward", "Held-out reward", "other", None, "reward on held-out prompts", False
        ),
        Task("pretraining_loss", "Pretraining loss", "other", None, STEP_LAW, False),
        Task(
            "heldout_loss", "Held-out loss", "loss", None, "loss on held-out training data", False
        ),
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
        return Task(benchmark, benchmark, "other", None, "not sorted", False)
    if not at:
        return known
    return known._replace(
        benchmark=benchmark, label=f"{known.label}, {stage} data", task_type="other"
    )


def table_type(benchmark: str) -> TaskType:
    """What the column `task_type` says: that of the benchmark, on whichever stage's data."""
    return task(benchmark.partition(ON_DATA_OF)[0]).task_type
