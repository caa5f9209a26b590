"""What a run's events say of its choices."""

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.tables.records.decided import Decided, Stop, read_decided, recorded_stop

CHOSEN = {"event": "chosen", "key": "a"}
OTHER = {"event": "chosen", "key": "b"}
ANSWERED = {"event": "decided", "reason": "decide: all is known", "stopped_by": "answered"}


def read(folder: Path, *events: Any) -> Decided:
    lines = "".join(f"{json.dumps(event)}\n" for event in events)
    (folder / "events.jsonl").write_text(lines, encoding="utf-8")
    return read_decided(folder)


def test_a_run_that_decides_nothing_has_no_reason(tmp_path):
    nothing = Decided(0, [], None, False)
    assert read_decided(tmp_path) == nothing
    assert read(tmp_path, {"event": "begun"}, {"event": "ended", "reason": "max_hours"}) == nothing


def test_a_cell_that_is_chosen_later_opens_the_run_again(tmp_path):
    stopped = read(tmp_path, {"event": "screened", "reason": "alike"}, CHOSEN, OTHER, ANSWERED)
    assert stopped == Decided(2, ["alike"], Stop("answered", "all is known"), False)
    assert stopped.stop == stopped.last_stop
    again = read(tmp_path, CHOSEN, ANSWERED, CHOSEN)
    assert again.stop is None and again.last_stop == stopped.stop
    assert read(tmp_path, ANSWERED, CHOSEN, ANSWERED).stop == stopped.stop


def test_cells_are_counted_once_and_as_far_as_they_are_in_the_plan(tmp_path):
    """One that was chosen and had not begun when its driver died is chosen again, and one of before
    the grid file was edited is not in the plan."""
    assert read(tmp_path, CHOSEN, OTHER, CHOSEN).chosen == 2
    (tmp_path / "plan.csv").write_text("key,stage\na,sft\nc,sft\n", encoding="utf-8")
    assert read(tmp_path, CHOSEN, OTHER, CHOSEN).chosen == 1


def test_the_budget_is_that_of_the_last_stop(tmp_path):
    stops = [ANSWERED | {"trials": trials} for trials in (20, 45)]
    assert read(tmp_path, CHOSEN, stops[0], CHOSEN, stops[1]).trials == 45
    assert read(tmp_path, CHOSEN, stops[0], CHOSEN, ANSWERED).trials is None


@pytest.mark.parametrize("event", [{"event": "decided"}, {"event": "decided", "reason": 5}, {}, 5])
def test_what_was_never_written_says_nothing(event, tmp_path):
    assert read(tmp_path, ANSWERED, event) == read(tmp_path, ANSWERED)


@pytest.mark.parametrize(
    ("reason", "by"),
    [
        ("every question is decided within 2 octaves, and arc is level", "answered"),
        ("the budget of 20 trials is spent; undecided: arc: which batch size", "budget"),
        ("no cell is left that would train", "no_cell"),
    ],
)
def test_records_of_an_older_version_say_it_in_words(reason, by):
    assert recorded_stop({"reason": f"decide: {reason}"}) == (by, reason)
    assert recorded_stop({"reason": reason, "stopped_by": "else"}).by == by
    assert recorded_stop({"reason": reason, "stopped_by": "budget"}).by == "budget"
