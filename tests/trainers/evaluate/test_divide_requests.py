"""Scores that two processes compute together are those of one, to the bit, on a CPU in float32."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.own_task import WRITTEN, own_task
from trainers.data import prepare
from trainers.evaluate import divide_requests, harness, heldout_loss
from trainers.evaluate.open_model import open_model
from trainers.models import load
from trainers.ops.likelihood import pair_log_probabilities
from trainers.processes import process, replicas
from trainers.processes.replicas import ReplicaFailed, ReplicaSetting
from trainers.specs.evaluation import EvaluateSpec
from trainers.specs.preference import DpoSpec
from trainers.specs.training import SftSpec
from trainers.tasks import benchmarks

COMMON = {
    "learning_rate": 1e-4, "batch_size": 4, "heldout": 60, "max_length": 128, "dtype": "float32",
}  # fmt: skip
SPEC = EvaluateSpec(benchmarks=[], limit=40, dtype="float32")


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    monkeypatch.setattr(divide_requests, "UNIT_REQUESTS", 8)
    process.prepare(1)


@pytest.fixture(scope="module")
def loaded():
    return load.load("tiny")


@pytest.fixture(scope="module")
def two(loaded):
    """Another process with the same model, while the block is open; started once."""
    with replicas.started(ReplicaSetting(2, 1, 0.0, load.load, ("tiny",)), loaded):
        others = replicas.of(loaded)
        assert others is not None
        yield others


@pytest.fixture
def alone(two, loaded, monkeypatch):
    """What `work` returns in this process alone."""

    def alone(work):
        with monkeypatch.context() as patched:
            patched.setattr(replicas, "_current", None)
            assert replicas.of(loaded) is None
            return work()

    return alone


@pytest.fixture
def asked(two, monkeypatch):
    """The shares that the other process got, as they were sent."""
    shares = []
    run = two.run

    def noted(work, all_shares, first=None):
        shares.append(all_shares)
        return run(work, all_shares, first)

    monkeypatch.setattr(two, "run", noted)
    return shares


def table(evaluation):
    items = evaluation.items
    return [tuple(score) for score in evaluation.scores], items.to_dict("list")


@pytest.mark.parametrize("name", ["world_choice", "world_continuation"])
def test_choices_have_the_same_scores_and_items(name, loaded, alone, asked):
    def score():
        lm = open_model(loaded, SPEC)
        return table(harness.score(lm, benchmarks.find(name), SPEC))

    together = score()
    assert asked and len(asked[0]) == 2, "nothing was divided"
    assert together == alone(score)


def test_answers_are_the_same_and_their_companions_but_for_rounding(loaded, alone, asked):
    def score():
        lm = open_model(loaded, SPEC)
        return harness.score(lm, benchmarks.find("world_arithmetic"), SPEC)

    together, whole = score(), alone(score)
    assert len(asked) == 1, "expected continuations come along with the answers"
    assert together.scores[0] == whole.scores[0]
    for one, other in zip(together.scores, whole.scores, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-5)
        assert one[0] == other[0] and one.n == other.n
    for name in together.items:
        kinds = together.items[name].dtype.kind
        if kinds == "f":
            assert np.allclose(together.items[name], whole.items[name], rtol=1e-4)
        else:
            assert list(together.items[name]) == list(whole.items[name])


def test_prompts_that_another_process_cuts_are_counted(loaded, asked, tmp_path):
    few = "generation_kwargs: {max_gen_toks: 2}\nmetric_list: [{metric: exact_match}]\n"
    items = [{"q": f"{number} {'word ' * 3000}"} for number in range(4)]
    benchmark = benchmarks.find(str(own_task(tmp_path, items, WRITTEN + few)))
    with pytest.warns(UserWarning, match="mine: 4 prompts"):
        settings = harness.score(open_model(loaded, SPEC), benchmark, SPEC).settings
    assert asked and settings["cut_prompts"] == 4


def test_held_out_loss_is_the_same(loaded, alone, asked, tmp_path):
    spec = SftSpec.model_validate(
        COMMON | {"kind": "sft", "data": {"name": "world:sft", "examples": 400}, "heldout": 300}
    )
    data = prepare.prepare(spec, loaded.tokenizer, tmp_path).heldout

    def score():
        return table(heldout_loss.score(loaded, data, "float32"))

    assert score() == alone(score)
    assert [len(shares) for shares in asked] == [2]


def test_log_probabilities_of_pairs_are_the_same(loaded, alone, asked, tmp_path):
    spec = DpoSpec.model_validate(
        COMMON | {"kind": "dpo", "data": {"name": "world:preferences", "examples": 200}}
    )
    data = prepare.prepare(spec, loaded.tokenizer, tmp_path).train

    def score():
        return pair_log_probabilities(loaded, data, False)

    assert np.array_equal(score(), alone(score))
    assert asked


def test_another_model_than_the_helpers_hold_is_not_divided(two):
    assert replicas.of(load.load("tiny")) is None


def fails(loaded: load.Loaded, where: int) -> int:
    if where == 1:
        raise ValueError("a wrong token")
    return where


def test_a_process_that_fails_is_named_with_its_message_and_goes_on(two):
    with pytest.raises(ReplicaFailed, match="process 1 of 2: ValueError: a wrong token"):
        two.run(fails, [(0,), (1,)])
    assert two.run(fails, [(0,), (2,)]) == [0, 2]


def refuses_and_then_dies(marker: str) -> load.Loaded:
    """In the other process, which opens the model anew at each work until it has one."""
    if Path(marker).exists():
        os._exit(9)
    Path(marker).touch()
    return load.load("./none")


@pytest.mark.slow
def test_weights_that_cannot_be_opened_and_a_killed_process_are_told(loaded, tmp_path):
    marker = str(tmp_path / "asked")
    with replicas.started(ReplicaSetting(2, 1, 0.0, refuses_and_then_dies, (marker,)), loaded):
        others = replicas.of(loaded)
        assert others is not None
        with pytest.raises(ReplicaFailed, match="process 1 of 2: ModelUnavailable: model"):
            others.run(fails, [(0,), (2,)])
        with pytest.raises(ReplicaFailed, match="process 1 of 2 died"):
            others.run(fails, [(0,), (2,)])
