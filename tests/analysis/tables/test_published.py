"""The paper's numbers, read through the schema."""

import pytest

from analysis.tables import load, published
from analysis.tables.schema import COLUMNS


def test_scores_of_the_paper_are_fractions_at_their_settings() -> None:
    frame = load.read("published:smoltulu")
    assert list(frame) == list(COLUMNS)
    one = frame[(frame.key == "SmolTulu SFT-1130") & (frame.benchmark == "gsm8k")].iloc[0]
    assert (one.value, one.learning_rate, one.batch_size) == (0.49, 9e-5, 8)
    assert one.lr_bs_ratio == pytest.approx(11.25e-6)
    assert len(frame) == 7 * 7 + 6 * 3
    assert frame[frame.stage == "others"].learning_rate.isna().all()


@pytest.mark.parametrize(
    ("stage", "ratios"),
    [
        ("sft", [11.25e-6, 0.097e-6, 0.039e-6, 0.016e-6]),
        ("dpo", [0.667e-7, 0.156e-7, 0.039e-7, 0.016e-7]),
        ("reward", [100e-7, 0.938e-7, 0.117e-7]),
    ],
)
def test_ratios_of_the_settings_are_those_the_paper_prints(stage: str, ratios: list) -> None:
    """Tables 2, 5 and 7 print LR/BS beside the two; the last of 7 is Tulu 3's own."""
    found = [one.learning_rate / one.batch_size for one in published.of_stage(stage)]
    assert found == pytest.approx(ratios, rel=0.03)


def test_every_published_score_of_a_recipe_has_that_recipe() -> None:
    frame = published.table("smoltulu")
    assert set(frame.key[frame.learning_rate.notna()]) < {one.name for one in published.settings()}


def test_a_table_nobody_published_is_refused() -> None:
    with pytest.raises(load.ResultsError, match="use one of published:smoltulu"):
        load.read("published:smolgulu")
