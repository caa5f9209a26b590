"""What the plan says below the table of a stage."""

import io

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
