"""What the dry run says a grid can see."""

from pathlib import Path

import pytest

from sweep.gridfile import load
from sweep.plan import sight
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks, item_counts

ROOT = Path(__file__).parents[3]


@pytest.fixture
def shipped(monkeypatch):
    monkeypatch.chdir(ROOT)
    return lambda name, *overrides: load.load(ROOT / "grids" / f"{name}.yaml", list(overrides))


def test_every_benchmark_has_a_line_and_the_difference_of_types(shipped):
    told = list(sight.lines(shipped("lr_bs")))
    assert [line.split()[0] for line in told[1:5]] == ["ARC:", "GSM8K", "HellaSwag:", "IFEval:"]
    assert "cannot answer" in told[2]
    assert told[5].startswith("  task types: a difference of ")


def test_cheapest_change_comes_with_what_cannot_answer(shipped):
    rates = "stages.sft.grid.learning_rate={log: [1.0e-5, 2.0e-4], count: 4}"
    few = shipped("lr_bs", "evaluate.limit=20", "stages.sft.grid.seed=[0, 1, 2]", rates)
    told = " ".join(sight.lines(few))
    assert "ARC cannot answer" in told
    assert "with all of its items it can" in told


def test_items_of_a_local_folder_count_as_many_as_there_are(shipped, tmp_path):
    for name in ("arc_easy_test", "arc_challenge_test", "hellaswag_validation"):
        (tmp_path / f"{name}.jsonl").write_text("{}\n" * 50)
    few = shipped("lr_bs", f"evaluate.data_dir={tmp_path}", "evaluate.benchmarks=[arc, hellaswag]")
    arc, hellaswag = map(benchmarks.find, ("arc", "hellaswag"))
    limited = few.evaluate.model_copy(update={"limit": 20})
    assert [item_counts.scored(arc, spec) for spec in (few.evaluate, limited)] == [100, 40]
    assert item_counts.scored(hellaswag, few.evaluate) == 50
    assert item_counts.scored(hellaswag, EvaluateSpec(benchmarks=[])) == hellaswag.items
    (tmp_path / "rewardbench.jsonl").write_text("{}\n" * 30)
    rewardbench = benchmarks.find("rewardbench")
    assert [item_counts.scored(rewardbench, spec) for spec in (few.evaluate, limited)] == [30, 20]
    public = shipped("lr_bs", "evaluate.benchmarks=[arc, hellaswag]")
    assert list(sight.lines(few)) != list(sight.lines(public))


@pytest.mark.parametrize(
    ("chooser", "seeds"),
    [
        ("decide.trials=45", 45 / 78),
        ("search={method: optuna, trials: 39, objective: arc}", 39 / 78),
        ("search={method: optuna, trials: 99, objective: arc}", 1),
    ],
)
def test_run_that_chooses_its_cells_is_judged_by_its_trials(shipped, chooser, seeds):
    one = ["decide=null"] if "search" in chooser else []
    grid = shipped("lr_bs_decide", *one, chooser, "evaluate.limit=20")
    assert sight.layout_of(grid, grid.stages["sft"], "").seeds == pytest.approx(seeds)
    told = " ".join(sight.lines(grid))
    assert ("twice the trials" in told) == (seeds < 1)
    assert "twice the seeds" not in told


def test_grid_of_two_rates_promises_nothing(shipped):
    assert list(sight.lines(shipped("smollm2_cpu"))) == []
