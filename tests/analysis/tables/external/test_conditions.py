"""A repeated row is a seed only if nothing else differs."""

import numpy as np
import pandas as pd
import pytest

from analysis.posterior.cells import surfaces
from analysis.tables import load

DIFFERS = "differs? within a cell"


def both(sweep: pd.DataFrame, column: str, values: tuple, shift: float = 0.3) -> pd.DataFrame:
    parts = [
        sweep.assign(**{column: value, "eval/loss": sweep["eval/loss"] + shift * place})
        for place, value in enumerate(values)
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("weight_decay", (0.0, 0.1)),
        ("num_train_epochs", (1, 3)),
        ("filter", ("strict-match", "flexible-extract")),
        ("config/optimizer", ("adamw", "muon")),
        ("anything", ("a", "b")),
        ("Na", (2e8, 5e8)),
    ],
)
def test_a_setting_that_differs_is_named_and_never_averaged(sweep, read, column, values):
    frame = both(sweep, column, values)
    with pytest.raises(load.ResultsError, match=DIFFERS) as refused:
        read(frame)
    assert f"--by {column}" in str(refused.value)
    assert f"--where {column}={values[0]}" in str(refused.value)
    table = read(frame, by=(column,)).frame
    assert table.arm.nunique() == 2 and table.key.nunique() == 40 and table.seed.isna().all()
    assert table.groupby("arm").size().tolist() == [20, 20]
    assert len(read(frame, where={column: str(values[1])}).frame) == 20


@pytest.mark.parametrize("column", ["trial", "rep", "replica_no", "attempt"])
def test_repeats_that_are_counted_are_offered_as_seeds(sweep, read, column):
    frame = both(sweep, column, (1, 2, 3), shift=0.01)
    with pytest.raises(load.ResultsError, match=f"{DIFFERS}.*--columns seed={column};"):
        read(frame)
    assert set(read(frame, columns={"seed": column}).frame.seed) == {1, 2, 3}


def test_a_table_with_tasks_in_rows_and_a_column_of_scores_is_offered_as_a_long_one(sweep, read):
    frame = both(sweep, "task", ("arc", "gsm8k")).rename(columns={"eval/loss": "acc"})
    frame = frame.assign(acc=frame.acc / 4, acc_stderr=0.01)
    with pytest.raises(load.ResultsError, match="--columns value=acc,stderr=acc_stderr;"):
        read(frame)
    table = read(frame, columns={"value": "acc", "stderr": "acc_stderr"}).frame
    assert set(table.benchmark) == {"arc", "gsm8k"} and set(table.stderr) == {0.01}


def test_a_setting_that_changes_with_the_seed_is_no_seed(sweep, read):
    frame = both(sweep, "weight_decay", (0.0, 0.1)).assign(seed=[0] * 20 + [1] * 20)
    with pytest.raises(load.ResultsError, match="weight_decay differs within a cell"):
        read(frame)


def test_several_settings_need_few_columns(sweep, read):
    frame = both(sweep, "h", (1024, 1408))
    frame = frame.assign(layers=frame.h.map({1024: 20, 1408: 16}))
    with pytest.raises(load.ResultsError, match=r"h and layers differ .* --by h;"):
        read(frame)


def test_two_models_have_a_surface_each(sweep, read):
    table = read(both(sweep, "model", ("Qwen2.5-0.5B", "Llama-3.2-1B")))
    assert list(table.frame.arm.unique()) == ["Qwen2.5-0.5B", "Llama-3.2-1B"]
    assert "model: a surface for each of Qwen2.5-0.5B and Llama-3.2-1B" in table.notes
    runs = read(sweep.assign(model=[f"run-{n}" for n in range(20)]))
    assert set(runs.frame.arm) == {""}, "a model in every cell is a run's name"


