"""Constraints on an answer that a program can check: IFEval's, by lm-eval's own checkers.

A truth is JSON in one of two forms: IFEval's (`instruction_id_list` and `kwargs`), or the one of
allenai/RLVR-GSM-MATH-IF-Mixed-Constraints (`func_name` and its arguments), whose functions
(allenai/open-instruct at 021dd06, open_instruct/if_functions.py) are said here in IFEval's words.
"""

import inspect
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

Arguments = dict[str, Any]


class Constraint(NamedTuple):
    name: str
    """A key of lm_eval.tasks.ifeval.instructions_registry.INSTRUCTION_DICT."""
    arguments: Arguments
    holds: bool = True
    """False where the answer must not meet it: "at most 5 words" is not "at least 6"."""
    divider: str = ""
    """What stands for IFEval's divider `***` in the answer, where it is another."""


def met(answer: str, constraints: list[Constraint]) -> bool:
    """Whether the answer meets them all; an empty one meets none, as in IFEval's strict check."""
    return bool(answer.strip()) and all(_follows(answer, constraint) for constraint in constraints)


def read(truth: str) -> list[Constraint]:
    """
    Raises:
        ValueError: no such constraint, or an argument is missing, which IFEval would draw at
            random.
    """
    try:
        row = json.loads(truth)
    except json.JSONDecodeError as error:
        raise ValueError(f"constraint {truth[:60]!r} is not JSON ({error})") from error
    match row:
        case {"instruction_id_list": [*names], "kwargs": [*given]} if len(names) == len(given) > 0:
            translated = [
                Constraint(
                    name, {key: value for key, value in arguments.items() if value is not None}
                )
                for name, arguments in zip(names, given, strict=True)
            ]
        case {"func_name": str(name), **given}:
            translated = _translated(name, given)
        case _:
            raise ValueError(
                f"constraint {truth[:60]!r} has neither instruction_id_list with kwargs nor "
                "func_name"
            )
    for constraint in translated:
        _check(constraint)
    return translated


def _check(constraint: Constraint) -> None:
    from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT

    if constraint.name not in INSTRUCTION_DICT:
        raise ValueError(f"{constraint.name!r} is not one of IFEval's instructions")
    parameters = inspect.signature(
        INSTRUCTION_DICT[constraint.name].build_description
    ).parameters.keys()
    given = constraint.arguments
    if parameters - {"self"} != given.keys():
        names = ", ".join(sorted(parameters - {"self"})) or "no argument"
        raise ValueError(
            f"{constraint.name} takes {names}, given {', '.join(sorted(given)) or 'none'}"
        )
    for key, value in given.items():
        drawn = value in ("", []) or (isinstance(value, int) and value < 0)
        if drawn or (key == "letter" and not re.fullmatch("[A-Za-z]", str(value))):
            raise ValueError(f"{constraint.name}: {key} {value!r}, for which IFEval draws another")
    try:
        _follows("a trial", constraint)
    except LookupError as error:
        raise ValueError(
            f"{constraint.name} needs nltk's punkt_tab: `python -m nltk.downloader punkt_tab`, or "
            "set NLTK_DATA to a folder that has it"
        ) from error
    except (re.error, TypeError, AttributeError) as error:
        raise ValueError(f"{constraint.name} cannot be checked with {given}: {error}") from error


def _follows(answer: str, constraint: Constraint) -> bool:
    import langdetect
    from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT

    langdetect.DetectorFactory.seed = 0  # or the same answer is English now and Dutch later
    checker = INSTRUCTION_DICT[constraint.name](constraint.name)
    checker.build_description(**constraint.arguments)
    if constraint.divider:
        answer = answer.replace(constraint.divider, "***")
    return bool(checker.check_following(answer)) == constraint.holds


def _count(name: str, key: str, relation: str, **more: str) -> Callable[..., list[Constraint]]:
    """A count as `quantifier` (default: exactly) says; IFEval has "at least" and its opposite."""

    def found(N: int, quantifier: str = "exactly", **given: Any) -> list[Constraint]:
        slack = 1 if name.endswith("sentences") else max(round(N * 0.1), 1)
        low, high = {
            "at least": (N, None),
            "at most": (0, N),
            "exactly": (N, N),
            "around": (N - slack, N + slack),
        }[quantifier]
        arguments = {more[own]: value for own, value in given.items()}

        def at_least(count: int, holds: bool) -> Constraint:
            return Constraint(name, {key: count, relation: "at least", **arguments}, holds)

        floor = [at_least(low, True)] if low > 0 else []
        return floor + ([] if high is None else [at_least(high + 1, False)])

    return found


