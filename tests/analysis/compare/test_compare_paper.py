"""A planted run beside the paper's tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.compare import compare_paper, paper_text
from analysis.compare.compare_paper import binomial
from analysis.compare.source import Source, load
from analysis.report.__main__ import main
from analysis.tables import published


def run(tmp_path: Path, rows: list[dict]) -> Source:
    frame = pd.DataFrame(rows).assign(metric="acc")
    path = tmp_path / "run.csv"
    frame.to_csv(path, index=False)
    return load(path)


def row(stage: str, rate: float, size: int, benchmark: str, value: float, seed: int = 0) -> dict:
    return {
        "stage": stage,
        "learning_rate": rate,
        "batch_size": size,
        "seed": seed,
        "benchmark": benchmark,
        "value": value,
        "stderr": 0.01,
    }


def test_a_trial_at_a_published_setting_stands_beside_that_setting(tmp_path: Path) -> None:
    scored = [row("sft", 9e-5, 8, "gsm8k", 0.52), row("sft", 3.1e-6, 32, "gsm8k", 0.40)]
    third = compare_paper.tables(run(tmp_path, scored), "smoltulu")[0]
    assert third.heading == "Table 3, supervised fine-tuning"
    assert [one.beside for one in third.ours] == [("SmolTulu SFT-1130",), ("SmolTulu SFT-1207",)]
    first = third.differences[0]
    assert first.points == pytest.approx(52 - 49.0)
    reach = 1.96 * 100 * np.hypot(0.01, np.sqrt(0.49 * 0.51 / 1319))
    assert (first.low, first.high) == pytest.approx((3 - reach, 3 + reach))


def test_elsewhere_the_best_cell_stands_beside_every_setting_and_says_so(tmp_path: Path) -> None:
    scored = [
        row("dpo", rate, size, name, value)
        for rate, size, arc, gsm8k in (
            (1e-6, 8, 0.3, 0.1),
            (1e-5, 8, 0.4, 0.2),
            (1e-4, 8, 0.2, 0.0),
        )
        for name, value in (("arc", arc), ("gsm8k", gsm8k))
    ]
    sixth = compare_paper.tables(run(tmp_path, scored), "smoltulu")[1]
    (ours,) = sixth.ours
    assert ours.scores["arc"][:2] == pytest.approx((0.4, 0.01))
    assert "learning rate 1e-5, batch size 8, 1 trial; the best of 3 cells" in ours.note
    assert set(ours.beside) == {"SmolTulu DPO-1130", "SmolTulu DPO-1207"}
    assert len(sixth.differences) == 4


def test_seeds_widen_the_error_and_are_averaged(tmp_path: Path) -> None:
    scored = [row("sft", 9e-5, 8, "piqa", value, seed) for seed, value in enumerate((0.70, 0.74))]
    table = compare_paper.tables(run(tmp_path, scored), "smoltulu")[0]
    value, stderr, *_ = table.ours[0].scores["piqa"]
    assert value == pytest.approx(0.72) and stderr == pytest.approx(np.hypot(0.01, 0.02))
    piqa = next(one for one in table.differences if one.benchmark == "piqa")
    assert piqa.high is not None
    reach = (piqa.high - piqa.points) / 100 / np.hypot(stderr, binomial("piqa", 0.72))
    assert reach > 3, "two seeds know their spread badly"


def test_reference_models_are_matched_by_name(tmp_path: Path) -> None:
    scored = row("others", np.nan, 0, "arc", 0.42)
    scored |= {"model": "meta-llama/Llama-3.2-1B-Instruct", "batch_size": pd.NA}
    source = run(tmp_path, [row("sft", 1e-5, 8, "arc", 0.3), row("sft", 1e-4, 8, "arc", 0.4)])
    extra = source.frame.iloc[:1].assign(**scored, key="llama", metric="acc")
    frame = pd.concat([source.frame, extra], ignore_index=True)
    ninth = compare_paper.tables(Source("run", frame, None, None, {}), "smoltulu")[3]
    assert [one.name for one in ninth.ours] == ["Llama-3.2-1B-Instruct, ours", "ours, SFT"]
    assert ninth.differences[0].points == pytest.approx(42 - 41.6)


def test_categories_of_rewardbench_are_rows_of_their_own(tmp_path: Path) -> None:
    judged = row("reward", 4e-5, 4, "rewardbench", 0.7)
    frame = pd.DataFrame([judged | {"metric": name} for name in ("average", "chat", "safety")])
    source = run(tmp_path, [row("reward", 4e-5, 4, "ufb", 0.7)])
    rows = [source.frame.iloc[:1].assign(**one, key="judge") for one in frame.to_dict("records")]
    rows = [one.assign(primary=one.metric == "average") for one in rows]
    whole = pd.concat([source.frame, *rows], ignore_index=True)
    eighth = compare_paper.tables(Source("run", whole, None, None, {}), "smoltulu")[2]
    (ours,) = eighth.ours
    assert set(ours.scores) == {
        "ufb", "rewardbench", "rewardbench_chat", "rewardbench_safety",
    }  # fmt: skip
    chat = next(one for one in eighth.differences if one.benchmark == "rewardbench_chat")
    assert chat.points == pytest.approx(70 - 94.13)


def test_averages_over_rewardbench_that_are_not_alike_have_no_difference(tmp_path: Path) -> None:
    source = run(tmp_path, [row("reward", 4e-5, 4, name, 0.7) for name in ("rewardbench", "ufb")])
    tables = compare_paper.tables(source, "smoltulu")
    assert {one.benchmark for one in tables[2].differences} == {"ufb"}
    told = paper_text.as_text(tables)
    assert "it prints 72.4, and its categories have a mean of 70.3" in told
    assert "RewardBench has no difference" in told


def test_every_printed_column_is_in_some_table_and_every_cell_has_its_number() -> None:
    frame = published.table("smoltulu")
    shown = {name for table in compare_paper.TABLES["smoltulu"] for name in table.columns}
    assert set(frame.key) == shown


def test_tables_are_printed_and_stand_on_the_page(tmp_path: Path, capsys) -> None:
    scored = [row("sft", 9e-5, 8, "gsm8k", 0.52), row("sft", 3.1e-6, 32, "gsm8k", 0.40)]
    run(tmp_path, scored)
    assert main([str(tmp_path / "run.csv"), "--against", "smoltulu"]) == 0
    told = capsys.readouterr().out
    for number in (3, 6, 8, 9):
        assert f"Table {number}, " in told
    assert "52.0 ± 1.0" in told and "+3.0 (-0.3 to +6.3)" in told
    assert told.count("This run has no scores for this table.") == 2
    page = (tmp_path / "run-report" / "index.html").read_text()
    assert "Beside the published tables" in page and "+3.0 (-0.3 to +6.3)" in page


def test_a_test_set_of_unknown_size_leaves_our_error_alone() -> None:
    assert compare_paper.binomial("ufb", 0.7) is None
    easy, challenge = 2376, 1172
    both = np.sqrt(0.25 / easy + 0.25 / challenge) / 2
    assert compare_paper.binomial("arc", 0.5) == pytest.approx(both)
