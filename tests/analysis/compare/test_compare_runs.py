"""Best scores and optima of two runs, on planted surfaces."""

import numpy as np
import pandas as pd
import pytest

from analysis.advice.advise import Advice, advise
from analysis.compare import compare_runs, compare_scores
from analysis.compare.score_difference import Scored, ScoreDifference, score_difference
from analysis.compare.source import Source
from analysis.fit.surface import Fit, fit
from analysis.posterior.cells import surfaces
from analysis.posterior.seed_noise import SeedNoise
from tests.analysis.planted import bowl, table


def moved(octaves: float) -> list[Fit]:
    """A bowl whose best learning rate, hence ratio, is higher by so many octaves."""
    frame = table(lambda x, y: bowl(x - octaves, y), noise=0.002, seeds=2)
    return [fit(cells) for cells in surfaces(frame)]


@pytest.fixture(scope="module")
def here() -> list[Fit]:
    return moved(0)


def test_a_planted_difference_is_found_with_its_sign(here: list[Fit]) -> None:
    (found,) = compare_runs.differences({"small": here, "large": moved(1.5)})
    assert found.ratio is not None and found.learning_rate and found.probability is not None
    middle, low, high = found.ratio
    assert low < 1.5 < high and low > 0 and middle == pytest.approx(1.5, abs=0.4)
    assert found.learning_rate[0] == pytest.approx(1.5, abs=0.4)
    assert found.probability > 0.99
    assert "large" in found.sentence and "octaves above that of small" in found.sentence


def test_the_same_surface_is_no_difference(here: list[Fit]) -> None:
    (found,) = compare_runs.differences({"a": here, "b": moved(0)})
    assert found.ratio is not None and found.ratio[1] < 0 < found.ratio[2]


def test_an_undecided_run_is_named_with_its_reason(here: list[Fit]) -> None:
    flat = table(lambda x, y: np.zeros_like(x), noise=0.01, seeds=2)
    other = [fit(cells) for cells in surfaces(flat)]
    (found,) = compare_runs.differences({"a": here, "b": other})
    assert found.ratio is None and found.probability is None
    assert "b is undecided (" in found.sentence and "a is undecided" not in found.sentence


def test_every_pair_of_three_runs_and_nothing_without_a_common_benchmark(here: list[Fit]) -> None:
    found = compare_runs.differences({"a": here, "b": here, "c": here})
    assert len(found) == 3
    other = [fit(cells) for cells in surfaces(table(bowl, benchmark="gsm8k", noise=0.002))]
    assert compare_runs.differences({"a": here, "b": other}) == []


def run(name: str, correct: float, items: int = 200) -> tuple[Source, list[Advice]]:
    """A run whose cells all answer the same items; `correct` is the share at its best cell."""
    frame = table(lambda x, y: bowl(x, y) - 0.6 + correct).assign(stage="sft")
    frame["key"] = [f"{name}{row}" for row in range(len(frame))]
    hard = np.random.default_rng(0).random(items)
    rows = [
        pd.DataFrame(
            {
                "key": key, "benchmark": "arc", "metric": "acc", "item": np.arange(items),
                "value": (hard < value).astype(float),
            }
        )
        for key, value in zip(frame.key, frame.value, strict=True)
    ]  # fmt: skip
    answered = pd.concat(rows)
    frame["value"] = answered.groupby("key").value.mean().reindex(frame.key).to_numpy()
    frame["stderr"] = 0.035
    source = Source(name, frame, None, answered, {})
    return source, advise(fit(cells) for cells in surfaces(frame, answered))


def test_best_scores_are_compared_paired_by_items() -> None:
    """5 points apart on 200 items: nothing for independent samples, plain for the same items."""
    found = compare_runs.compare({"a": run("a", 0.60), "b": run("b", 0.66)})
    (row,) = found.scores
    difference = row.difference
    assert difference.items == 200 and difference.gain == pytest.approx(0.06, abs=0.02)
    assert difference.stderr is not None and difference.stderr < 0.5 * np.hypot(0.035, 0.035)
    assert row.apart and "the best of b beats that of a on ARC" in found.headline
    assert "paired over 200 items" in row.sentence


def test_of_runs_with_unlike_items_the_shared_ones_are_compared() -> None:
    """The first 100 items are the hard ones, and one run answered these alone."""
    (source, _), (other, advice) = run("a", 0.66), run("b", 0.66)
    assert source.items is not None and other.items is not None
    hard = source.items.loc[source.items.item < 100].assign(
        value=lambda items: items.value * (items.item % 2)
    )
    frame = source.frame.assign(
        value=hard.groupby("key").value.mean().reindex(source.frame.key).to_numpy()
    )
    items = pd.concat(
        [other.items.loc[other.items.item >= 100], hard.assign(key=hard.key.str.replace("a", "b"))]
    )
    first = (Source("a", frame, None, hard, {}), advise(fit(c) for c in surfaces(frame, hard)))
    second = (Source("b", other.frame, None, items, {}), advice)
    (row,) = compare_runs.compare({"a": first, "b": second}).scores
    assert row.difference.items == 100 and row.difference.gain == pytest.approx(0, abs=1e-9)
    assert "on the 100 items that both answered, of 100 and 200" in row.sentence


def test_of_three_runs_the_pair_that_does_not_differ_is_named() -> None:
    runs = {name: run(name, best) for name, best in (("a", 0.66), ("b", 0.60), ("c", 0.66))}
    assert compare_runs.compare(runs).headline == (
        "Between these runs the best of a beats that of b on ARC; the best of c beats that of b on "
        "ARC; no difference beyond noise between a and c on ARC."
    )


