import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.tables import load
from analysis.tables.errors import ResultsError
from analysis.tables.records import run_table


def test_rebuilding_gives_identical_bytes(run: Path) -> None:
    run_table.write(run)
    first = [(run / name).read_bytes() for name in ("results.csv", "results.parquet")]
    run_table.write(run)
    assert first == [(run / name).read_bytes() for name in ("results.csv", "results.parquet")]
    assert not list(run.glob(".results*"))


@pytest.mark.parametrize("name", ["results.csv", "results.parquet"])
def test_files_read_back_as_the_run_folder(run: Path, name: str) -> None:
    frame = run_table.write(run).frame
    pd.testing.assert_frame_equal(load.read(run / name), frame, check_exact=True)


def test_keys_that_look_like_numbers_stay_text(run: Path) -> None:
    run_table.write(run)
    assert "1e5000000000" in set(load.read(run / "results.csv").key)


def test_an_evaluation_no_longer_wanted_is_left_out(run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["stages"]["sft"]["evaluations"] = manifest["stages"]["sft"]["evaluations"][:1]
    (run / "manifest.json").write_text(json.dumps(manifest))
    sft = load.read(run).query("stage == 'sft'")
    assert set(sft.benchmark) == {"world_choice"}
    items = run_table.items(run)
    assert set(items.benchmark[items.key == "000000000000"]) == {"world_choice"}


def test_items_are_the_same_in_every_cell(run: Path) -> None:
    items = run_table.items(run)
    assert tuple(items) == run_table.ITEM_COLUMNS
    counts = items.groupby(["benchmark", "metric", "item"]).key.nunique()
    assert set(counts) == {19}


def test_items_of_primary_metrics_are_those_rows_alone_and_names_are_held_once(run: Path) -> None:
    frame = load.read(run)
    frame.loc[frame.benchmark == "world_choice", "primary"] = False
    every, some = run_table.items(run), run_table.items(run, frame)
    pairs = frame.loc[frame.primary, ["benchmark", "metric"]].drop_duplicates()
    expected = every.astype({"benchmark": "str", "metric": "str"}).merge(pairs)
    assert 0 < len(some) < len(every) and len(some) == len(expected)
    assert some.value.tolist() == expected.value.tolist()
    assert all(some[name].dtype == "category" for name in ("key", "benchmark", "metric"))


def test_items_cut_at_any_byte_are_refused_by_name(run: Path) -> None:
    file = sorted(run.glob("trials/*/scores/*.parquet"))[0]
    whole = file.read_bytes()
    for kept in {*range(0, len(whole), 97), *range(len(whole) - 12, len(whole))}:
        file.write_bytes(whole[:kept])
        with pytest.raises(ResultsError) as caught:
            run_table.items(run)
        assert f"{file}: damaged" in str(caught.value)
        assert f"delete it and {file.stem}.json" in str(caught.value)
