"""The same sweep in the forms that tools and people write: one table comes out."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis.tables import load


def european(sweep: pd.DataFrame, separator: str, quote: str = "") -> str:
    lines = [separator.join(["lr", "bs", "eval_loss"])]
    for rate, size, value in sweep.itertuples(index=False):
        cells = (f"{rate:.7f}", f"{size}", f"{value:.4f}")
        lines.append(separator.join(f"{quote}{c.replace('.', ',')}{quote}" for c in cells))
    return "\n".join(lines)


def same(sweep: pd.DataFrame, frame: pd.DataFrame) -> None:
    assert list(frame.learning_rate) == list(sweep.learning_rate)
    assert list(frame.batch_size) == list(sweep.batch_size)
    assert list(frame.value) == list(sweep["eval/loss"])
    assert not frame.higher_is_better.any() and (frame.status == "ok").all()


def test_separators_and_decimal_commas(sweep, read):
    for separator in (",", ";", "\t", "|", " "):
        same(sweep, read(sweep.to_csv(index=False, sep=separator)).frame)
    same(sweep, read(european(sweep, ";")).frame)
    same(sweep, read(european(sweep, "\t"), ".tsv").frame)
    same(sweep, read(european(sweep, ",", quote='"')).frame)


def test_excel_and_markdown(sweep, read):
    same(sweep, read("sep=;\n" + european(sweep, ";")).frame)
    same(sweep, read(sweep.to_csv(index=False).encode("utf-8-sig")).frame)
    same(sweep, read(sweep.to_csv(index=False, sep="\t").encode("utf-16"), ".txt").frame)
    rows = "\n".join(f"| {a} | {b} | {c} |" for a, b, c in sweep.itertuples(index=False))
    same(sweep, read("| lr | bs | eval/loss |\n|---|---:|---|\n" + rows, ".md").frame)


def test_json_in_its_forms(sweep, read):
    for orient in ("records", "columns", "split", "list"):
        text = (
            json.dumps(sweep.to_dict("list")) if orient == "list" else sweep.to_json(orient=orient)
        )
        same(sweep, read(text, ".json").frame)
    rows = [
        {"config": {"lr": a, "batch_size": b}, "eval": {"loss": c}}
        for a, b, c in sweep.itertuples(index=False)
    ]
    same(sweep, read("\n".join(map(json.dumps, rows)), ".jsonl").frame)
    same(sweep, read(json.dumps({"results": rows}), ".json").frame)


def test_json_with_an_object_for_each_run(sweep, read):
    cells = list(sweep.itertuples(index=False))
    flat = {f"run {n}": {"lr": a, "bs": b, "eval_loss": c} for n, (a, b, c) in enumerate(cells)}
    same(sweep, read(json.dumps(flat), ".json").frame)
    nested = {
        f"run {n}": {"config": {"lr": a, "bs": b}, "eval": {"loss": c}}
        for n, (a, b, c) in enumerate(cells)
    }
    same(sweep, read(json.dumps(nested), ".json").frame)
    named = {f"sft_lr{a}_bs{b}": {"eval_loss": c} for a, b, c in cells}
    same(sweep, read(json.dumps(named), ".json").frame)
    columns = sweep.set_axis([f"lr{n}" for n in range(20)]).to_json(orient="columns")
    same(sweep, read(columns, ".json").frame)


def test_bars_in_the_names_of_columns_separate_nothing(sweep, read):
    bars = sweep.assign(**{"leaderboard|arc:challenge|25|0": 0.4, "leaderboard|gsm8k|5|0": 0.3})
    frame = read(bars).frame
    assert set(frame.benchmark) == {"loss", "arc_challenge", "gsm8k"}
    same(sweep, frame[frame.benchmark == "loss"])


@pytest.mark.parametrize("index", ["run", "rows twice", "axes", "a column too"])
def test_parquet_with_an_index_of_its_own(sweep, tmp_path, index):
    frames = {
        "run": sweep.assign(run=[f"run {n}" for n in range(20)]).set_index("run"),
        "rows twice": pd.concat([sweep[:10], sweep[10:].reset_index(drop=True)]),
        "axes": sweep.set_index(["learning_rate", "batch_size"]),
        "a column too": sweep.rename_axis("batch_size"),
    }
    frames[index].to_parquet(tmp_path / "table.parquet")
    same(sweep, load.read(tmp_path / "table.parquet"))
    wrong = frames["run"].assign(learning_rate="x")
    wrong.to_parquet(tmp_path / "table.parquet")
    with pytest.raises(load.ResultsError, match="row 1: column learning_rate: 'x'"):
        load.read(tmp_path / "table.parquet")


def test_percent_strings_are_fractions_and_units_do_not_mix(sweep, read):
    scores = sweep.drop(columns="eval/loss").assign(gsm8k=np.linspace(0.1, 0.3, 20))
    texts = [f"{value:.1%}" for value in scores.gsm8k]
    assert list(read(scores.assign(gsm8k=texts)).frame.value) == pytest.approx(
        list(scores.gsm8k), abs=1e-3
    )
    with pytest.raises(load.ResultsError, match="row 2 is in percent and row 1 is not"):
        read(scores.assign(gsm8k=["0.1", *texts[1:]]))
    mixed = [value * 100 if place % 2 else value for place, value in enumerate(scores.gsm8k)]
    with pytest.raises(load.ResultsError, match="look like a fraction and a percentage"):
        read(scores.assign(gsm8k=mixed))
    low = read(scores.assign(gsm8k=np.linspace(0.5, 3, 20)))
    assert low.frame.value.max() == 0.03, "small percentages are one unit"
    assert "gsm8k: percent, read as fractions" in low.notes


@pytest.mark.parametrize(
    ("value", "stderr"),
    [("69.5%", "1.2%"), ("69.5%", "1.2"), ("69.5", "1.2%"), ("69.5", "1.2"), ("69.5%", "0.012")],
)
def test_error_of_a_percentage_is_in_its_unit(sweep, read, value, stderr):
    rows = sweep.drop(columns="eval/loss").assign(acc=value, acc_stderr=stderr, acc_n=1319)
    table = read(rows)
    assert set(table.frame.n) == {1319}
    assert table.frame.value.to_list() == pytest.approx([0.695] * 20)
    assert table.frame.stderr.to_list() == pytest.approx([0.012] * 20)


def test_what_is_a_share_by_its_name_is_read_in_percent_and_a_reward_is_not(sweep, read):
    scores = {"arc": 37.0, "ifeval": 47.0, "bbh": 31.0, "gsm8k_strict_match": 5.5}
    rewards = np.linspace(0.04, 5.2, 20)
    rows = sweep.drop(columns="eval/loss").assign(**scores, heldout_reward=rewards)
    largest = read(rows).frame.groupby("benchmark").value.max()
    assert largest.to_dict() == pytest.approx(
        {"arc": 0.37, "ifeval": 0.47, "bbh": 0.31, "gsm8k": 0.055, "heldout_reward": 5.2}
    )


def test_score_that_may_be_a_percentage_as_those_beside_it_is_asked_for(sweep, read):
    low = np.linspace(0.4, 0.8, 20)
    rows = sweep.drop(columns="eval/loss").assign(arc=37.0, gsm8k=low)
    asked = r"gsm8k: 0.4 to 0.8 may be fractions, or percentages as those of arc \(up to 37\) are"
    with pytest.raises(load.ResultsError, match=asked):
        read(rows)
    signed = rows.assign(arc="37%")
    assert read(signed).frame.query("benchmark == 'gsm8k'").value.max() == 0.8
    assert read(rows.assign(gsm8k=0.0)).frame.value.max() == 0.37
    assert read(rows.assign(piqa=low).drop(columns="gsm8k")).frame.value.max() == 0.8


def test_percentages_of_a_name_with_shots_are_fractions(sweep, read):
    table = read(sweep.drop(columns="eval/loss").assign(**{"ARC (25-shot)": 52.3}))
    assert set(table.frame.benchmark) == {"arc"} and set(table.frame.metric) == {"25-shot"}
    assert table.frame.value.max() == pytest.approx(0.523)


def test_points_of_a_column_with_0_001_are_decimal(read):
    """Beside decimal commas, as a spreadsheet writes a column that was typed as text."""
    table = read("lr;bs;loss\n0.001;8;2,31\n0.0005;8;2,41\n0.001;1.024;2,30\n0.0005;1.024;2,4\n")
    assert set(table.frame.learning_rate) == {0.001, 0.0005}
    assert set(table.frame.batch_size) == {8, 1024}
    assert table.frame.value.min() == 2.3


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas_before_three_digits_are_no_thousands_in_a_score(sweep, read, separator):
    rows = sweep.rename(columns={"eval/loss": "eval_loss"}).assign(learning_rate="1e-05")
    rows["eval_loss"] = [f"2,{100 + n}" for n in range(20)]
    frame = read(rows.to_csv(sep=separator, index=False)).frame
    assert frame.value.to_list() == [round(2.1 + n / 1000, 3) for n in range(20)]
    for other in (
        rows.assign(learning_rate="2.5e-05").to_csv(sep=separator, index=False),
        rows.assign(batch_size="1,024").to_csv(sep=separator, index=False),
        rows.to_csv(index=False),
    ):
        assert read(other).frame.value.min() == 2100, "as points or commas elsewhere say"


def test_0_001_with_a_comma_is_no_thousand(sweep, read):
    rows = sweep.assign(learning_rate=[f"0,00{1 + n // 4}" for n in range(20)])
    with pytest.raises(load.ResultsError, match="row 1: column learning_rate: '0,001' is not a"):
        read(rows.to_json(orient="records"), ".json")


def test_learning_rates_from_1_on_are_told(sweep, read):
    table = read(sweep.assign(learning_rate=-np.log10(sweep.learning_rate)))
    assert any("learning rates up to 5 (row 1)" in note for note in table.notes)
    assert not any("learning rates" in note for note in read(sweep).notes)


def test_thousands_and_suffixes_of_batch_sizes(sweep, read):
    grouped = sweep.assign(batch_size=[f"{size * 128:,}" for size in sweep.batch_size])
    assert set(read(grouped).frame.batch_size) == {1024, 2048, 4096, 8192}
    table = read(sweep.assign(batch_size=[f"{size}k" for size in sweep.batch_size]))
    assert set(table.frame.batch_size) == {8000, 16000, 32000, 64000}
    assert any("'8k' is read as 8,000" in note for note in table.notes)


@pytest.mark.parametrize(
    ("content", "suffix", "reason"),
    [
        ("lr,bs,eval_loss\n1e-5,8,2\n1e-5,16,2,4\n", ".csv", "line 3 has more cells"),
        ('{"lr": 1e-5}\n{"lr":\n', ".jsonl", "line 2 is not JSON"),
        ("[1, 2]", ".json", "not a list of rows"),
        ('{"config": {"lr": 1e-5}, "metrics": {"eval_loss": 2}}', ".json", "no column for the lea"),
        ("", ".csv", "the file is empty"),
        ("lr,bs,eval_loss\n", ".csv", "the table has no rows"),
        (b"PK\x03\x04\0\0", ".csv", "not a text file"),
        (b"PK\x03\x04", ".xlsx", "'.xlsx' is not read; .*save a spreadsheet as .csv"),
        (b"\x1f\x8b12", ".csv.gz", "not a whole gzip file"),
        ("Step,a - eval/loss\n1,2\n", ".csv", "no column for the learning rate"),
    ],
)
def test_what_cannot_be_read_is_refused_by_place(read, content, suffix, reason):
    with pytest.raises(load.ResultsError, match=reason):
        read(content, suffix)
