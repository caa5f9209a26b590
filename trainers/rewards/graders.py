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

CURRENCY = "[$\u20ac\u00a3]"

APART = re.compile(
    rf"-\\?{CURRENCY}\s*(?=\.?\d)|(?:\A|(?<=[=:(#]))\s*-\s*(?:{CURRENCY}\s*)?(?=\.?\d)"
)
"""A sign apart from its number: -$5; and - 5 where there is nothing to subtract from."""

INTEGRAL = re.compile(r"(?<=\d)\.0+$")
"""The decimals of a whole number, as pandas writes them: 18.0."""

WORDS = re.compile(r"(?=.*[^\W\d_]{4})[^\W\d_]+(?: [^\W\d_]+)*")
"""A truth of letters, too many of them for a product of variables."""

SAID = re.compile(r"[^\W\d_]+(?:[\s,.'-]+[^\W\d_]+)*\.?")
"""A truth without a number or a sign: B, yes, New York."""


def gsm8k(answer: str, truth: str) -> float:
    """The last number of the answer is the truth, as text: Tulu 3's verifier (allenai/open-instruct
    at 0039262, open_instruct/ground_truth_utils.py, GSM8KVerifier), which strips commas between
    digits and reads no sign before whole numbers. Two kinds of truths, which it could hardly find,
    are read otherwise: one below zero is held against the last number with its sign, and one with
    the decimals of a whole number, 18.0, against the last number without such."""
    truth = truth.strip()
    text = re.sub(r"(\d),(\d)", r"\1\2", answer).replace("\u2212", "-")
    negative = truth.startswith("-")
    text = APART.sub("-", text) if negative else text
    numbers = (SIGNED if negative else NUMBER).findall(text)
    last = numbers[-1] if numbers else ""
    if INTEGRAL.search(truth):
        last, truth = INTEGRAL.sub("", last), INTEGRAL.sub("", truth)
    return float(last == truth != "")


def number(truth: Any) -> str:
    """A number as an answer would have it: of a worked solution what follows its last `####`,
    without thousands separators, currency, plus sign or final full stop."""
    if isinstance(truth, float) and truth.is_integer():
        truth = int(truth)
    text = str(truth).rpartition("####")[2].strip().rstrip(".").strip()
    text = text.replace("\u2212", "-").lstrip("+")
    text = re.sub(rf"^(-?)\s*(?:{CURRENCY}\s*)?(?=\.?\d)", r"\1", text)
    return re.sub(r"(?<=\d),(?=\d{3}(\D|$))", "", text)


def is_number(truth: Any) -> bool:
    """Whether a truth, or the end of a worked solution, is a number."""
    return not isinstance(truth, bool) and TRUTH.fullmatch(number(truth)) is not None


def math(answer: str, truth: str) -> float:
    """The last boxed or, without any, the last other expression of the answer equals the truth, by
    math-verify (huggingface/Math-Verify 0.9.0). One that takes too long to compare is wrong. To
    math-verify letters are factors, so of a truth in words the answer has to hold the letters in
    their order."""
    equal = math_grader.equal(answer, truth)
    if equal and WORDS.fullmatch(truth):
        equal = _letters(truth) in _letters(answer)
    return float(equal)


def _letters(text: str) -> str:
    return re.sub(r"[\W\d_]", "", text.replace(r"\infty", "infinity")).casefold()


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


def in_words(dataset: str, truth: str) -> bool:
    """Whether a truth has words, of which math-verify finds none in a plain sentence."""
    if dataset.lower() != "math":
        return False
    plain = re.sub(r"\\text\{[^{}]*\}|\\[a-zA-Z]+", " ", truth)
    return SAID.fullmatch(truth) is not None or re.search(r"[^\W\d_]{4}", plain) is not None


def problem(dataset: str, truth: str, stored: Any = None) -> str | None:
    """Why no answer could earn anything by a truth, or None. An answer that writes a number as the
    row does (`stored`) has to earn too."""
    name = dataset.lower()
    if name not in GRADERS:
        return f"dataset {dataset!r} has no grader; use one of {', '.join(GRADERS)}"
    if not truth.strip():
        return "its ground_truth is empty"
    said = {truth} | ({stored} if name in NUMERIC and isinstance(stored, str) else set())
    if name in RIGHT and any(GRADERS[name](RIGHT[name].format(x), truth) != 1.0 for x in said):
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
