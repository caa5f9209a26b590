"""Where the first cells of a run that decides lie, and what is refused as a source of that."""

import math
import shutil

import pytest

from sweep.gridfile.load import GridError
from sweep.plan import starting_points
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
