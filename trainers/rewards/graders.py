"""Verifiable rewards: an answer and what is known to be true -> 1.0 or 0.0. Loads no torch.

A data set's `dataset` column names the grader of each row, as in
allenai/RLVR-GSM-MATH-IF-Mixed-Constraints. An answer that cannot be read as one earns 0; a truth
that cannot be read is the data's fault and raises.
"""

import json
import re
from collections.abc import Callable

from trainers.rewards import ifeval as constraints
from trainers.rewards import math as math_grader
from trainers.world import tasks

Grader = Callable[[str, str], float]
"""Told the answer and the row's `ground_truth`."""


def gsm8k(answer: str, truth: str) -> float:
    """The last number of the answer is the truth, as text: Tulu 3's verifier (allenai/open-instruct
    at 0039262, open_instruct/ground_truth_utils.py, GSM8KVerifier), which strips commas between
    digits and reads no sign before whole numbers."""
    numbers = re.findall(r"[-+]?\d*\.\d+|\d+", re.sub(r"(\d),(\d)", r"\1\2", answer))
    return float(bool(numbers) and numbers[-1] == truth.strip())


def math(answer: str, truth: str) -> float:
    """The last boxed or, without any, the last other expression of the answer equals the truth, by
    math-verify (huggingface/Math-Verify 0.9.0). One that takes too long to compare is wrong."""
    return float(math_grader.equal(answer, truth))


def ifeval(answer: str, truth: str) -> float:
    """The answer meets every constraint of the truth, strictly, by IFEval's own checkers as lm-eval
    has them (lm_eval.tasks.ifeval, Zhou et al. 2023, arXiv 2311.07911)."""
    return float(constraints.met(answer, constraints.read(truth)))


def world_choice(answer: str, truth: str) -> float:
    """The answer is one option of the miniature world's question, and the right one."""
    return float(answer.strip() == truth)


def world_arithmetic(answer: str, truth: str) -> float:
    """The number after "####", as trainers/world/arithmetic.yaml reads it."""
    found = re.search("#### (-?[0-9]+)", answer)
    return float(found is not None and found[1] == truth)


def world_instruction(answer: str, truth: str) -> float:
    """The instruction was obeyed, by the check of trainers/world/instruction.yaml."""
    return float(tasks.obeys(answer, **json.loads(truth)))


GRADERS: dict[str, Grader] = {
    "gsm8k": gsm8k,
    "math": math,
    "ifeval": ifeval,
    "world_choice": world_choice,
    "world_arithmetic": world_arithmetic,
    "world_continuation": world_choice,
    "world_instruction": world_instruction,
}
"""By the `dataset` column, in lower case: the mixed data has `MATH`."""


def problem(dataset: str, truth: str) -> str | None:
    """Why no answer could be graded so, or None."""
    if dataset.lower() not in GRADERS:
        return f"dataset {dataset!r} has no grader; use one of {', '.join(GRADERS)}"
    if not truth.strip():
        return "its ground_truth is empty"
    if dataset.lower() == "ifeval":
        try:
            constraints.read(truth)
        except ValueError as error:
            return str(error)
    return None


def reward(answer: str, dataset: str, truth: str) -> float:
    """What the answer to a row earns.

    Raises:
        KeyError, ValueError: the row cannot be graded; see `problem`.
    """
    return GRADERS[dataset.lower()](answer, truth)
