import json
import threading
import time
from random import Random

import pytest

from trainers.rewards import graders, ifeval
from trainers.rewards import math as math_grader
from trainers.world import generate

LONG = "I think about it. " * 20_000


@pytest.mark.parametrize(
    ("answer", "earned"),
    [
        ("48 + 24 = 72. The answer is 72.", 1.0),
        ("It costs $1,072", 0.0),
        ("72 or maybe 71", 0.0),
        ("The answer is 72. The answer is 72. No: 5", 0.0),
        ("5 6 7 8 9 72", 1.0),
        ("seventy-two", 0.0),
        ("", 0.0),
        (LONG + "72", 1.0),
        ("72" + LONG + "3", 0.0),
        ("7" * 100_000, 0.0),
    ],
)
def test_gsm8k_takes_the_last_number(answer: str, earned: float):
    assert graders.reward(answer, "gsm8k", "72") == earned


def test_gsm8k_reads_commas_and_decimals_as_tulu_does():
    assert graders.gsm8k("in all 1,234,567", "1234567") == 1.0
    assert graders.gsm8k("it is 2.50", "2.5") == 0.0  # compared as text
    assert graders.gsm8k("it is -5", "5") == 1.0  # no sign before whole numbers


@pytest.mark.parametrize(
    ("truth", "answer", "earned"),
    [
        ("18.0", "So it is 18.", 1.0),
        ("18.0", "So it is 18.0", 1.0),
        ("18.0", "So it is 18.5", 0.0),
        ("$5.00", "It costs $5.00.", 1.0),
        ("$5.00", "It costs $50.", 0.0),
        ("-18.0", "So it is -18", 1.0),
        ("18", "So it is 18.0", 0.0),  # as Tulu's verifier
        ("-$5", "He lost 5.\n#### -$5", 1.0),
        ("-$5", "The loss is -$5.", 1.0),
        ("-$5", r"The loss is -\$5.", 1.0),
        ("-$5", "The loss is $-5.", 1.0),
        ("-$5", "$10-$5", 0.0),
        ("-$5", "$10 - $5", 0.0),
        ("- 5", "#### - 5", 1.0),
        ("- 5", "x = - 5", 1.0),
        ("- 5", "10 - 5", 0.0),
    ],
)
def test_number_is_reached_as_the_row_and_as_people_write_it(truth, answer, earned):
    assert graders.is_number(truth)
    written = graders.written("gsm8k", truth)
    assert graders.problem("gsm8k", written, truth) is None
    assert graders.reward(answer, "gsm8k", written) == earned


def test_a_sign_and_many_spaces_take_no_time():
    started = time.monotonic()
    spaces = " " * 30_000
    assert graders.gsm8k(f"= -{spaces}x", "-5") == 0.0
    assert graders.number(f"-{spaces}x") == f"-{spaces}x"
    assert time.monotonic() - started < 1


def test_truth_that_its_own_row_does_not_reach_is_told():
    assert "no answer can earn" in (graders.problem("gsm8k", "5", "5 of 8") or "")


@pytest.mark.parametrize(
    ("truth", "worded"),
    [("B", True), ("Paris", True), ("The time is 10:30", True), (r"\frac{1}{2}", False),
     (r"5 \text{ inches}", False), ("x + y", False), ("2xy", False)],
)  # fmt: skip
def test_truths_in_words_are_known(truth, worded):
    assert graders.in_words("MATH", truth) == worded
    assert not graders.in_words("ifeval", truth)