def _same(name: str, **keys: str) -> Callable[..., list[Constraint]]:
    """The same constraint with other names of its arguments."""

    def found(**given: Any) -> list[Constraint]:
        return [Constraint(name, {keys[own]: value for own, value in given.items()})]

    return found


def _keywords(keyword_list: list[str]) -> list[Constraint]:
    return [
        Constraint(
            "keywords:existence", {"keywords": [re.escape(keyword) for keyword in keyword_list]}
        )
    ]


def _choice(options: list[str]) -> list[Constraint]:
    """IFEval's own checker has its options fixed; this is "has one of these keywords"."""
    return [Constraint("keywords:existence", {"keywords": ["|".join(map(re.escape, options))]})]


def _frequency(word: str, N: int) -> list[Constraint]:
    return _count("keywords:frequency", "frequency", "relation", word="keyword")(
        N, word=rf"\b{re.escape(word)}\b"
    )


def _forbidden(forbidden_words: list[str]) -> list[Constraint]:
    words = [re.escape(word) for word in forbidden_words]
    return [Constraint("keywords:forbidden_words", {"forbidden_words": words})]


def _sections(N: int, section_splitter: str) -> list[Constraint]:
    arguments = {"num_sections": N, "section_spliter": re.escape(section_splitter)}
    return [Constraint("detectable_format:multiple_sections", arguments)]


def _divided(N: int) -> list[Constraint]:
    name = "length_constraints:number_paragraphs"
    return [Constraint(name, {"num_paragraphs": N}, divider="* * *")]


def _first_word(N: int, first_word: str, i: int) -> list[Constraint]:
    arguments = {"num_paragraphs": N, "nth_paragraph": i, "first_word": first_word}
    return [Constraint("length_constraints:nth_paragraph_first_word", arguments)]


FUNCTIONS: dict[str, Callable[..., list[Constraint]]] = {
    "verify_keywords": _keywords,
    "verify_keyword_frequency": _frequency,
    "validate_forbidden_words": _forbidden,
    "verify_letter_frequency": _count(
        "keywords:letter_frequency", "let_frequency", "let_relation", letter="letter"
    ),
    "validate_response_language": _same("language:response_language", language="language"),
    "verify_paragraph_count": _divided,
    "validate_word_constraint": _count("length_constraints:number_words", "num_words", "relation"),
    "verify_sentence_constraint": _count(
        "length_constraints:number_sentences", "num_sentences", "relation"
    ),
    "validate_paragraphs": _first_word,
    "verify_postscript": _same(
        "detectable_content:postscript", postscript_marker="postscript_marker"
    ),
    "validate_placeholders": _same("detectable_content:number_placeholders", N="num_placeholders"),
    "verify_bullet_points": _same("detectable_format:number_bullet_lists", N="num_bullets"),
    "validate_title": _same("detectable_format:title"),
    "validate_choice": _choice,
    "validate_highlighted_sections": _same(
        "detectable_format:number_highlighted_sections", N="num_highlights"
    ),
    "validate_sections": _sections,
    "validate_json_format": _same("detectable_format:json_format"),
    "validate_repeat_prompt": _same(
        "combination:repeat_prompt", original_prompt="prompt_to_repeat"
    ),
    "validate_two_responses": _same("combination:two_responses"),
    "validate_uppercase": _same("change_case:english_capital"),
    "validate_lowercase": _same("change_case:english_lowercase"),
    "validate_frequency_capital_words": _count(
        "change_case:capital_word_frequency", "capital_frequency", "capital_relation"
    ),
    "validate_end": _same("startend:end_checker", end_phrase="end_phrase"),
    "validate_quotation": _same("startend:quotation"),
    "validate_no_commas": _same("punctuation:no_comma"),
}


def _translated(name: str, given: Arguments) -> list[Constraint]:
    if name not in FUNCTIONS:
        raise ValueError(f"func_name {name!r} has no checker; use one of {', '.join(FUNCTIONS)}")
    arguments = {key: value for key, value in given.items() if value is not None}
    try:
        return FUNCTIONS[name](**arguments)
    except (TypeError, KeyError) as error:
        shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ValueError(f"{name} does not take ({shown}): {error}") from error
