"""Verifiable rewards: an answer and what is known to be true -> 1.0 or 0.0. Loads no torch.

A data set's `dataset` column names the grader of each row, as in
allenai/RLVR-GSM-MATH-IF-Mixed-Constraints. An answer that cannot be read as one earns 0; a truth
that cannot be read is the data's fault and raises.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from trainers.rewards import ifeval as constraints
from trainers.rewards import math as math_grader
from trainers.world import tasks

Grader = Callable[[str, str], float]
"""Told the answer and the row's `ground_truth`."""


NUMBER = re.compile(r"[-+]?\d*\.\d+|\d+")
"""As Tulu 3's verifier finds numbers: without the sign of whole ones."""

SIGNED = re.compile(r"(?<![\d.])-?\d*\.\d+|(?<![\d.])-?\d+|\d+")
"""With the sign, which is no sign after a digit: 10-3 has a 3."""

TRUTH = re.compile(r"-?\d*\.?\d+")


def gsm8k(answer: str, truth: str) -> float:
    """The last number of the answer is the truth, as text: Tulu 3's verifier (allenai/open-instruct
    at 0039262, open_instruct/ground_truth_utils.py, GSM8KVerifier), which strips commas between
    digits and reads no sign before whole numbers. A truth below zero, which it could never find, is
    held against the last number with its sign."""
    truth = truth.strip()
    text = re.sub(r"(\d),(\d)", r"\1\2", answer)
    negative = truth.startswith("-")
    numbers = (SIGNED if negative else NUMBER).findall(text.replace("\u2212", "-"))
    return float(bool(numbers) and numbers[-1] == truth)


def number(truth: Any) -> str:
    """A number as an answer would have it: of a worked solution what follows its last `####`,
    without thousands separators, currency, plus sign or final full stop."""
    if isinstance(truth, float) and truth.is_integer():
        truth = int(truth)
    text = str(truth).rpartition("####")[2].strip().rstrip(".").strip()
    text = text.replace("\u2212", "-").lstrip("+")
    text = re.sub(r"^(-?)\s*[$\u20ac\u00a3]\s*", r"\1", text)
    return re.sub(r"(?<=\d),(?=\d{3}(\D|$))", "", text)


def is_number(truth: Any) -> bool:
    """Whether a truth, or the end of a worked solution, is a number."""
    return not isinstance(truth, bool) and TRUTH.fullmatch(number(truth)) is not None


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
    match = re.search("#### (-?[0-9]+)", answer)
    return float(match is not None and match[1] == truth)


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


NUMERIC = ("gsm8k", "world_arithmetic")
"""Graders that hold a number against the truth."""


RIGHT = {
    "gsm8k": "{}",
    "math": r"\boxed{{{}}}",
    "world_arithmetic": "#### {}",
    "world_choice": "{}",
}
"""The answer that is right where a truth can be reached at all, by grader."""


def written(dataset: str, truth: Any) -> str:
    """A truth as its grader compares it."""
    if dataset.lower() in NUMERIC:
        return number(truth)
    if isinstance(truth, str):
        return truth.strip() if dataset.lower() != "ifeval" else truth
    return json.dumps(truth)


def problem(dataset: str, truth: str) -> str | None:
    """Why no answer could earn anything by a truth, or None."""
    name = dataset.lower()
    if name not in GRADERS:
        return f"dataset {dataset!r} has no grader; use one of {', '.join(GRADERS)}"
    if not truth.strip():
        return "its ground_truth is empty"
    if name in RIGHT and GRADERS[name](RIGHT[name].format(truth), truth) != 1.0:
        return (
            f"no answer can earn the ground_truth {truth[:60]!r}: the grader {name} reads it as "
            "wrong itself; correct it, or set another `reward:`, a grader or a path.py:function"
        )
    if name == "ifeval":
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
