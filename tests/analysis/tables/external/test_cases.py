"""Tables as people bring them (`cases`), each with the optimum that was simulated."""

import json
from pathlib import Path

import pytest

from analysis.posterior.cells import surfaces
from analysis.report.__main__ import main
from analysis.tables import load
from analysis.tables.options import ReadOptions

INSIDE = (4e-5, 16)
"""The measured cell nearest the optimum, of batch size 20."""

READ = [
    ("01-hf-trainer-wandb-export/wandb_export.csv", {"loss": False, "mean_token_accuracy": True}),
    ("02-european-csv/excel_de.csv", {"loss": False}),
    (
        "03-lower-is-better-names/scores.csv",
        {"wikitext": False, "heldout_ppl": False, "lambada": False, "asr": False},
    ),
    ("05-one-word-in-a-score-column/sheet.csv", {"gsm8k": True, "arc": True}),
    ("06-crashed-and-rerun/wandb_export.csv", {"loss": False}),
    ("09-accumulation-column/per_device.csv", {"loss": False}),
    ("12-ray-tune-dataframe/results_df.csv", {"eval_loss": False, "val_accuracy": True}),
    ("13-tsv-and-friends/scores.jsonl", {"gsm8k": True}),
    ("13-tsv-and-friends/scores.tsv", {"gsm8k": True}),
    ("13-tsv-and-friends/tab_separated.csv", {"gsm8k": True}),
    ("14-lr-zero-baseline/scores.csv", {"gsm8k": True}),
    ("15-batch-size-spellings/bsz.csv", {"gsm8k": True}),
    ("18-optuna-dataframe/trials.csv", {"value": False}),
    ("20-infinity-strings/wandb.csv", {"loss": False}),
    ("52-diverged-own-task/fit_alone.csv", {"qa": True}),
    ("52-diverged-own-task/fit_and_two_diverged.csv", {"qa": True}),
]


def grids(path: Path, **options) -> dict[tuple[str, str], tuple[bool, tuple[float, int]]]:
    """(arm, benchmark) -> whether higher is better, and the best measured cell."""
    found = {}
    for cells in surfaces(load.read_table(path, ReadOptions(**options)).frame):
        best = cells.table.loc[cells.best]
        cell = (float(best.learning_rate), int(best.batch_size))
        found[cells.arm, cells.benchmark] = (cells.higher_is_better, cell)
    return found


@pytest.mark.parametrize(("name", "benchmarks"), READ, ids=[name for name, _ in READ])
def test_table_is_read_with_its_directions_and_its_best_cell(cases, name, benchmarks):
    expected = {("", benchmark): (up, INSIDE) for benchmark, up in benchmarks.items()}
    if name.startswith("52"):
        expected = {("", "qa"): (True, INSIDE)}
    assert grids(cases / name) == expected


@pytest.mark.parametrize(("name", "sizes"), [("suffix", 1000), ("thousands", 64)])
def test_batch_sizes_in_thousands(cases, name, sizes):
    frame = load.read(cases / "15-batch-size-spellings" / f"{name}.csv")
    assert sorted(set(frame.batch_size)) == [size * sizes for size in (8, 16, 32, 64)]


def test_two_models_have_a_surface_each(cases):
    best = grids(cases / "07-two-models-one-table" / "models.csv")
    assert best["Qwen2.5-0.5B", "gsm8k"][1] == (4e-5, 64), "a ratio of 5e-7"
    assert best["Llama-3.2-1B", "gsm8k"][1] == (4e-5, 8), "a ratio of 8e-6"


def test_a_third_hyperparameter_is_refused_or_split(cases):
    path = cases / "08-third-axis" / "sweep.csv"
    with pytest.raises(load.ResultsError, match="--by weight_decay,num_train_epochs"):
        load.read(path)
    best = grids(path, by=("num_train_epochs",), where={"weight_decay": "0"})
    assert best["num_train_epochs=1", "loss"][1] == INSIDE
    assert best["num_train_epochs=3", "loss"][1] == (4e-5, 64), "a ratio of 5e-7"
    assert len(grids(path, by=("weight_decay,num_train_epochs",))) == 4


@pytest.mark.parametrize("name", ["lr_only", "no_batch_size"])
def test_rates_at_one_batch_size_are_one_surface(cases, name):
    ((higher, cell),) = grids(cases / "11-one-batch-size" / f"{name}.csv").values()
    assert not higher and cell[0] == 1.6e-5


def test_empty_seeds_are_three_seeds_of_each_cell(cases):
    frame = load.read(cases / "19-some-seeds-empty" / "scores.csv")
    assert set(frame.groupby(["learning_rate", "batch_size"]).key.nunique()) == {3}
    with pytest.raises(load.ResultsError, match="no column for the learning rate"):
        load.read(cases / "19-some-seeds-empty" / "panel.csv")


def test_diverged_cells_mark_the_surface_and_make_no_second_one(cases):
    frame = load.read(cases / "52-diverged-own-task" / "fit_and_two_diverged.csv")
    (cells,) = surfaces(frame)
    assert (cells.table.status == "diverged").sum() == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, _ in READ if "02" in name or "03" in name])
def test_the_report_recommends_the_simulated_ratio(cases, tmp_path, capsys, name):
    assert main([str(cases / name), "--out", str(tmp_path)]) == 0
    assert "lower is better" in capsys.readouterr().out
    record = json.loads((tmp_path / "recommendations.json").read_text())
    for best in record["stages"]["all"]["ratio"]["benchmarks"].values():
        assert best["low"] < 2e-6 < best["high"]


def test_a_batch_size_that_nobody_knows_is_never_written_as_1(cases, tmp_path):
    assert (
        main([str(cases / "11-one-batch-size" / "no_batch_size.csv"), "--out", str(tmp_path)]) == 0
    )
    page = (tmp_path / "index.html").read_text()
    assert "9 learning rates, batch size not known" in page
    for wrong in ("batch size 1", "1.6e-5 x 1", "1 batch size", "<th>batch size</th>", "LR/BS is"):
        assert wrong not in page
    record = json.loads((tmp_path / "recommendations.json").read_text())["stages"]["all"]
    setting = record["setting"]["benchmarks"]["loss"]
    assert setting["learning_rate"] == 1.6e-5
    assert setting["batch_size"] is None and setting["lr_bs_ratio"] is None
    assert record["ratio"]["benchmarks"]["loss"] is None


def test_a_refusal_is_exit_2_with_the_way_out(cases, tmp_path, capsys):
    path = cases / "08-third-axis" / "sweep.csv"
    assert main([str(path), "--out", str(tmp_path / "report")]) == 2
    error = capsys.readouterr().err
    assert str(path) in error and "--where" in error and "--by" in error
    assert not (tmp_path / "report").exists()
