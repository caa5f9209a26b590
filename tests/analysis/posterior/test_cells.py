from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.fit.optimum import tolerance
from analysis.posterior.cells import surfaces
from analysis.tables import load
from analysis.tables.records import run_table
from tests.analysis.planted import bowl, table


def test_one_surface_per_benchmark_of_a_grid_only(planted_run: Path) -> None:
    found = surfaces(load.read(planted_run))
    assert [(one.stage, len(one.table)) for one in found] == [("sft", 19)] * 5


def test_cells_not_ok_carry_no_number(planted_run: Path) -> None:
    cells = surfaces(load.read(planted_run), run_table.items(planted_run))[0]
    assert cells.table.value[~cells.ok].isna().all()
    assert not cells.noise[:, ~cells.ok].any()


def test_a_cell_with_one_diverged_seed_is_diverged() -> None:
    frame = table(bowl, seeds=3)
    frame.loc[0, ["status", "reason"]] = ["diverged", "nan"]
    frame.loc[0, "value"] = np.nan
    cells = surfaces(frame)[0]
    assert cells.table.status[0] == "diverged" and np.isnan(cells.table.value[0])
    assert (cells.table.status[1:] == "ok").all()


def test_paired_difference_is_that_of_the_items(planted_run: Path) -> None:
    items = run_table.items(planted_run)
    cells = surfaces(load.read(planted_run), items)[0]
    frame = load.read(planted_run).query("stage == 'sft' and benchmark == 'world_choice'")
    keys = list(frame.key)
    answers = items[items.benchmark == "world_choice"].pivot(
        index="item", columns="key", values="value"
    )
    gap = answers[keys[0]] - answers[keys[8]]
    difference, stderr = cells.difference(0, 8)
    assert difference == pytest.approx(gap.mean())
    assert stderr == pytest.approx(gap.std() / len(gap) ** 0.5, rel=0.1)
    assert cells.paired


def test_seed_noise_is_recovered_and_unknown_without_repeats() -> None:
    assert surfaces(table(bowl, seeds=6, noise=0.02))[0].seed_sd == pytest.approx(0.02, rel=0.25)
    assert surfaces(table(bowl))[0].seed_sd is None


def test_what_a_seed_does_to_all_cells_is_not_noise() -> None:
    frame = table(bowl, seeds=2)
    shifted = frame.assign(value=frame.value + 0.1 * frame.seed.astype(float))
    assert surfaces(shifted)[0].seed_sd == pytest.approx(0, abs=1e-9)


def test_what_a_seed_does_to_all_cells_is_noise_between_cells_of_unlike_seeds() -> None:
    """Four of the 20 cells have a second seed, which lifts all of them by 0.2."""
    frame = table(bowl, seeds=2, noise=0.001)
    shifted = frame.assign(value=frame.value + 0.2 * frame.seed.astype(float))
    cells = surfaces(shifted[(shifted.seed == 0) | (shifted.learning_rate == 1e-3)])[0]
    repeated = (cells.table.seeds == 2).to_numpy()
    assert cells.seed_sd is not None and cells.seed_sd < 0.002
    lone, both = np.flatnonzero(~repeated), np.flatnonzero(repeated)
    assert cells.difference(lone[0], lone[1])[1] < 0.005
    assert cells.difference(both[0], both[1])[1] < 0.005
    assert cells.difference(lone[0], both[0])[1] > 0.05


def test_seeds_of_the_parents_make_runs_of_their_own() -> None:
    """What one seed does to the models of one parent, it does not do to those of another."""
    one, other = table(bowl, seeds=2, noise=0.01), table(bowl, seeds=3, noise=0.01)
    other = other[other.seed < 2].assign(key=other.key + "b", parent="b")
    apart = surfaces(pd.concat([one.assign(parent="a"), other]))[0]
    own = other.assign(seed=other.seed + 2)
    assert apart.seed_sd == surfaces(pd.concat([one, own.assign(parent="")]))[0].seed_sd


def test_no_hit_among_few_items_is_not_certainty() -> None:
    frame = table(lambda x, y: np.zeros_like(x)).assign(stderr=0.0, n=pd.array([50] * 20))
    assert (surfaces(frame)[0].table.stderr > 0.01).all()


def test_a_missing_standard_error_is_the_median_of_the_others_and_is_told() -> None:
    frame = table(bowl, seeds=2, noise=0.01)
    frame.loc[0, "stderr"] = np.nan
    one_seed = surfaces(frame)[0]
    assert "median" not in one_seed.noise_source  # its other seed has one
    frame.loc[1, "stderr"] = np.nan
    cells = surfaces(frame)[0]
    assert "cell's standard error" in cells.noise_source
    assert "(1 cell without one: the median)" in cells.noise_source
    assert cells.table.stderr.min() > 0.0095


def test_best_follows_the_direction_of_the_metric() -> None:
    up = surfaces(table(bowl))[0]
    down = surfaces(table(lambda x, y: -bowl(x, y), metric="loss"))[0]
    assert up.best == down.best is not None
    assert not down.higher_is_better


@pytest.mark.parametrize(
    ("benchmark", "metric", "is_loss"),
    [
        ("wer", "value", False),
        ("arc", "error_rate", False),
        ("heldout_loss", "loss", True),
        ("wikitext", "word_perplexity", True),
        ("mean_squared_error", "value", True),
        ("ce", "value", True),
    ],
)
def test_an_error_rate_is_no_loss(benchmark: str, metric: str, is_loss: bool) -> None:
    frame = table(lambda x, y: 1.05 - bowl(x, y), benchmark=benchmark, metric=metric)
    cells = surfaces(frame.assign(higher_is_better=False))[0]
    assert cells.is_loss is is_loss
    higher = surfaces(frame.assign(higher_is_better=True))[0]
    assert not higher.is_loss


def test_an_error_rate_is_judged_as_its_accuracy() -> None:
    right = table(bowl, noise=0.01)
    wrong = right.assign(value=1 - right.value, metric="error_rate", higher_is_better=False)
    found = tolerance(surfaces(wrong)[0])
    assert found == pytest.approx(tolerance(surfaces(right)[0]), rel=0.05)
    nothing = wrong.assign(value=0.0, stderr=np.nan)
    assert tolerance(surfaces(nothing)[0]) > 0


@pytest.mark.parametrize("seed", range(8))
def test_items_that_are_all_alike_leave_numbers(seed: int) -> None:
    """Rounding may make their scatter a little less than none."""
    rng = np.random.default_rng(seed)
    frame = table(bowl).assign(value=lambda rows: rng.random(len(rows)), stderr=0.0)
    alike = [
        frame[["key", "benchmark", "metric", "value"]].assign(item=str(item)) for item in range(40)
    ]
    cells = surfaces(frame, pd.concat(alike, ignore_index=True))[0]
    assert cells.paired
    assert np.isfinite(cells.own_noise).all()
