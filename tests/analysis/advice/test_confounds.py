import re

import numpy as np
import pandas as pd

from analysis.advice.answers import answers
from analysis.advice.confounds import Confounds, confounds
from analysis.fit.surface import fit
from analysis.posterior.cells import surfaces
from tests.analysis.planted import RATES, SIZES, bowl, table

EXAMPLES = 4096


def recorded(arm: str = "", steps: int | None = None) -> pd.DataFrame:
    """A planted table with the columns a run records, at one epoch or at equal steps."""
    frame = table(bowl, noise=0.003).assign(stage="sft", arm=arm)
    frame["steps"] = steps or (EXAMPLES // frame.batch_size).astype("Int64")
    frame["tokens"] = (frame.steps * frame.batch_size * 100).astype("Int64")
    frame["learning_rate_sum"] = (frame.steps * frame.learning_rate / 2).astype("float64")
    frame["warmup_steps"] = 10
    frame["adam_beta2"] = 0.999
    frame["key"] = arm + frame.key
    return frame


def explained(*frames: pd.DataFrame) -> Confounds:
    frame = pd.concat(frames, ignore_index=True)
    fits = [fit(cells) for cells in surfaces(frame)]
    return confounds(
        frame, "sft", fits, [next(iter(answers([one]).benchmarks.values())) for one in fits]
    )


def test_at_one_epoch_the_summed_rate_is_the_ratio_in_disguise() -> None:
    found = explained(recorded())
    columns = {column.name: column for column in found.arms[""]}
    assert columns["learning_rate_sum"].tied and not columns["steps"].tied
    assert columns["tokens"].held and columns["warmup_steps"].constant
    assert "summed learning rate moves with LR/BS and cannot be told" in found.sentence


def test_warmup_of_so_many_steps_is_no_constant_where_the_steps_differ() -> None:
    assert "warmup steps are the same" not in explained(recorded()).sentence
    equal = explained(recorded(steps=300)).sentence
    assert "the number of warmup steps are the same at every batch size" in equal


def test_warmup_that_takes_the_whole_training_is_told_with_its_batch_sizes() -> None:
    assert "whole training" not in explained(recorded()).sentence
    frame = recorded()
    frame["warmup_steps"] = EXAMPLES // 16
    said = explained(frame).sentence
    assert "In this grid warmup takes the whole training at batch size 16 and 32, so" in said


def test_rates_that_ran_at_one_batch_size_each_hold_nothing() -> None:
    frame = recorded()
    diagonal = dict(zip(RATES, (*SIZES, SIZES[-1]), strict=True))
    own = frame.batch_size == frame.learning_rate.map(diagonal)
    found = explained(frame[own])
    columns = {column.name: column for column in found.arms[""]}
    assert columns["tokens"].constant and not columns["steps"].held


def test_what_is_missing_is_a_grid_file() -> None:
    found = explained(recorded())
    assert found.missing == ("equal steps", "constant half-life")
    assert "{name: equal_steps, set: {steps: " in found.grid_file
    assert "adam_beta2_half_life_tokens" in found.grid_file
    assert "equal_tokens" not in found.grid_file


def test_within_a_control_arm_the_ratio_has_an_effect_of_its_own() -> None:
    found = explained(recorded(), recorded("equal_steps", steps=300))
    said = r"With equal steps \(equal_steps\) the best ratio of ARC is (\S+) \("
    best = re.search(said, found.sentence)
    assert best is not None and abs(np.log2(float(best[1])) + 13.5) < 0.5
    assert "equal steps" not in found.missing
    assert not {c.name: c for c in found.arms["equal_steps"]}["learning_rate_sum"].tied


def test_what_is_not_recorded_is_said_to_be_unknown() -> None:
    found = explained(table(bowl, noise=0.003).assign(stage="sft"))
    assert all(not column.known for column in found.arms[""])
    assert "not recorded" in found.sentence


def test_half_life_is_in_tokens() -> None:
    found = explained(recorded())
    row = found.cells.iloc[0]
    expected = np.log(0.5) / np.log(0.999) * row.batch_size * 100
    assert np.isclose(row.half_life_tokens, expected)
