"""What the plan says below the table of a stage."""

import io
import json

import pytest
from rich.console import Console

from sweep.plan import trials
from sweep.terminal.plan import show_plan


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["stages.sft.warmup_steps=2"], ""),
        (["stages.sft.warmup_steps=3"], "4 (3 steps),"),
        (["stages.sft.warmup_ratio=1.0"], "4 (3 steps),"),
        (["stages.sft.steps=null", "stages.sft.tokens=500", "stages.sft.warmup_tokens=499"], ""),
        (["stages.sft.steps=null", "stages.sft.tokens=500", "stages.sft.warmup_tokens=500"], "4,"),
    ],
)
def test_warmup_that_takes_the_whole_training_is_told(overrides, said, load, small):
    grid, text = load(small, *overrides), io.StringIO()
    show_plan(Console(file=text, width=200), grid, trials.trials(grid))
    line = f"sft: warmup takes the whole training at batch size {said}"
    assert (line in text.getvalue()) is bool(said)


RLVR = """\
name: rewarded
model: tiny
stages:
  rlvr:
    kind: rlvr
    data: world:prompts
    steps: 2
    learning_rate: 1e-6
    batch_size: 8
    max_new_tokens: 1024
evaluate: {benchmarks: [world_choice]}
"""


@pytest.mark.parametrize("heldout", [20, 0])
def test_answers_to_held_out_prompts_are_said_to_be_in_no_hours(heldout, load):
    grid, text = load(RLVR, f"stages.rlvr.heldout={heldout}"), io.StringIO()
    show_plan(Console(file=text, width=200), grid, trials.trials(grid))
    line = "held-out prompts of rlvr: answers of up to 1,024 tokens each by its models and by those"
    assert (line in text.getvalue()) is bool(heldout)


def test_dropout_that_the_model_brings_is_told_where_sft_trains_with_it(load, small, tmp_path):
    config = {"model_type": "opt", "dropout": 0.1, "max_position_embeddings": 2048}
    (tmp_path / "config.json").write_text(json.dumps(config))

    def said(*overrides: str) -> str:
        grid, text = load(small, f"model={tmp_path}", *overrides), io.StringIO()
        show_plan(Console(file=text, width=200), grid, trials.trials(grid))
        return text.getvalue()

    assert "has its own (dropout 0.1), which is on in sft, as in TRL's SFT" in said()
    assert "has its own" not in said("stages.sft.disable_dropout=true")
