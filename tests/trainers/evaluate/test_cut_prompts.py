"""Prompts that are longer than the model's context, and answers that the stock class gives."""

import sys
import warnings

import pytest

from tests.own_task import own_task
from trainers.evaluate import harness
from trainers.evaluate.open_model import open_model
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks

WRITTEN = """\
output_type: generate_until
doc_to_text: "{{q}}"
doc_to_target: "{{a[0]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 4}
metric_list: [{metric: exact_match}]
"""
CHOSEN = """\
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: a
doc_to_target: 0
"""
SAMPLED = WRITTEN.replace("max_gen_toks: 4", "max_gen_toks: 4, do_sample: true, temperature: 0.8")


@pytest.fixture
def score(tmp_path, tiny):
    """Of a task of two long items and a short one."""

    def score(keys: str):
        items = [{"q": "word " * words, "a": ["b", "c d"]} for words in (6000, 5000, 3)]
        path = own_task(tmp_path, items, keys)
        spec = EvaluateSpec(benchmarks=[], preset="lm_eval", dtype="float32")
        lm = open_model(tiny, spec)
        return harness.score(lm, benchmarks.find(str(path)), spec).settings

    return score


@pytest.mark.parametrize("keys", [WRITTEN, CHOSEN], ids=["written", "chosen"])
def test_prompts_that_lose_their_beginning_are_counted_and_told(keys, score, capsys):
    with pytest.warns(UserWarning, match="mine: 2 prompts are longer than the model's context of"):
        settings = score(keys)
    assert (settings["cut_prompts"], settings["model_class"]) == (2, "SharedPrefixLM")
    assert capsys.readouterr().err == "", "no progress bar"


def test_answers_of_the_stock_class_are_told_where_the_user_sees_it(score, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)
        settings = score(SAMPLED)
    assert settings["model_class"] == "HFLM"
    assert "lm-eval's stock generation is used: " in capsys.readouterr().err
