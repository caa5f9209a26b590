"""A third axis: planted shifts of the best learning rate and of the best score are found again."""

import numpy as np
import pandas as pd
import pytest

from analysis.advice.advise import advise
from analysis.compare.axis_places import places
from analysis.compare.setting_axes import SettingAxis, setting_axes
from analysis.compare.source import Source
from analysis.fit.optimum import LEVELS
from analysis.fit.surface import fit
from analysis.posterior.cells import surfaces
from analysis.report.words import axis_sentences
from tests.analysis import planted

RATES = tuple(float(rate) for rate in np.geomspace(1e-4, 1.6e-2, 7))


def ranked(shift: float, gain: float, sizes=(8,), noise=0.004) -> pd.DataFrame:
    """Ranks 4, 16 and 64: with each doubling the best rate moves by `shift` octaves and the best
    score by `gain`."""
    parts = []
    for order, rank in enumerate((4, 16, 64)):

        def score(x, y, order=order):
            top = -9.5 + 2 * shift * (order - 1)
            return 0.6 + 2 * gain * order - 0.02 * (x - top) ** 2 - 0.01 * (y - 3) ** 2

        table = planted.table(score, rates=RATES, sizes=sizes, noise=noise)
        parts.append(
            table.assign(
                arm=f"adapter.rank={rank}", key=[f"{rank}-{key}" for key in table.key],
                optimizer="adamw", adapter="lora", **{"adapter.rank": float(rank)},
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def axes(frame: pd.DataFrame) -> list[SettingAxis]:
    source = Source("planted", frame, None, None, {})
    return setting_axes(source, advise([fit(cells) for cells in surfaces(frame)], None, frame))


def test_a_best_rate_that_falls_with_the_rank_is_found():
    (axis,) = axes(ranked(shift=-0.5, gain=0.0))
    assert (axis.name, axis.values) == ("adapter.rank", ("4", "16", "64"))
    (on,) = axis.benchmarks
    assert on.moves and on.slope is not None
    assert on.slope.low < -0.5 < on.slope.high < 0
    shift = on.values[2].shift
    assert shift is not None and shift[1] < -2 < shift[2]
    first, last = (one.fit.curves for one in (on.values[0], on.values[2]))
    assert first is not None and last is not None
    shuffled = np.random.default_rng(0).permuted(first.tops[:, 0])
    alone = np.ptp(np.quantile(last.tops[:, 0] - shuffled, LEVELS))
    assert shift[2] - shift[1] > alone, "of two comparisons either must hold"
    text = axis_sentences.sentences(axis, on)[0]
    assert "the best learning rate falls by 0." in text
    assert "octaves for each doubling of adapter.rank" in text


def test_a_best_rate_that_stays_is_not_said_to_move():
    (axis,) = axes(ranked(shift=0.0, gain=0.02, sizes=(4, 8, 16)))
    (on,) = axis.benchmarks
    assert on.moves is False and on.slope is not None
    assert on.slope.low <= 0 <= on.slope.high
    assert on.as_good == ("64",)
    compared = on.values[2].difference
    assert compared is not None and compared.apart
    assert compared.difference.gain == pytest.approx(0.08, abs=0.02)
    first, *rest = axis_sentences.sentences(axis, on)
    assert "the best is adapter.rank 64 (probability" in first
    assert "does not move with it beyond noise" in first
    assert any("the best of adapter.rank 64 is 7" in line or "is 8" in line for line in rest)


def test_values_that_score_alike_leave_the_best_open():
    (axis,) = axes(ranked(shift=0.0, gain=0.0))
    (on,) = axis.benchmarks
    assert set(on.as_good) == {"4", "16", "64"}
    assert "which is best is open" in axis_sentences.best_value(axis, on)


def test_a_best_rate_at_the_edge_is_named_and_not_compared():
    (axis,) = axes(ranked(shift=-3.0, gain=0.0))
    (on,) = axis.benchmarks
    assert on.moves is None and on.slope is None
    assert "is open, as it is not placed inside the measured rates for adapter.rank" in (
        axis_sentences.moves(axis, on)
    )


def test_losses_against_unlike_references_are_not_compared():
    frame = ranked(shift=-0.5, gain=0.01).drop(columns="adapter.rank")
    frame = frame.loc[frame.arm != "adapter.rank=16"]
    frame = frame.assign(
        benchmark="heldout_loss", metric="loss", value=1 - frame.value, higher_is_better=False
    )
    parents = frame.arm.str.replace("adapter.rank", "parent")
    frame = frame.assign(arm=parents, parent=parents, **{"set.parent": parents})
    (axis,) = axes(frame.assign(stage="dpo"))
    assert axis.benchmarks == ()
    (note,) = axis_sentences.notes(axis)
    assert note.startswith("Held-out loss: not compared, as each is relative to the model")


def test_full_tuning_against_lora_as_arms():
    frame = ranked(shift=-1.0, gain=0.01)
    frame = frame.loc[frame["adapter.rank"] != 16]
    full = frame.arm == "adapter.rank=64"
    frame = frame.assign(
        arm=np.where(full, "full", "lora"), adapter=np.where(full, "", "lora"),
        **{"set.arm": np.where(full, "full", "lora")},
    )  # fmt: skip
    (axis,) = axes(frame)
    assert (axis.name, axis.values) == ("arm", ("lora", "full"))
    (on,) = axis.benchmarks
    line, difference = axis_sentences.sentences(axis, on)
    assert "with full 4." in line or "with full 3." in line
    assert "octaves lower" in line and "against lora" in line
    assert "between the best of lora" in difference or "the best of full" in difference


def test_value_without_scores_is_left_out_and_told():
    frame = ranked(shift=-0.5, gain=0.0)
    lost = (frame.arm == "adapter.rank=4") & (frame.learning_rate > 2e-4)
    frame.loc[lost, ["status", "reason"]] = ["failed", "out of memory"]
    frame.loc[lost, "value"] = np.nan
    (axis,) = axes(frame)
    (on,) = axis.benchmarks
    assert [one.value for one in on.values] == ["16", "64"] and on.left_out == ("4",)
    assert (
        "Fewer than two cells of adapter.rank 4 have a score on ARC: left out here."
        in axis_sentences.sentences(axis, on)
    )


def rows(**settings) -> pd.DataFrame:
    count = len(next(iter(settings.values())))
    return pd.DataFrame({"arm": [str(n) for n in range(count)], **settings})


def test_two_settings_are_axes_with_the_other_held():
    table = rows(**{"adapter.rank": [4.0, 4.0, 16.0, 16.0], "weight_decay": [0.0, 0.1, 0.0, 0.1]})
    found = places(table, list(table.arm))
    assert [(one.name, one.held, one.arms) for one in found] == [
        ("adapter.rank", "weight_decay 0", ("0", "2")),
        ("adapter.rank", "weight_decay 0.1", ("1", "3")),
        ("weight_decay", "adapter.rank 4", ("0", "1")),
        ("weight_decay", "adapter.rank 16", ("2", "3")),
    ]


def test_numbers_stand_in_order_and_words_as_they_come():
    (one,) = places(rows(**{"set.epochs": [4.0, 1.0, 2.0]}), ["0", "1", "2"])
    assert (one.name, one.values) == ("epochs", ("1", "2", "4"))
    (one,) = places(rows(optimizer=["sgd", "adamw"]), ["0", "1"])
    assert (one.name, one.values, one.numbers) == ("optimizer", ("sgd", "adamw"), None)


def test_settings_that_hang_on_the_arm_or_on_each_other_are_one_axis():
    table = rows(**{"set.arm": ["sgd", "lion"], "optimizer": ["sgd", "lion"]})
    assert [one.name for one in places(table, ["0", "1"])] == ["arm"]
    table = rows(**{"rank": [1.0, 2.0], "alpha": [2.0, 4.0]})
    assert [one.name for one in places(table, ["0", "1"])] == ["rank"]
    assert places(rows(rank=[1.0]), ["0"]) == []


def test_of_different_models_none_is_the_best_and_many_are_grouped():
    parts = []
    for order in range(6):

        def score(x, y, order=order):
            return 0.6 + 0.05 * order - 0.02 * (x + 9.5 + 2 * (order == 5)) ** 2

        table = planted.table(score, rates=RATES, sizes=(4, 8), noise=0.002)
        size = 100 * (order + 1)
        named = {"arm": f"{size}M", "model_parameters": size * 10**6}
        parts.append(table.assign(**named, key=[f"{size}-{key}" for key in table.key]))
    (axis,) = axes(pd.concat(parts, ignore_index=True))
    (on,) = axis.benchmarks
    (line,) = axis_sentences.sentences(axis, on)
    assert "the best is" not in line
    assert "against 100M" in line
    assert "octaves lower with 600M" in line
    assert "no different beyond noise with the other 4" in line
