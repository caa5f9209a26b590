"""Whether a run's command goes on, has stopped by itself, or is to be given more."""

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.advice.advise import Advice, advise
from analysis.advice.next_grid import NextStep
from analysis.compare.source import Source, load
from analysis.fit.surface import fit
from analysis.posterior.cells import surfaces
from analysis.report.answered import answer
from analysis.tables.options import ReadOptions
from tests.analysis.planted import table

FILE = """\
name: mine
stages:
  all:
    kind: sft
    grid: {learning_rate: [1.0e-4, 3.0e-4, 1.0e-3, 3.0e-3, 1.0e-2], batch_size: [4, 8, 16, 32]}
"""


@pytest.fixture(scope="module")
def level() -> tuple[pd.DataFrame, Advice]:
    frame = table(lambda x, y: 0 * x, noise=0.01)
    return frame, advice(frame)


def advice(frame: pd.DataFrame) -> Advice:
    (one,) = advise([fit(cells) for cells in surfaces(frame)], None, frame)
    return one


def step_of(source: Source, one: Advice) -> NextStep:
    return answer(one, source, source.frame).next_step


LEVEL, SPENT = "every question is decided", "the budget of 20 trials is spent"
RECORDED = {"answered": "no question is open", "budget": "20 of 20 trials have run"}
"""Reasons in other words than today's, of events that say what has stopped the run."""

OF_20 = {"stopped_by": "budget", "trials": 20}
"""Of an event that has the budget too."""


@pytest.mark.parametrize(
    ("chooser", "events", "said"),
    [
        ("decide: {}", [], "20 of the 45 trials that the run chooses have ended"),
        ("decide: {}", [LEVEL, ""], "20 of the 45 trials"),
        ("decide: {}", ["", LEVEL], f"chose no further cell: {LEVEL}."),
        ("decide: {trials: 20}", ["", LEVEL], f"chose no further cell: {LEVEL}."),
        ("decide: {trials: 20}", ["", SPENT], "Raise decide.trials from 20 to 32"),
        ("decide: {trials: 20}", ["", "answered"], "no further cell: no question is open."),
        ("decide: {trials: 20}", ["", "budget"], "Raise decide.trials from 20 to 32"),
        ("decide: {trials: 20}", ["", "of 20"], "Raise decide.trials from 20 to 32"),
        ("decide: {trials: 30}", ["", "of 20"], "20 of the 30 trials that the run chooses"),
        ("decide: {trials: 20}", [], "Raise decide.trials from 20 to 32"),
        ("search: {trials: 20}", [], "Raise search.trials from 20 to 32"),
        ("search: {trials: 21}", [], "20 of the 21 trials"),
        ("search: {trials: 90}", [], "20 of the 22 trials"),
        ("decide: null", [], "2 planned trials have not ended. The same command goes on."),
    ],
)
def test_a_run_that_chooses_its_cells_goes_on_until_it_stops(
    tmp_path: Path, level: tuple[pd.DataFrame, Advice], chooser: str, events: list[str], said: str
) -> None:
    """Events without a reason are of a cell that was chosen; those of an older version say in words
    alone what has stopped the run."""
    (tmp_path / "grid.yaml").write_text(f"{FILE}{chooser}\n")
    frame, one = level
    plan = pd.DataFrame({"key": [*frame.key, "next", "last"], "stage": "all"})
    plan.to_csv(tmp_path / "plan.csv", index=False)
    lines = [{"event": "decided"} if event else {"event": "chosen"} for event in events]
    for line, event in zip(lines, events, strict=True):
        if event:
            line["reason"] = f"decide: {RECORDED.get(event, event)}"
        if event in RECORDED:
            line["stopped_by"] = event
        if event == "of 20":
            line |= OF_20
    (tmp_path / "events.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    step = step_of(Source("mine", frame, tmp_path, None, {}), one)
    assert said in step.sentence
    assert bool(step.text) == said.startswith("Raise")


def test_rows_that_are_not_asked_for_have_run_all_the_same(planted_run: Path) -> None:
    options = ReadOptions(where={"batch_size": "4", "benchmark": "world_choice", "stage": "sft"})
    source = load(planted_run, options)
    step = step_of(source, advice(source.frame))
    assert "1 planned trial has not ended." in step.sentence
