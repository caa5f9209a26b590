"""Our own tables of two runs in one file: what differs between them is no seed."""

from pathlib import Path

import pandas as pd
import pytest

from analysis.tables import load
from analysis.tables.errors import ResultsError
from analysis.tables.schema import Table


@pytest.fixture
def read(planted_run, tmp_path):
    """Reads the table of a run with its trained rows once more, under other keys and `values`."""
    one = load.read(planted_run)

    def together(**values) -> Table:
        other = one[one.learning_rate.notna()].copy()
        other = other.assign(key="other" + other.key, **values)
        path = Path(tmp_path / "results.csv")
        pd.concat([one, other]).to_csv(path, index=False)
        return load.read_table(path)

    return together


@pytest.mark.parametrize("name", ["model", "optimizer", "adapter"])
def test_two_of_them_are_two_surfaces(read, name):
    frame = read(**{name: "other"}).frame
    arms = set(frame[frame.stage == "sft"].arm)
    assert len(arms) == 2 and f"{name}=other" in arms
    assert set(frame[frame.stage == "base"].arm) == {""}


def test_two_trials_of_one_cell_and_seed_are_refused_with_the_way_out(read):
    told = r"learning rate 0\.003, batch size 32, seed 0: 2 trials \(1e5000000000 and other1e5000"
    with pytest.raises(ResultsError, match=told + r".*not averaged.*analysis\.report A B"):
        read()


def test_other_seeds_are_seeds(read):
    assert read(seed=1).notes == ()


def test_seeds_of_unlike_lengths_are_refused(read):
    with pytest.raises(ResultsError, match=r"steps differs between its seeds \(.*--by steps"):
        read(seed=1, steps=30)


def test_scores_of_unlike_numbers_of_items_are_told(read):
    (note, *_) = read(seed=1, n=12).notes
    assert "items in one surface" in note and "--where n=" in note


def test_row_that_stands_twice_is_named_with_its_first(planted_run, tmp_path):
    one = load.read(planted_run)
    pd.concat([one, one[:1]]).to_csv(tmp_path / "results.csv", index=False)
    with pytest.raises(ResultsError, match=rf"rows 1 and {len(one) + 1}: .*{one.key[0]}"):
        load.read(tmp_path / "results.csv")
