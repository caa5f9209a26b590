"""DPO models on held-out pairs: what is relative to the reference, and what is not."""

import numpy as np
import pytest

from trainers.data import prepare
from trainers.evaluate import heldout_preference
from trainers.ops.likelihood import pair_log_probabilities
from trainers.ops.pairs import cut
from trainers.specs.preference import DpoSpec


def test_ranking_accuracy_is_the_policys_own_whatever_the_reference(tiny, tmp_path):
    spec = DpoSpec.model_validate({
        "kind": "dpo", "data": {"name": "world:preferences", "examples": 60},
        "learning_rate": 1e-3, "batch_size": 8, "heldout": 30, "max_length": 128,
    })  # fmt: skip
    pairs = prepare.prepare(spec, tiny.tokenizer, tmp_path).heldout
    policy = pair_log_probabilities(tiny, pairs, bfloat16=False)
    tokens = [[side.loss_tokens for side in cut(row)] for row in pairs.with_format("torch")]
    chosen, rejected = (policy / np.array(tokens)).T
    found = []
    for of_chosen in (0, -1, 1):
        reference = policy + np.array([of_chosen, 0], np.float32)
        scores = heldout_preference.score(spec, tiny, pairs, reference, "float32").scores
        found.append({score.metric: score.value for score in scores})
    assert [one["accuracy"] for one in found] == [0, 1, 0]
    expected = pytest.approx((chosen > rejected).mean())
    assert all(one["ranking_accuracy"] == expected for one in found)
    assert 0 < found[0]["ranking_accuracy"] < 1
