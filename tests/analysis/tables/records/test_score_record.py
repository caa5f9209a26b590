"""Scores that no benchmark leaves are refused by what is wrong with them."""

import pytest

from analysis.tables.records.score_record import problem

SCORE = {
    "metric": "acc,none", "value": 0.5, "stderr": 0.1, "n": 8, "primary": True,
    "higher_is_better": True,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{}, {"value": None}, {"stderr": None}, {"value": 0}, {"metric": "loss", "value": 7.0}],
)
def test_what_a_benchmark_leaves_is_no_problem(change):
    assert problem(SCORE | change) == ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"value": 7.0}, "acc,none is 7.0, which has to lie between 0 and 1"),
        ({"value": "x"}, "acc,none: value is 'x', which is no number"),
        ({"value": True}, "value is True, which is no number"),
        ({"stderr": "x"}, "stderr is 'x', which is no number"),
        ({"stderr": -1}, "stderr is -1, which is below 0"),
        ({"n": -3}, "n is -3, which is below 0"),
        ({"metric": 5}, "metric is 5, which is no name"),
        ({"primary": "x"}, "primary is 'x', which is neither true nor false"),
    ],
)
def test_what_it_cannot_leave_is_named_with_the_way_out(change, told):
    found = problem(SCORE | change)
    assert told in found
    assert found.endswith("delete the file to have the trial scored anew")


def test_what_is_no_score_at_all_is_named():
    assert problem(5).startswith("scores: 5 is no score")