@pytest.mark.parametrize(
    ("stderr", "gain", "texts"),
    [
        (0.0004, 0.0012, ("2.3412", "2.3400")),
        (None, 0.0012, ("2.3412", "2.3400")),
        (0.01, 0.0012, ("2.341", "2.340")),
    ],
)
def test_losses_have_the_digits_that_tell_them_apart(stderr, gain, texts) -> None:
    assert ScoreDifference(2.3412, 2.34, gain, stderr, 0).texts == texts


def test_equal_best_scores_are_no_difference() -> None:
    found = compare_runs.compare({"a": run("a", 0.60), "b": run("b", 0.60)})
    assert not found.scores[0].apart
    assert "no difference beyond noise on ARC" in found.headline
    assert "score alike (0.550 against 0.550; paired over 200 items)" in found.scores[0].sentence


def test_difference_without_a_standard_error_is_not_called_noise() -> None:
    def bare(name: str, value: float) -> tuple[Source, list[Advice]]:
        source, _ = run(name, value)
        frame = source.frame.assign(stderr=float("nan"))
        return Source(name, frame, None, None, {}), advise(map(fit, surfaces(frame)))

    found = compare_runs.compare({"a": bare("a", 0.60), "b": bare("b", 0.66)})
    assert found.headline.endswith("no standard error to judge by, on ARC.")


def compared(**runs: dict[tuple[str, str], float]) -> compare_runs.Comparison:
    """Of the best scores of runs with a grid for each stage and arm."""
    sources = {}
    for name, correct in runs.items():
        parts = [
            table(lambda x, y, best=best: bowl(x, y) - 0.6 + best, noise=0.001).assign(
                stage=stage, arm=arm
            )
            for (stage, arm), best in correct.items()
        ]
        frame = pd.concat(parts, ignore_index=True)
        frame["key"] = [f"{name}{row}" for row in range(len(frame))]
        sources[name] = (Source(name, frame, None, None, {}), surfaces(frame))
    alone = compare_scores.without_counterpart({name: its for name, (_, its) in sources.items()})
    return compare_runs.Comparison(compare_scores.compare_scores(sources), [], alone)


def test_stages_of_two_runs_are_named_and_those_of_one_alone_are_told() -> None:
    found = compared(
        a={("sft", ""): 0.6, ("dpo", ""): 0.7, ("rlvr", ""): 0.7},
        b={("sft", ""): 0.7, ("dpo", ""): 0.6},
    )
    assert "the best of b beats that of a on ARC in SFT;" in found.headline
    assert "the best of a beats that of b on ARC in DPO;" in found.headline
    assert found.headline.endswith("not compared, for no other run has it: RLVR of a.")
    assert found.scores[1].sentence.startswith("ARC in DPO: the best of a is")


def test_runs_whose_arms_have_no_counterpart_are_not_said_to_share_nothing() -> None:
    found = compared(a={("sft", "lora"): 0.6, ("sft", "full"): 0.7}, b={("sft", ""): 0.6})
    assert found.headline == (
        "No stage and arm stands in two of these runs, so none is compared: "
        "SFT (full) of a, SFT (lora) of a and SFT of b."
    )


def test_repeated_seeds_judge_where_no_score_has_an_error() -> None:
    frame = table(bowl, noise=0.002, seeds=2).assign(stderr=np.nan)
    seeds = SeedNoise(0.01, np.full(20, 0.01), 20, 0.0, 0.01, 20.0, 0.0)
    keys = [Scored(frame, None, (key,), seeds) for key in frame.key.iloc[:2]]
    found = score_difference(keys[0], keys[1], "arc", "acc", True)
    assert found is not None and found.by_seeds and found.stderr == pytest.approx(0.01 * 2**0.5)
    unknown = score_difference(keys[0], keys[1]._replace(seeds=None), "arc", "acc", True)
    assert unknown is not None and unknown.stderr is None


def test_what_a_seed_does_to_a_whole_grid_counts_between_grids() -> None:
    frame = table(bowl, noise=0.002, seeds=3)
    moved = frame.assign(value=frame.value + 0.02 * (frame.seed.astype(float) - 1))
    (cells,) = surfaces(moved)
    assert cells.seeds is not None and cells.seeds.pooled < 0.003
    assert cells.seeds.total == pytest.approx(0.02, rel=0.1)
    assert (cells.table.total_stderr > 3 * cells.table.stderr).all()
    keys = tuple(moved.key.iloc[:3])
    one, other = (Scored(moved, None, keys, cells.seeds) for _ in range(2))
    found = score_difference(one, other, "arc", "acc", True)
    assert found is not None and found.stderr is not None and found.stderr > 0.015
    assert found.reach > 2.5, "three seeds know their spread badly"


def test_a_lower_loss_is_a_gain() -> None:
    def losses(name: str, level: float) -> Source:
        frame = table(lambda x, y: level - bowl(x, y), metric="loss", noise=0.001)
        return Source(name, frame.assign(higher_is_better=False), None, None, {})

    sources = {name: losses(name, level) for name, level in (("a", 3.0), ("b", 2.8))}
    (row,) = compare_scores.compare_scores(
        {name: (source, surfaces(source.frame)) for name, source in sources.items()}
    )
    assert row.difference.gain == pytest.approx(0.2, abs=0.02) and row.apart
    assert row.difference.items == 0 and "taken as independent" in row.sentence
