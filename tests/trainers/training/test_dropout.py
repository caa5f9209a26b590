"""Trainings of a model with dropout of its own: on in SFT unless asked, off elsewhere, no lanes."""

import copy
import json
from typing import Any

import pytest
from transformers import LlamaForCausalLM

from trainers import dispatch
from trainers.lanes import run
from trainers.specs.kinds import KINDS
from trainers.specs.lanes import NotLaned

SPEC = {
    "learning_rate": 1e-2, "batch_size": 8, "heldout": 3, "max_length": 96, "dtype": "float32",
    "steps": 3, "noise_scale_every": 0,
}  # fmt: skip


@pytest.fixture
def dropping(tiny):
    """The tiny model, with a dropout that TRL's `disable_dropout` does not see."""
    config = copy.deepcopy(tiny.model.config)
    config.attention_dropout = 0.2
    model: Any = LlamaForCausalLM(config)
    model.load_state_dict(tiny.model.state_dict())
    return tiny._replace(model=model.eval())


@pytest.mark.parametrize(
    ("kind", "settings", "on"),
    [
        ("sft", {}, True),
        ("sft", {"disable_dropout": True}, False),
        ("dpo", {}, False),
        ("reward", {}, False),
    ],
)
def test_losses_depend_on_the_split_where_dropout_is_on_alone(
    kind, settings, on, dropping, tmp_path
):
    data = {"name": "world:sft" if kind == "sft" else "world:preferences", "examples": 40}
    losses = []
    for tokens in (10_000, 200):
        given = SPEC | settings | {"kind": kind, "data": data, "tokens_per_micro_batch": tokens}
        folder = tmp_path / str(tokens)
        folder.mkdir()
        loaded = dropping._replace(model=copy.deepcopy(dropping.model))
        spec = KINDS[kind].model_validate(given)
        result = dispatch.train(spec, loaded, tmp_path, "base", folder)  # type: ignore[arg-type]
        assert result.figures.get("dropout") == ({"attention_dropout": 0.2} if on else None)
        assert loaded.model.config.attention_dropout == 0.2
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert (losses[0] == pytest.approx(losses[1], abs=1e-4)) is not on


def test_model_with_dropout_has_no_lanes(dropping):
    given: Any = (None, [], dropping, None, None, [], 0.0, 0, None)
    with pytest.raises(NotLaned, match=r"dropout of its own \(attention_dropout 0.2\)"):
        run.train(*given)
