"""Tables of two projects that call the same thing by two names, and rows without axes."""

import numpy as np
import pandas as pd
import pytest

from analysis.tables import load


def projects(sweep: pd.DataFrame, **renamed: str) -> pd.DataFrame:
    """The sweep in two projects, the second one under other names."""
    second = sweep.assign(project="b").rename(columns=renamed)
    return pd.concat([sweep.assign(project="a"), second], ignore_index=True)


@pytest.mark.parametrize(
    ("role", "name", "note"),
    [
        ("learning_rate", "config/lr", "learning_rate: from config/lr in 20 rows without learning"),
        ("batch_size", "bs", "batch_size: from bs in 20 rows without batch_size"),
        ("batch_size", "gbs", "batch_size: from batch_size in 20 rows without gbs"),
    ],
)
def test_two_names_of_one_column_are_one(sweep, read, role, name, note):
    table = read(projects(sweep, **{role: name}), by=("project",))
    assert table.frame.groupby("arm").size().tolist() == [20, 20]
    assert table.frame.learning_rate.notna().all() and table.frame.batch_size.notna().all()
    assert any(one.startswith(note) for one in table.notes)


def test_a_batch_size_that_may_be_of_one_device_stays_apart_and_is_named(sweep, read):
    frame = projects(sweep.rename(columns={"batch_size": "gbs"}), gbs="bs").assign(grad_accum=4)
    with pytest.raises(
        load.ResultsError, match=r"row 21: .* outside the grid; bs may be its batch"
    ):
        read(frame, by=("project",))


@pytest.mark.parametrize("stage", [{}, {"stage": "sft"}])
def test_a_model_without_axes_is_told_and_stands_outside_the_grid(sweep, read, stage):
    base = pd.DataFrame({"learning_rate": [np.nan], "batch_size": [np.nan], "eval/loss": [2.9]})
    table = read(pd.concat([sweep, base]).assign(**stage))
    outside = table.frame[table.frame.learning_rate.isna()]
    assert list(outside.stage) == [stage.get("stage", "base")] and list(outside.value) == [2.9]
    assert "1 row without learning rate and batch size: models outside the grid" in table.notes
