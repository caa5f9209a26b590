"""Tables as other tools write them, read without being told how."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.report.__main__ import main
from analysis.tables import load

LONG = "learning_rate,batch_size,benchmark,value\n"


def read(tmp_path: Path, text: str, **where: str) -> pd.DataFrame:
    path = tmp_path / "table.csv"
    path.write_text(text)
    return load.read(path, where)


def test_a_wandb_export_of_our_own_runs_has_every_score_with_its_error(tmp_path: Path) -> None:
    frame = read(
        tmp_path,
        "Name,State,learning_rate,batch_size,seed,train/loss,scores/arc/acc_norm,"
        "scores/arc/acc_norm_stderr,scores/arc/acc_norm_n,scores/arc/acc\n"
        "a,finished,1e-3,8,0,2.1,0.5,0.02,300,0.4\n"
        "b,crashed,1e-3,16,0,2.2,,,,\n"
        "quickstart summary,finished,,,,,,,,\n"
        "base,finished,,,,,0.25,0.02,300,0.2\n",
    )
    assert set(frame.benchmark) == {"arc"} and set(frame.metric) == {"acc_norm", "acc"}
    primary = frame[frame.primary.astype(bool)]
    assert set(primary.metric) == {"acc_norm"}
    scored = primary[primary.batch_size == 8].iloc[0]
    assert (scored.value, scored.stderr, scored.n, scored.status) == (0.5, 0.02, 300, "ok")
    crashed = primary[primary.batch_size == 16].iloc[0]
    assert (crashed.status, crashed.reason) == ("failed", "the run is crashed")
    assert primary.learning_rate.isna().sum() == 1, "the base model, not the summary"


def test_other_spellings_and_prefixes_of_columns(tmp_path: Path) -> None:
    frame = read(tmp_path, "config/lr,config/train_batch_size,eval/loss\n1e-3,8,2.5\n2e-3,8,2.4\n")
    assert list(frame.learning_rate) == [1e-3, 2e-3] and set(frame.batch_size) == {8}
    assert set(frame.benchmark) == {"loss"} and not frame.higher_is_better.any()


def test_a_rate_rounded_in_two_ways_is_one_rate(tmp_path: Path) -> None:
    frame = read(tmp_path, LONG + "3.453e-4,8,arc,0.4\n3.45e-4,16,arc,0.5\n4.9e-4,16,arc,0.5\n")
    assert frame.learning_rate.nunique() == 2


def test_the_rates_of_a_dense_search_stay_as_they_are(read) -> None:
    rates = [1e-3 * 2 ** (step / 500) for step in range(500)]
    rows = pd.DataFrame({"lr": rates, "bs": [8, 16] * 250, "acc": 0.5})
    table = read(rows)
    assert sorted(table.frame.learning_rate.unique()) == pytest.approx(rates)
    assert not [note for note in table.notes if "rounded" in note]


def test_only_the_rows_asked_for(tmp_path: Path) -> None:
    text = "project,learning_rate,batch_size,benchmark,value\na,1e-3,8,arc,0.4\nb,1e-3,8,arc,0.5\n"
    assert list(read(tmp_path, text, project="b").value) == [0.5]
    with pytest.raises(load.ResultsError, match="project differs within a cell"):
        read(tmp_path, text, batch_size="8.0")
    with pytest.raises(load.ResultsError, match="no such row; project: a, b"):
        read(tmp_path, text, project="c")
    with pytest.raises(load.ResultsError, match="--where projekt: no column projekt"):
        read(tmp_path, text, projekt="a")


MERGED = "".join(f"{rate},8,a\n,,b\n,,c\n" for rate in (1e-3, 2e-3, 4e-3))


def merged(head: str, cells: dict[str, str]) -> str:
    return head + MERGED.translate(str.maketrans(cells))


@pytest.mark.parametrize(
    "text",
    [
        merged("lr,bs,eval_loss\n", {"a": "2.1", "b": "2.2", "c": "2.3"}),
        merged("lr,bs,task,acc\n", {"a": "arc,0.4", "b": "gsm8k,0.3", "c": "piqa,0.2"}),
        merged(LONG, {"a": "arc,0.4", "b": "gsm8k,0.3", "c": "piqa,0.2"}),
        merged("lr,bs,seed,acc\n", {"a": "0,0.4", "b": "1,0.3", "c": "2,0.2"}),
        merged("lr,bs,model,acc\n", {"a": "x,0.4", "b": "x,0.3", "c": "x,0.2"}),
    ],
)
def test_merged_cells_of_a_spreadsheet_are_no_other_models(tmp_path: Path, text: str) -> None:
    with pytest.raises(load.ResultsError, match=r"6 rows \(row 2, 3, 5, 6, 8, 9\) have no learn"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "lr,bs,acc\n1e-3,8,0.4\n,,0.2\n,,0.3\n,,0.1\n",
        "lr,bs,acc\n,,0.2\n1e-3,8,0.4\n2e-3,8,0.4\n4e-3,8,0.4\n,,0.3\n",
        "lr,bs,model,acc\n1e-3,8,,0.4\n,,x,0.3\n2e-3,8,,0.4\n,,y,0.3\n",
        "lr,bs,acc\n1e-3,8,0.4\n,,\n2e-3,8,0.4\n,,\n",
        "lr,bs,state,acc\n1e-3,8,done,0.4\n,,killed,\n2e-3,8,done,0.4\n,,killed,\n",
    ],
)
def test_models_outside_the_grid_and_empty_rows_are_no_merged_cells(
    tmp_path: Path, text: str
) -> None:
    frame = read(tmp_path, text)
    assert (frame.status[frame.learning_rate.notna()] == "ok").all()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (LONG + "1e-3,eight,arc,0.4\n", "row 1: column batch_size: 'eight'"),
        (LONG + "1e-3,8.5,arc,0.4\n", "batch_size: not a whole number"),
        (LONG + "1e-3,8,arc,0.4\n1e-3,,arc,0.4\n", "row 2: learning_rate and batch_size must be"),
        ("learning_rate,batch_size\n1e-3,8\n", "no column is a score"),
        (
            "lr,per_device_train_batch_size,eval/loss\n1e-3,8,2\n",
            "per_device_train_batch_size is not the effective batch size",
        ),
    ],
)
def test_what_cannot_be_read_is_exit_2_with_file_column_and_what_is_allowed(
    tmp_path: Path, capsys, text: str, told: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    assert main([str(path)]) == 2
    said = capsys.readouterr().err
    assert told in said and str(path) in said
    assert list(tmp_path.iterdir()) == [path], "no report"


def test_parquet_from_elsewhere_is_read_like_csv(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pd.DataFrame(
        {"lr": [1e-3, 2e-3], "bs": [8, 8], "task": "arc", "score": [0.4, np.nan]}
    ).to_parquet(path)
    frame = load.read(path)
    assert list(frame.status) == ["ok", "failed"]
    path.write_bytes(b"no parquet")
    with pytest.raises(load.ResultsError, match="not a readable parquet file"):
        load.read(path)


def test_the_published_step_law_grids_are_arms_by_model_and_tokens(shared_data: Path) -> None:
    frame = load.read(shared_data / "grids" / "steplaw_dense.csv", {"N": "214663680"})
    assert set(frame.arm) == {f"215M, {n}B tokens" for n in ("4", "11.4", "20", "100")}
    primary = frame[frame.primary.astype(bool)]
    assert set(primary.metric) == {"smoothed"} and set(frame.metric) == {"smoothed", "last"}
    rates = primary.groupby("arm").learning_rate.nunique()
    assert (rates == 12).all(), "rates that the file rounds unevenly are one"
