"""Reward models on pairs: accuracy with its error, RewardBench's weights, the held-out slice."""

import copy

import numpy as np
import pytest

from trainers.data import prepare
from trainers.evaluate import pair_accuracy
from trainers.specs.evaluation import EvaluateSpec
from trainers.specs.preference import RewardSpec
from trainers.stages import reward_model
from trainers.tasks import benchmarks


@pytest.fixture(scope="module")
def judge(tiny):
    """With a head that nobody has trained."""
    model = reward_model.with_head(copy.deepcopy(tiny.model), seed=0)
    return tiny._replace(model=model.eval())


def test_category_is_the_weighted_mean_of_its_subsets():
    """math-prm weighs 984 and the six languages of code 164 each, whatever their pairs."""
    subsets = np.array(["math-prm"] * 4 + ["hep-cpp"] * 2 + ["mt-bench-hard"] * 2)
    correct = np.array([1, 1, 1, 0, 1, 0, 0, 0], dtype=float)
    found = pair_accuracy.by_category(correct, subsets)
    reasoning = (984 * 0.75 + 164 * 0.5) / (984 + 164)
    assert found["reasoning"].mean() == pytest.approx(reasoning)
    assert found["chat_hard"].mean() == 0
    assert found["average"].mean() == pytest.approx((reasoning + 0) / 2)
    assert "safety" not in found


def test_error_of_a_category_is_that_of_its_weighted_subsets():
    generator = np.random.default_rng(0)
    subsets = np.array(["math-prm"] * 400 + ["hep-go"] * 100 + ["donotanswer"] * 700)
    correct = (generator.random(1200) < 0.7).astype(float)
    column = pair_accuracy.by_category(correct, subsets)["reasoning"]
    variances = [correct[subsets == name].var(ddof=1) / (subsets == name).sum()
                 for name in ("math-prm", "hep-go")]  # fmt: skip
    shares = np.array([984, 164]) / (984 + 164)
    expected = np.sqrt((shares**2 * variances).sum())
    assert column.std(ddof=1) / np.sqrt(len(column)) == pytest.approx(expected, rel=0.01)


def test_subsets_nobody_knows_have_no_category():
    assert pair_accuracy.by_category(np.ones(2), np.array(["", "other"])) == {}


def test_heldout_accuracy_is_that_of_the_scores(judge, tmp_path):
    spec = RewardSpec.model_validate({
        "kind": "reward", "data": {"name": "world:preferences", "examples": 60},
        "learning_rate": 1e-3, "batch_size": 8, "heldout": 30, "max_length": 128,
    })  # fmt: skip
    prepared = prepare.prepare(spec, judge.tokenizer, tmp_path)
    found = pair_accuracy.heldout(judge, prepared.heldout, "float32")
    right = 0
    for row in prepared.heldout.with_format("torch"):
        chosen, rejected = (
            float(judge.model(input_ids=side.ids[None], use_cache=False).logits)
            for side in pair_accuracy.cut(row)
        )
        right += chosen > rejected
    accuracy = next(score for score in found.scores if score.primary)
    assert (accuracy.metric, accuracy.n) == ("accuracy", 30)
    assert accuracy.value == pytest.approx(right / 30)
    share = right / 30
    assert accuracy.stderr == pytest.approx((share * (1 - share) / 29) ** 0.5)


def test_no_heldout_pair_is_refused(judge, tmp_path):
    spec = RewardSpec.model_validate({
        "kind": "reward", "data": {"name": "world:preferences", "examples": 20},
        "learning_rate": 1e-3, "batch_size": 8, "heldout": 0,
    })  # fmt: skip
    prepared = prepare.prepare(spec, judge.tokenizer, tmp_path)
    with pytest.raises(ValueError, match="heldout"):
        pair_accuracy.heldout(judge, prepared.heldout, "float32")


def test_rewardbench_on_real_pairs(judge, shared_data):
    spec = EvaluateSpec(
        benchmarks=["rewardbench"], limit=24, data_dir=str(shared_data / "eval"), dtype="float32"
    )
    found = pair_accuracy.score(judge, benchmarks.find("rewardbench"), spec)
    scores = {score.metric: score for score in found.scores}
    assert scores["average"].primary
    assert scores["average"].value == pytest.approx(scores["chat_hard"].value)
    assert scores["average"].n == 24
    assert 0 < scores["average"].stderr < 0.2
    assert found.settings["categories"] == ["chat_hard"]


def test_missing_file_is_named(tmp_path):
    spec = EvaluateSpec(benchmarks=["ufb"], data_dir=str(tmp_path))
    told = benchmarks.missing(benchmarks.find("ufb"), spec)
    assert told is not None
    assert "ultrafeedback_eval*.jsonl" in told
