"""Continuous companions on log-likelihoods whose answer is known."""

import numpy as np
import pytest

from trainers.evaluate import continuous_metrics
from trainers.evaluate.continuous_metrics import choice_scores, gold_texts, of_choices


class Task:
    """What the companions ask of a task of lm-eval."""

    multiple_input = 0

    def __init__(self, choices, target, process_results=None):
        self.choices, self.target = choices, target
        self.config = {"target_delimiter": " ", "process_results": process_results}

    def doc_to_choice(self, doc):
        return self.choices

    def doc_to_target(self, doc):
        return self.target

    def get_config(self, key):
        return self.config[key]


def sample(*log_likelihoods: float) -> dict:
    return {"doc": {}, "resps": [[(value, False)] for value in log_likelihoods]}


def test_equal_choices_have_equal_probability_and_no_margin():
    probability, margin = choice_scores(np.array([-2.0, -2.0, -2.0, -2.0]), [4, 4, 4, 4], {1})
    assert probability == pytest.approx(0.25)
    assert margin == 0


def test_length_is_divided_out():
    """Twice the characters at the same log-likelihood per character is no worse."""
    probability, margin = choice_scores(np.array([-3.0, -6.0]), [5, 10], {0})
    assert (probability, margin) == (pytest.approx(0.5), pytest.approx(0))


def test_margin_is_to_the_best_wrong_choice_in_nats_per_character():
    _, margin = choice_scores(np.array([-1.0, -4.0, -2.0]), [2, 2, 2], {1})
    assert margin == pytest.approx((-4 + 1) / 2)


def test_probability_and_margin_do_not_overflow():
    probability, margin = choice_scores(np.array([-5000.0, -9000.0]), [1, 1], {0})
    assert (probability, margin) == (1, 4000)


@pytest.mark.parametrize("target", [1, "b", [1], ["b"]], ids=str)
def test_right_choice_is_read_as_lm_eval_reads_it(target):
    found = of_choices(Task(["a", "b"], target), [sample(-1.0, -3.0), sample(-3.0, -1.0)])
    assert found["choice_margin"].tolist() == [-2, 2]


def test_task_that_judges_answers_itself_has_no_companion_by_its_target():
    """As truthfulqa_mc2, whose target is 0 for every item."""
    judged = Task(["a", "b"], 0, process_results=lambda doc, results: {"acc": 1.0})
    assert of_choices(judged, [sample(-1.0, -3.0)]) == {}


def test_several_right_choices_count_together():
    found = of_choices(Task(["a", "b", "c"], [0, 2]), [sample(-1.0, -1.0, -1.0)])
    assert found["choice_probability"].tolist() == [pytest.approx(2 / 3)]


@pytest.mark.parametrize("target", [-1, 7, "none", []], ids=str)
def test_item_without_a_right_choice_has_no_companion(target):
    assert of_choices(Task(["a", "b"], target), [sample(-1.0, -3.0)]) == {}


def test_further_log_likelihoods_of_mutual_information_are_not_choices():
    found = of_choices(Task(["a", "b"], 0), [sample(-1.0, -3.0, -9.0, -9.0)])
    assert found["choice_margin"].tolist() == [2]


def test_gold_answer_of_gsm8k_is_its_number_after_the_steps():
    doc = {"answer": "3 + 4 = <<3+4=7>>7 apples.\n#### 1,007"}
    whole, number = gold_texts("solution", Task([], None), doc, chat_template=False)
    assert (whole.before, whole.text) == ("", f" {doc['answer']}")
    assert number.before + number.text == f" {doc['answer']}", "one text, cut before the number"
    assert number.text == " 1,007"


def test_bits_per_byte_counts_bytes_and_not_characters():
    class Model:
        def loglikelihood(self, requests):
            self.asked = [request.args for request in requests]
            return [(-8 * np.log(2), False)]

    model, told = Model(), {"doc": {}, "arguments": [("Q:", {})]}
    found = continuous_metrics.of_gold(model, "target", Task([], "éé"), [told], chat_template=True)
    assert model.asked == [("Q:", "éé")]
    assert found["target_bits_per_byte"].tolist() == [pytest.approx(2)]
