"""The same sweep in tables whose rows are not runs: one table comes out, and notes on how."""

import json

import pytest

from analysis.tables import load
from analysis.tables.options import ReadOptions

LOWER = {"score": "min"}


def same(sweep, frame) -> None:
    columns = ["learning_rate", "batch_size"]
    frame = frame.sort_values(columns)
    for name in columns:
        assert list(frame[name]) == list(sweep[name])
    assert list(frame.value) == list(sweep["eval/loss"])
    assert not frame.higher_is_better.any() and (frame.status == "ok").all()


@pytest.mark.parametrize("written", [json.dumps, repr])
def test_the_table_of_a_loop_over_wandbs_api(sweep, read, written):
    rows = [
        {
            "summary": written({"eval/loss": loss, "_step": 90, "_wandb": {"runtime": 12}}),
            "config": written({"lr": rate, "batch_size": size, "bias": None}),
            "name": f"run-{number}",
        }
        for number, (rate, size, loss) in enumerate(sweep.itertuples(index=False))
    ]
    table = read(type(sweep)(rows))
    same(sweep, table.frame)
    assert table.notes[:2] == ("summary: read as 3 columns", "config: read as 3 columns")


def test_objects_as_python_prints_them_with_nan_and_values(sweep, read):
    form = "{{'lr': {{'desc': None, 'value': {}}}, 'bs': {}, 'x': nan, 'y': -inf}}"
    rows = [
        {"config": form.format(rate, size), "eval/loss": loss}
        for rate, size, loss in sweep.itertuples(index=False)
    ]
    same(sweep, read(type(sweep)(rows)).frame)


def test_an_object_without_entries_is_a_row_without_them(sweep, read):
    table = read(sweep.assign(config=["{}", *(["{'kind': 'a'}"] * 19)]))
    same(sweep, table.frame)
    same(sweep, read(sweep.assign(config="{}")).frame)


def test_a_cell_that_is_no_object_leaves_its_column_as_it_is(sweep, read):
    table = read(sweep.assign(config=["{'a': <object at 0x1>}"] + ["{'a': 1}"] * 19))
    same(sweep, table.frame)
    assert not any("read as" in note for note in table.notes)


@pytest.mark.parametrize("header", ["bs={:d}", "batch_size {:d}", "BS{:d}", "{:d}"])
@pytest.mark.parametrize("first", ["lr", "learning_rate", "lr \\ bs", "LR/BS"])
def test_batch_sizes_across_the_columns(sweep, read, first, header):
    wide = sweep.pivot(index="learning_rate", columns="batch_size", values="eval/loss")
    wide = wide.rename(columns=header.format).rename_axis(first).reset_index()
    with pytest.raises(load.ResultsError, match="score=max"):
        read(wide)
    table = read(wide, directions=LOWER)
    same(sweep, table.frame)
    assert table.notes[0].startswith("batch_size across the columns:")


def test_a_pivot_in_parquet_is_one_in_csv(sweep, tmp_path):
    wide = sweep.pivot(index="learning_rate", columns="batch_size", values="eval/loss")
    wide.rename(columns=str).to_parquet(tmp_path / "wide.parquet")
    same(sweep, load.read_table(tmp_path / "wide.parquet", ReadOptions(directions=LOWER)).frame)


def test_learning_rates_across_the_columns_and_a_cell_that_was_not_run(sweep, read):
    wide = sweep.pivot(index="batch_size", columns="learning_rate", values="eval/loss")
    table = read(wide.rename(columns="lr={:g}".format).reset_index(), directions=LOWER)
    same(sweep, table.frame)
    wide.iloc[0, 0] = None
    assert len(read(wide.reset_index(), directions=LOWER).frame) == 19


def test_numbers_that_count_seeds_are_no_batch_sizes(sweep, read):
    wide = (
        sweep[sweep.batch_size == 8].rename(columns={"eval/loss": "1"}).drop(columns="batch_size")
    )
    with pytest.raises(load.ResultsError, match="The names do not say for: 1, 2"):
        read(wide.assign(**{"2": wide["1"]}))


@pytest.mark.parametrize("error", [" ± 0.01", "±0.01", " +/- .01"])
def test_an_error_behind_a_score_is_left_out_and_told(sweep, read, error):
    table = read(sweep.assign(**{"eval/loss": [f"{loss}{error}" for loss in sweep["eval/loss"]]}))
    same(sweep, table.frame)
    assert "eval/loss_stderr is used" in table.notes[0]
