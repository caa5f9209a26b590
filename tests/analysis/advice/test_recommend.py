import json

import numpy as np
import pandas as pd
import pytest

from analysis.advice.recommend import Advice, advise, as_json, headline
from analysis.fit.cells import surfaces
from analysis.fit.surface import fit
from tests.analysis.planted import bowl, table


def advice(**scores) -> Advice:
    """Advice on an SFT grid: benchmark -> log2 learning rate of its best, or a score function."""
    tables = []
    for benchmark, best in scores.items():
        score = best if callable(best) else shifted(best)
        tables.append(table(score, benchmark=benchmark, noise=0.003))
    frame = pd.concat(tables, ignore_index=True).assign(stage="sft")
    return advise(fit(cells) for cells in surfaces(frame))[0]


def shifted(best: float):
    return lambda x, y: bowl(x - best - 10, y)


def flat(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.full_like(x, 0.3)


def test_records_have_the_published_fields() -> None:
    record = json.loads(json.dumps(as_json([advice(arc=-10, hellaswag=flat)]), allow_nan=False))
    parts = {"stage", "answers", "benchmarks", "task_types", "claims", "mix", "next_grid", "stages"}
    assert set(record) == parts
    assert set(record["task_types"]) == {"reasoning", "pattern"}
    wanted = {"status", "ratio", "low", "high", "log2_ratio", "learning_rate", "best_cell"}
    for one in (*record["benchmarks"].values(), *record["task_types"].values()):
        assert wanted | {"sentence"} <= set(one)
    arc = record["benchmarks"]["arc"]
    assert arc["status"] == "identified" and arc["low"] <= 2**-13.5 <= arc["high"]
    assert set(arc["learning_rate"]) == {"4", "8", "16", "32"}
    assert set(record["claims"]) == {
        "ratio_is_sufficient",
        "reasoning_prefers_higher_ratio",
        "agrees_with_the_paper",
    }
    assert record["stages"]["sft"]["benchmarks"] == record["benchmarks"]


def test_undecided_says_why_and_what_next_and_gives_no_ratio() -> None:
    one = advice(arc=flat).benchmarks["arc"]
    assert one.status == "flat" and one.ratio is None and not one.learning_rate
    assert "undecided" in one.sentence and "beyond noise" in one.sentence
    assert "seeds" in one.next_step


def test_edge_says_where_to_extend() -> None:
    one = advice(arc=lambda x, y: 0.03 * x).benchmarks["arc"]
    assert one.status == "edge" and "add learning rates above 0.01" in one.next_step


def test_a_type_says_every_border_that_holds_one_of_its_benchmarks() -> None:
    found = advice(hellaswag=lambda x, y: 0.03 * x, ifeval=lambda x, y: -0.03 * x, arc=flat)
    low, high = "add learning rates below", "add learning rates above"
    assert high in found.benchmarks["hellaswag"].next_step
    assert low not in found.benchmarks["hellaswag"].next_step
    assert low in found.task_types["pattern"].next_step
    assert high in found.task_types["pattern"].next_step


def test_a_wall_of_divergence_is_not_an_edge_to_walk_over() -> None:
    frame = table(lambda x, y: 0.03 * x, noise=0.003)
    frame.loc[frame.learning_rate == 1e-2, "status"] = "diverged"
    frame.loc[frame.learning_rate == 1e-2, "value"] = np.nan
    one = advise([fit(surfaces(frame)[0])])[0].benchmarks["arc"]
    assert "between 3e-3 and 0.01, where training diverges" in one.next_step


def test_a_type_is_the_geometric_mean_of_its_identified_benchmarks() -> None:
    found = advice(arc=-9.5, gsm8k=-10.5, hellaswag=flat)
    kind = found.task_types["reasoning"]
    logs = [found.benchmarks[name].log2_ratio for name in ("arc", "gsm8k")]
    assert kind.log2_ratio == pytest.approx(np.mean(logs))
    assert kind.benchmarks == ("arc", "gsm8k")
    assert found.task_types["pattern"].status == "flat"


def test_a_planted_difference_of_types_is_claimed() -> None:
    claims = advice(arc=-9, gsm8k=-9, hellaswag=-11, ifeval=-11).claims
    assert claims["reasoning_prefers_higher_ratio"].probability > 0.99  # type: ignore
    assert claims["agrees_with_the_paper"].probability > 0.95  # type: ignore


def test_the_opposite_difference_is_not_claimed() -> None:
    claims = advice(arc=-11, hellaswag=-9).claims
    assert claims["reasoning_prefers_higher_ratio"].probability < 0.01  # type: ignore


def test_a_claim_about_types_needs_both() -> None:
    for scores in ({"arc": -10}, {"arc": -10, "hellaswag": flat}):
        claim = advice(**scores).claims["reasoning_prefers_higher_ratio"]
        assert claim.probability is None and "Undecided" in claim.sentence


def test_a_rate_only_truth_is_not_a_sufficient_ratio() -> None:
    claim = advice(arc=lambda x, y: -0.03 * (x + 10) ** 2).claims["ratio_is_sufficient"]
    assert claim.probability is not None and claim.probability < 0.01


def test_headline_tells_decided_from_undecided() -> None:
    text = headline(advice(arc=-10, hellaswag=flat))
    assert "for reasoning" in text and "undecided for pattern recognition" in text
