"""What a plan says of trials that have not ended."""

import pandas as pd

from analysis.tables.records.plan_file import to_come

PLAN = pd.DataFrame(
    [("a", "", "sft"), ("b", "", "sft"), ("c", "a", "dpo"), ("d", "b", "dpo"), ("e", "d", "rlvr")],
    columns=["key", "parent", "stage"],
)


def test_trials_to_come_are_those_that_have_not_ended_and_may_begin():
    ended = pd.DataFrame({"key": ["a"], "status": ["ok"]})
    assert [to_come(PLAN, ended, stage) for stage in ("sft", "dpo", "rlvr")] == [1, 2, 1]
    lost = pd.DataFrame({"key": ["a", "b", "c"], "status": ["ok", "diverged", "failed"]})
    assert [to_come(PLAN, lost, stage) for stage in ("sft", "dpo", "rlvr")] == [0, 0, 0]


def test_plan_without_parents_is_of_trials_that_start_from_none():
    ended = pd.DataFrame({"key": ["a"], "status": ["diverged"]})
    assert to_come(PLAN[["key", "stage"]], ended, "dpo") == 2
