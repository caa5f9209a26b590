"""Where the first cells of a run that decides lie, and what is refused as a source of that."""

import math
import shutil

import pytest

from sweep.gridfile.load import GridError
from sweep.plan import starting_points
from sweep.plan import trials as plan
from sweep.resolve.resolve import CannotStart
from tests.sweep.schedule.pools.deciding import DECIDE, Records, bowl, cells


@pytest.fixture
def records(load, tmp_path):
    return lambda name, *overrides: Records(load(DECIDE, *overrides), tmp_path / name)


def octaves(rates: list[float], middle: float) -> float:
    return max(abs(math.log2(rate / middle)) for rate in rates)


def test_published_rates_follow_the_models_size_and_the_root_of_the_batch(records):
    pool = records("run", "decide.prior=published").pool()
    rates = pool.expected.rates
    assert rates[16] / rates[4] == pytest.approx(2)
    tiny = starting_points.centre("sft", 1.0e6)
    assert octaves([rates[16]], tiny.learning_rate) < 0.3  # its middle batch size is 16
    assert "arXiv 2412.08347" in pool.expected.source


def test_an_earlier_run_says_once_where_to_begin(records, tmp_path):
    earlier = records("earlier")
    earlier.run(earlier.queue(earlier.pool()), count=2 + 12)
    later = records("later", f"decide.prior={tmp_path / 'earlier'}")
    pool = later.pool()
    shutil.rmtree(tmp_path / "earlier")
    assert later.pool().expected == pool.expected  # it stands, whatever becomes of that run
    assert octaves(list(pool.expected.rates.values()), 0.004) < 1
    ran = later.run(later.queue(pool), count=2 + 9)
    assert octaves([rate for rate, _, _ in cells(ran)], 0.004) <= 3.5
    assert any("about the rates of run" in reason for reason in later.reasons.values())
    assert bowl(ran[-1]) > 0.1


def ran(grid, folder, full) -> Records:
    """A run of the cells of its grid, with one seed."""
    run = Records(grid, folder, full=full)
    own = {
        trial.key for trial in plan.trials(grid) if trial.stage == "sft" and trial.spec.seed == 3
    }
    trials = [trial for trial in run.planned if trial.key in own]
    run.folder.write_plan(grid, trials)
    for trial in trials:
        run.end(trial)
    return run


def best_at(rate: float):
    return lambda trial: 0.6 - 0.03 * math.log2(trial.spec.learning_rate / rate) ** 2


@pytest.fixture
def edited(load, tmp_path):
    """A run whose grid file was edited: it trained for two epochs before, with other best rates."""
    longer = DECIDE.replace("examples: 200}", "examples: 200}\n    epochs: 2")
    file = tmp_path / "earlier" / "plan.csv"
    ran(load(longer), tmp_path / "earlier", best_at(0.002))
    before = file.read_text().splitlines(keepends=True)[1:]
    ran(load(DECIDE), tmp_path / "earlier", best_at(0.01))
    return file, "".join(before)


def test_of_an_edited_run_the_cells_of_its_plan_say_where_to_begin(edited, records):
    file, _ = edited
    expected = records("later", f"decide.prior={file.parent}").pool().expected
    assert octaves(list(expected.rates.values()), 0.01) < 0.7
    assert expected.source == f"run {file.parent} (tiny; World choice)"


def test_a_run_of_several_grids_is_refused(edited, records):
    file, before = edited
    file.write_text(file.read_text() + before)
    with pytest.raises(CannotStart, match=r"several grids \(SFT.*give a run of one grid, or none"):
        records("later", f"decide.prior={file.parent}").pool()


def test_a_run_whose_scores_do_not_differ_is_refused(load, records, tmp_path):
    def level(trial) -> float:
        return 0.4 + bowl(trial) % 0.004

    ran(load(DECIDE), tmp_path / "earlier", level)
    with pytest.raises(CannotStart, match=r"do not differ beyond noise \(World choice\)"):
        records("later", f"decide.prior={tmp_path / 'earlier'}").pool()


def test_published_rates_are_looked_up_anew_for_another_model(records):
    names = "HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-1.7B"
    small, large = (
        records("run", "decide.prior=published", f"model={name}").pool().expected for name in names
    )
    assert math.log2(small.rates[16] / large.rates[16]) > 2
    assert "at 135 M parameters by Step Law" in small.source


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["decide.prior=nowhere"], "no run folder 'nowhere'"),
        (
            ["decide.prior=published", "stages.sft.optimizer=sgd"],
            "of AdamW on all weights, not of optimizer sgd; use none",
        ),
        (["decide.prior=published", "stages.sft.adapter={rank: 4}"], "not of an adapter; use none"),
    ],
)
def test_a_prior_that_says_nothing_here_is_refused(load, settings, problem):
    with pytest.raises(GridError, match=problem):
        load(DECIDE, *settings)


def test_a_run_of_other_stages_is_refused(records, tmp_path):
    earlier = records("earlier")
    earlier.run(earlier.queue(earlier.pool()), count=2 + 9)
    other = DECIDE.replace("  sft:", "  tuned:")
    with pytest.raises(CannotStart, match=r"no results of a stage 'tuned'.*give another run"):
        Records(_load(other, tmp_path), tmp_path / "later").pool()


def _load(text, tmp_path):
    from sweep.gridfile import load as gridfile

    file = tmp_path / "tuned.yaml"
    file.write_text(text)
    return gridfile.load(file, [f"decide.prior={tmp_path / 'earlier'}"])