@pytest.mark.parametrize("column", ["tokens", "examples", "num_tokens", "consumed_samples"])
@pytest.mark.parametrize("more", [{}, {"seed": 42}])
def test_amounts_of_training_in_one_cell_are_no_seeds(sweep, read, column, more):
    budgets = both(sweep, column, (5e9, 2e9, 1e9)).assign(**more)
    with pytest.raises(load.ResultsError, match=f"{column} {DIFFERS}.*--last {column}") as refused:
        read(budgets)
    assert f"--by {column}" in str(refused.value)
    assert list(read(budgets, last=column).frame.value) == list(sweep["eval/loss"])
    if column == "tokens":
        with pytest.raises(load.ResultsError, match=DIFFERS):
            read(budgets.assign(name=[f"run-{n}-of-many" for n in budgets.index]))
    packed = both(sweep, column, (1.00e9, 1.01e9), shift=0.01)
    assert set(read(packed).frame.groupby(["learning_rate", "batch_size"]).size()) == {2}


@pytest.mark.parametrize("column", ["training_iteration", "epoch", "train/epoch"])
def test_runs_that_a_scheduler_stopped_early_are_told(sweep, read, column):
    rungs = [(1, 3, 9, 27, 27)[n % 5] for n in range(20)]
    told = f"{column} from 1 to 27: runs that were stopped early are scored as they stood"
    asha = sweep.assign(**{column: rungs})
    assert any(note.startswith(told) for note in read(asha).notes)
    whole = read(asha, where={column: "27"})
    assert len(whole.frame) == 8 and not any("stopped early" in note for note in whole.notes)
    equal_steps = sweep.assign(**{column: sweep.batch_size / 16})
    assert not any("stopped early" in note for note in read(equal_steps).notes)
    rounded = sweep.assign(**{column: [2.99, 3.0] * 10}, global_step=rungs)
    assert not any("stopped early" in note for note in read(rounded).notes)


def test_the_history_of_a_run_is_its_last_row(sweep, read):
    history = both(sweep, "step", (300, 200, 100), shift=0.1)
    with pytest.raises(load.ResultsError, match="choose the last row of each run: --last step"):
        read(history)
    table = read(history, last="step")
    assert list(table.frame.value) == list(sweep["eval/loss"])
    assert "--last step: 20 of 60 rows are kept" in table.notes
    seeds = pd.concat([history.assign(seed=0), history.assign(seed=1)])
    assert read(seeds, last="step").frame.seed.nunique() == 2
    named = pd.concat([history.assign(Name="a"), history.assign(Name="b")])
    assert len(read(named, last="step").frame) == 40, "a run is not two"
    dates = history.assign(Created=history.step.map(lambda n: f"2026-03-0{n // 100}T10:00:00Z"))
    assert list(read(dates.drop(columns="step"), last="Created").frame.value) == list(
        sweep["eval/loss"]
    )


@pytest.mark.parametrize("step", ["_step", "train/global_step"])
def test_rows_that_each_have_an_id_are_runs_however_far_they_came(sweep, read, step):
    frame = both(sweep, step, (1000, 1001, 1003), shift=0.001)
    frame = frame.assign(
        Name=[f"sweep-{n}" for n in range(60)], ID=[f"x{n:03}q" for n in range(60)]
    )
    for options in ({}, {"last": step}):
        table = read(frame, **options)
        assert table.frame.groupby(["learning_rate", "batch_size"]).size().eq(3).all()
        assert len(table.frame) == 60
    assert f"every row is a run of its own by ID, so rows of a cell are repeats, though {step}" in (
        " ".join(read(frame).notes)
    )


@pytest.mark.parametrize("names", ["{row}", "lr/checkpoint-{step}-{row}"])
def test_row_numbers_and_checkpoints_are_no_runs(sweep, read, names):
    frame = both(sweep, "step", (100, 200, 300))
    named = [names.format(row=row, step=step) for row, step in enumerate(frame.step)]
    with pytest.raises(load.ResultsError, match="--last step"):
        read(frame.assign(ID=named))
    assert len(read(frame.assign(ID=named), last="step").frame) == 20


def test_a_measured_column_is_no_setting(sweep, read):
    frame = pd.concat([sweep, sweep.assign(**{"eval/loss": sweep["eval/loss"] + 0.01})])
    measured = frame.assign(drift=[0.001 * place**2 for place in range(40)])
    assert read(measured).frame.key.nunique() == 40