@pytest.mark.parametrize(
    ("answer", "truth", "earned"),
    [
        (r"So \boxed{Paris}.", "Paris", 1.0),
        (r"So \boxed{\text{paris}}.", "Paris", 1.0),
        (r"So \boxed{Sirap}.", "Paris", 0.0),
        (r"So \boxed{York New}.", "New York", 0.0),
        (r"So \boxed{\infty}.", "infinity", 1.0),
        (r"So \boxed{yx}.", "xy", 1.0),
        (r"So \boxed{\frac{1}{2}}.", r"\frac{1}{2}", 1.0),
        (r"So \boxed{0.5}.", r"\frac{1}{2}", 1.0),
        (r"It is $\frac{2}{4}$", r"\frac{1}{2}", 1.0),
        ("The answer is 1/2", r"\frac{1}{2}", 1.0),
        (r"\boxed{3}", "4", 0.0),
        (r"The answer is 4. So \boxed{5}", "4", 0.0),
        (r"$x = 1, 2, 3, 4, 5, 6, 7$", "4", 0.0),
        (r"\boxed{(1, \infty)}", r"(1,\infty)", 1.0),
        (r"\boxed{x^2+2x+1}", "(x+1)^2", 1.0),
        ("", "4", 0.0),
        ("no number at all", "4", 0.0),
        (LONG + r"\boxed{4}", "4", 1.0),
        (r"\boxed{" + "(" * 3000, "4", 0.0),
    ],
)
def test_math_compares_values_not_text(answer: str, truth: str, earned: float):
    assert graders.reward(answer, "MATH", truth) == earned


