"""Columns that only a seed tells apart are one score; those told apart by a number may not be."""

import numpy as np
import pytest


def by_seed(sweep, form: str, seeds=(0, 1, 2)):
    columns = {form.format(seed): sweep["eval/loss"] + 0.01 * n for n, seed in enumerate(seeds)}
    return sweep.drop(columns="eval/loss").assign(**columns)


@pytest.mark.parametrize(
    ("form", "score", "seeds"),
    [
        ("loss_s{}", "loss", (0, 1, 2)),
        ("eval/loss_seed{}", "loss", (42, 43, 1337)),
        ("eval_loss (seed {})", "eval_loss", (0, 1, 2)),
        ("loss_run_{}", "loss", (1, 2, 3)),
        ("loss/rep{}", "loss", (1, 2, 3)),
    ],
)
def test_seeds_across_the_columns_are_runs(sweep, read, form, score, seeds):
    table = read(by_seed(sweep, form, seeds))
    assert set(table.frame.benchmark) == {score} and set(table.frame.seed) == set(seeds)
    assert len(table.frame) == table.frame.key.nunique() == 60
    first = table.frame[table.frame.seed == seeds[0]]
    assert list(first.value) == list(sweep["eval/loss"])
    assert any("a seed each: lower is better" in note for note in table.notes)


def test_a_mean_of_seeds_counts_once_and_an_empty_cell_is_no_run(sweep, read):
    wide = by_seed(sweep, "loss_seed{}").assign(loss_mean=2.0, gsm8k=np.linspace(0.1, 0.3, 20))
    wide.loc[0, ["loss_seed1", "loss_seed2"]] = np.nan
    wide.loc[1, ["loss_seed0", "loss_seed1", "loss_seed2"]] = np.nan
    table = read(wide)
    loss = table.frame[table.frame.benchmark == "loss"]
    assert loss.groupby(["learning_rate", "batch_size"]).size().tolist() == [1, 1, *[3] * 18]
    assert (loss.status == "failed").sum() == 1
    gsm8k = table.frame[table.frame.benchmark == "gsm8k"]
    assert len(gsm8k) == 20 and not set(gsm8k.key) & set(loss.key)
    assert "not used: loss_mean (computed from the seeds beside it)" in table.notes


def test_what_a_number_tells_apart_stays_apart_and_is_told(sweep, read):
    table = read(by_seed(sweep, "loss_{}", (1, 2, 3)))
    assert set(table.frame.benchmark) == {"loss_1", "loss_2", "loss_3"}
    assert any("if they are one score of several seeds" in note for note in table.notes)


@pytest.mark.parametrize(
    ("form", "numbers"), [("bleu_{}", (1, 2, 3)), ("acc@{}", (1, 5)), ("acc_s{}", (0, 5)),
                          ("loss_{}", (0, 5)), ("top_{}", (1, 2))]
)  # fmt: skip
def test_numbers_of_a_metric_are_no_seeds(sweep, read, form, numbers):
    table = read(by_seed(sweep, form, numbers))
    assert set(table.frame.benchmark) == {form.format(number) for number in numbers}
    assert not any("seed" in note for note in table.notes)


def test_a_table_with_a_column_of_seeds_has_none_across(sweep, read):
    table = read(by_seed(sweep, "loss_s{}").assign(seed=1))
    assert set(table.frame.benchmark) == {"loss_s0", "loss_s1", "loss_s2"}
