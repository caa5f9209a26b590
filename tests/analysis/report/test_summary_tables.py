"""The table of every trial on a page."""

import itertools

import pandas as pd

from analysis.report import build, summary_tables
from analysis.report.section import Place
from analysis.report.summary_tables import MOST_TRIALS, shown
from analysis.tables.external.adopt import adopt


def trials(count: int, bad: set[int]) -> list[dict]:
    return [
        {"place": place, "status": "failed" if place in bad else "ok"} for place in range(count)
    ]


def test_a_long_table_shows_what_did_not_end_well_and_one_in_so_many_of_the_rest():
    every = trials(3 * MOST_TRIALS, {5, 17})
    some = [trial["place"] for trial in shown(every)]
    assert len(some) == MOST_TRIALS and some == sorted(set(some)) and {5, 17} <= set(some)
    assert max(b - a for a, b in itertools.pairwise(some)) <= 4
    assert shown(every[:MOST_TRIALS]) == every[:MOST_TRIALS]
    assert len(shown(trials(3 * MOST_TRIALS, set(range(2 * MOST_TRIALS))))) == MOST_TRIALS


def test_a_trial_is_as_its_worst_benchmark_and_an_empty_cell_is_none():
    rows = pd.DataFrame({"lr": [1e-4, 2e-4, 4e-4], "bs": 8, "arc_acc": [0.5, 0.6, 0.7]})
    rows["piqa_acc"] = ["0.7", "OOM", "0.8"]
    benchmarks, trials = summary_tables.scores(adopt(rows, "made").frame)
    assert benchmarks == ["arc", "piqa"]
    assert [trial["status"] for trial in trials] == ["ok", "failed", "ok"]
    assert trials[0]["scores"] == {"arc": (0.5, None, "ok"), "piqa": (0.7, None, "ok")}
    assert trials[1]["scores"]["piqa"] == (None, None, "failed")
    assert trials[1]["learning_rate"] == 2e-4 and trials[1]["steps"] is None


def test_a_model_without_axes_in_the_stage_of_a_grid_is_no_row_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(Place, "save", lambda *_: "")
    cells = [(rate, size) for rate in (1e-4, 2e-4) for size in (8, 16)]
    rows = pd.DataFrame([*cells, (None, None)], columns=["lr", "bs"]).assign(stage="sft")
    rows["arc_acc"] = [0.5, 0.6, 0.4, 0.5, 0.2]
    rows.to_csv(tmp_path / "table.csv", index=False)
    page = build.write(tmp_path / "table.csv").read_text()
    assert "Every trial: 4" in page and "before training" in page