def test_math_answers_that_never_end_are_wrong_and_the_next_is_graded(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(math_grader, "SECONDS", 1)
    started = time.monotonic()
    assert graders.math(r"\boxed{9^{9^{9^{9}}} + 9^{9^{9}}}", "9^{9^{9}}") == 0.0
    assert time.monotonic() - started < 40
    assert graders.math(r"\boxed{2}", "2") == 1.0


def test_math_is_graded_in_threads_too():
    found = []
    thread = threading.Thread(target=lambda: found.append(graders.math(r"\boxed{7}", "7")))
    thread.start()
    thread.join()
    assert found == [1.0]


def constraint(name: str, **arguments) -> str:
    return json.dumps({"instruction_id_list": [name], "kwargs": [arguments]})


def tulu(name: str, **arguments) -> str:
    return json.dumps({"func_name": name, "quantifier": None, "N": None, **arguments})


WORDS = " ".join(["word"] * 40)

CASES = [
    (constraint("punctuation:no_comma"), "no comma here", "one, two"),
    (constraint("change_case:english_lowercase"), "this is all in lower case", "This is not"),
    (
        constraint("length_constraints:number_words", num_words=20, relation="at least"),
        WORDS,
        "too short",
    ),
    (constraint("startend:end_checker", end_phrase="Bye."), "I go. Bye.", "Bye. I stay"),
    (constraint("detectable_format:number_bullet_lists", num_bullets=2), "* a\n* b", "* a"),
    (
        constraint("keywords:forbidden_words", forbidden_words=["cat"]),
        "a dog",
        "Do not use the word cat",
    ),
    (tulu("validate_lowercase"), "all of this is lower case", "Your response in lowercase"),
    (tulu("validate_word_constraint", N=40, quantifier="around"), WORDS, WORDS + " x" * 9),
    (tulu("validate_word_constraint", N=40, quantifier="at most"), WORDS, WORDS + " x"),
    (tulu("verify_keyword_frequency", word="c", N=2), "c and C, not cat", "c"),
    (tulu("verify_keywords", keyword_list=["C++", "b"]), "b in C++", "C b"),
    (tulu("validate_choice", options=["(A)", "(B)"]), "It is (B)", "It is (C)"),
    (tulu("verify_paragraph_count", N=2), "one\n* * *\ntwo", "one\n\ntwo"),
    (tulu("validate_paragraphs", N=2, first_word="and", i=2), "one\n\nand two", "and\n\ntwo"),
    (tulu("verify_letter_frequency", letter="z", N=2), "zz", "zzz"),
    (
        tulu("validate_sections", N=2, section_splitter="Part"),
        "Part 1\na\nPart 2\nb",
        "Part one, Part two",
    ),
    (tulu("validate_quotation"), '"all of it"', '"some" of it'),
    (tulu("validate_forbidden_words", forbidden_words=["dog", "cat"]), "bird", "a Cat"),
    (tulu("validate_end", end_phrase="The end."), "So. The end.", "The end. So"),
    (tulu("validate_json_format"), '{"a": 1}', "{a: 1}"),
]


@pytest.mark.parametrize(("truth", "right", "wrong"), CASES)
def test_ifeval_constraints(truth: str, right: str, wrong: str):
    assert graders.problem("ifeval", truth) is None
    assert graders.reward(right, "ifeval", truth) == 1.0
    assert graders.reward(wrong, "ifeval", truth) == 0.0
    assert graders.reward("", "ifeval", truth) == 0.0
    assert graders.reward("  \n", "ifeval", truth) == 0.0


def test_ifeval_wants_all_constraints_and_no_echo_of_them():
    truth = json.dumps(
        {
            "instruction_id_list": ["punctuation:no_comma", "detectable_format:title"],
            "kwargs": [{}, {}],
        }
    )
    assert graders.ifeval("<<a title>> and text", truth) == 1.0
    assert graders.ifeval("<<a title>>, and text", truth) == 0.0
    assert graders.ifeval("Refrain from the use of any commas", truth) == 0.0


def test_ifeval_of_a_very_long_answer():
    truth = constraint("punctuation:no_comma")
    assert graders.ifeval(LONG, truth) == 1.0
    assert graders.ifeval(LONG + ",", truth) == 0.0


def test_language_is_told_alike_every_time():
    truth = tulu("validate_lowercase")
    assert len({graders.ifeval("der hund in the garden", truth) for _ in range(20)}) == 1


@pytest.mark.parametrize(
    ("dataset", "truth", "said"),
    [
        ("gsm9k", "1", "gsm9k"),
        ("gsm8k", " ", "empty"),
        ("ifeval", "lower case", "not JSON"),
        ("ifeval", "{}", "func_name"),
        ("ifeval", constraint("keywords:nothing"), "keywords:nothing"),
        ("ifeval", constraint("length_constraints:number_words", num_words=3), "relation"),
        ("ifeval", constraint("keywords:existence", keywords=["a", "("]), "cannot be checked"),
        ("ifeval", tulu("verify_letter_frequency", letter="#", N=2), "draws another"),
        ("ifeval", tulu("validate_everything"), "validate_everything"),
        ("ifeval", tulu("validate_end", N=3), "validate_end"),
        ("ifeval", tulu("validate_word_constraint", N=3, quantifier="nearly"), "nearly"),
    ],
)
def test_a_truth_that_no_answer_can_be_held_against_is_told(dataset: str, truth: str, said: str):
    assert said in (graders.problem(dataset, truth) or "")


def test_all_of_tulus_functions_have_a_checker():
    assert len(ifeval.FUNCTIONS) == 25  # of IF_FUNCTIONS_MAP in open-instruct


@pytest.mark.parametrize("form", generate.FORMS)
def test_world_prompts_are_earned_by_their_own_answers_alone(form: str):
    random = Random(form)
    for _ in range(50):
        question = generate.draw(form, random, held=False)
        row = generate.verifiable(question)
        graded = row["dataset"], row["ground_truth"]
        assert row["messages"] == [{"role": "user", "content": question.prompt}]
        assert graders.problem(*graded) is None
        assert graders.reward(question.answer, *graded) == 1.0
        for wrong in ("", "I will not", "####", question.text.upper()):
            assert graders.reward(wrong, *graded) == 0.0


def test_world_prompts_are_of_every_form_and_not_those_of_sft():
    rows = generate.rows("prompts", 200, seed=0)
    assert {row["dataset"] for row in rows} == {name for name in graders.GRADERS if "world" in name}
    asked = [row["messages"][0] for row in generate.rows("sft", 200, seed=0)]
    assert sum(row["messages"][0] in asked for row in rows) < 100