def test_a_crashed_run_and_its_rerun(sweep, read):
    frame = sweep.assign(seed=0, State="finished")
    crashed = frame.iloc[[9]].assign(State="crashed", **{"eval/loss": 3.2})
    table = read(pd.concat([frame.iloc[:9], crashed, frame.iloc[9:]]))
    assert len(table.frame) == 20 and (table.frame.status == "ok").all()
    assert any(
        "(crashed) beside a finished run" in note and "row 10" in note for note in table.notes
    )
    alone = read(pd.concat([frame.drop(9), crashed])).frame
    assert (alone.status == "failed").sum() == 1, "nothing finished there"


def test_two_results_of_one_seed_are_a_question(sweep, read):
    frame = pd.concat([sweep, sweep.assign(**{"eval/loss": sweep["eval/loss"] + 0.01})])
    with pytest.raises(load.ResultsError, match=r"rows 1, 21 have the same .* and seed"):
        read(frame.assign(seed=42))
    assert read(frame.assign(seed=42), columns={"seed": ""}).frame.key.nunique() == 40
    again = read(pd.concat([sweep, sweep]).assign(seed=42))
    assert len(again.frame) == 20
    assert "20 rows repeated with the same results: left out" in again.notes


def test_empty_seeds_are_seeds_of_their_own(sweep, read):
    table = read(both(sweep, "seed", (0, 1, ""), shift=0.01)).frame
    assert set(table.seed.dropna()) == {0, 1} and table.seed.isna().sum() == 20
    assert table.key.nunique() == 60


def test_order_of_repeats_without_a_seed_says_nothing_of_their_noise(sweep, read):
    """Sorted by score, the first row of every cell is its best: that is no effect of a seed."""
    noise = 0.02 * np.random.default_rng(1).standard_normal(60)
    three = pd.concat([sweep] * 3, ignore_index=True)
    three["eval/loss"] += noise
    (cells,) = surfaces(read(three.sort_values("eval/loss")).frame)
    assert cells.seed_sd == pytest.approx(0.02, rel=0.2)


def test_table_pasted_twice_counts_once_but_a_repeat_may_agree_by_rounding(sweep, read):
    twice = read(pd.concat([sweep, sweep], ignore_index=True))
    assert len(twice.frame) == 20
    assert any("20 rows left out" in note for note in twice.notes)
    assert len(read(pd.concat([sweep, sweep[:1]], ignore_index=True)).frame) == 21


def test_diverged_rows_without_a_metric_make_no_second_surface(sweep, read):
    long = sweep.rename(columns={"eval/loss": "value"}).assign(benchmark="qa", metric="acc")
    diverged = pd.DataFrame(
        {"learning_rate": [1e-2], "batch_size": [8], "status": "diverged", "benchmark": "qa"}
    )
    for rows in (diverged, diverged.drop(columns="benchmark")):
        frame = read(pd.concat([long.assign(status="ok"), rows])).frame
        assert set(frame.metric) == {"acc"} and set(frame.benchmark) == {"qa"}
        assert (frame.status == "diverged").sum() == 1


def test_a_column_that_says_diverged(sweep, read):
    frame = read(sweep.assign(diverged=[True] + [False] * 19)).frame
    assert frame.status.value_counts().to_dict() == {"ok": 19, "diverged": 1}


def test_a_batch_size_by_another_name_is_offered(sweep, read):
    with pytest.raises(load.ResultsError, match="--columns batch_size=batch_in_tokens"):
        read(sweep.rename(columns={"batch_size": "batch_in_tokens"}))


def test_step_laws_variants_of_one_size_are_no_seeds(sweep, read):
    law = sweep.rename(columns={"learning_rate": "lr", "batch_size": "bs", "eval/loss": "loss"})
    law = law.assign(**{"smooth loss": law.loss, "N": 2.15e9, "D": 2e10, "D/N": 9.3, "ti": 1000})
    names = [f"moe_{n}" for n in range(40)]
    table = pd.concat([law.assign(top_k=1, Na=2e8), law.assign(top_k=4, Na=5e8)])
    with pytest.raises(load.ResultsError, match="top_k and Na differ within a cell"):
        read(table.assign(exp_name=names))
    arms = read(table.assign(exp_name=names), by=("top_k",)).frame.arm.unique()
    assert list(arms) == ["2150M, 20B tokens, top_k=1", "2150M, 20B tokens, top_k=4"]
