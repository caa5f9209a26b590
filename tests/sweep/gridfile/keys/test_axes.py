"""Axes: lists and ranges expand to values that read well, or say why they cannot."""

from itertools import pairwise

import pytest

from sweep.gridfile.keys.axes import expand, ratio_cell


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ([1, 0.5, "word", True], [1, 0.5, "word", True]),
        ({"log": [1.0e-4, 1.0e-1], "count": 4}, [0.0001, 0.001, 0.01, 0.1]),
        ({"log": [1.0e-4, 1.0e-1], "count": 5}, [0.0001, 0.0005623, 0.003162, 0.01778, 0.1]),
        ({"log": [1.0e-6, 2.0e-3], "count": 3}, [1e-6, 4.472e-5, 2e-3]),
        ({"log": [1, 100], "count": 3}, [1, 10, 100]),
        ({"log": [4, 64], "count": 4}, [4, 10, 25, 64]),
        ({"log2": [4, 32]}, [4, 8, 16, 32]),
        ({"log2": [4, 33]}, [4, 8, 16, 32]),
        ({"log2": [3, 24]}, [3, 6, 12, 24]),
        ({"log2": [0.1, 0.8]}, [0.1, 0.2, 0.4, 0.8]),
        ({"log2": [1.0e-3, 1.0e-2]}, [0.001, 0.002, 0.004, 0.008]),
    ],
    ids=str,
)
def test_axis_expands_to_its_values(axis, values):
    found = list(expand(axis))
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_range_has_its_ends_and_equal_steps_in_the_logarithm():
    found = list(expand({"log": [1.0e-6, 2.0e-3], "count": 10}))
    ratios = [high / low for low, high in pairwise(found)]
    assert (found[0], found[-1], len(found)) == (1e-6, 2e-3, 10)
    assert max(ratios) / min(ratios) == pytest.approx(1, abs=2e-3), "but for rounding"


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        ([], "no values"),
        ([1, 2, 1], "twice"),
        ([[1]], "numbers or words"),
        ([None], "numbers or words"),
        (0.1, "use a list"),
        ({"log": [1, 2]}, "use a list"),
        ({"log": [1, 2], "count": 3, "base": 2}, "use a list"),
        ({"log2": [1, 2, 3]}, "use a list"),
        ({"log": [1, 2], "count": 1}, "count: 1"),
        ({"log": [1, 2], "count": 2.0}, "count: 2.0"),
        ({"log": [1, 2], "count": True}, "count: True"),
        ({"log": [1, 3], "count": 9}, "twice"),
        ({"log2": [0, 4]}, "0 is not a positive number"),
        ({"log2": [-1, 4]}, "-1 is not a positive number"),
        ({"log2": ["a", 4]}, "'a' is not a positive number"),
        ({"log2": [1, float("inf")]}, "inf is not a positive number"),
        ({"log2": [4, 4]}, "does not rise"),
    ],
    ids=str,
)
def test_axis_that_cannot_be_expanded_says_why(axis, said):
    with pytest.raises(ValueError, match=said):
        list(expand(axis))


def test_range_of_a_million_values_is_refused_in_a_few_words():
    with pytest.raises(ValueError) as caught:
        list(expand({"log": [0.1, 0.9], "count": 10**6}))
    assert len(str(caught.value)) < 500, "the message lists every value"


@pytest.mark.parametrize(
    ("cell", "plain", "found"),
    [
        ({"ratio": 1e-4, "batch_size": 8}, {}, {"learning_rate": 8e-4}),
        ({"ratio": 1e-4}, {"batch_size": 8}, {"learning_rate": 8e-4}),
        ({"ratio": 1e-4, "learning_rate": 8e-4}, {}, {"batch_size": 8}),
        ({"ratio": 1.125e-5}, {"learning_rate": 9e-5}, {"batch_size": 8}),
        ({"learning_rate": 1.0, "batch_size": 2}, {}, {}),
    ],
    ids=str,
)
def test_ratio_stands_in_for_the_rate_or_the_batch(cell, plain, found):
    stands_for = ratio_cell(cell, plain)
    assert stands_for == found
    assert [type(value) for value in stands_for.values()] == [type(v) for v in found.values()]


@pytest.mark.parametrize(
    ("cell", "plain", "said"),
    [
        ({"ratio": 1e-4}, {}, "exactly one"),
        ({"ratio": 1e-4, "batch_size": 8}, {"learning_rate": 1e-3}, "exactly one"),
        ({"ratio": 1e-4, "learning_rate": 2.5e-4}, {}, "2.5, which is not a whole number"),
        ({"ratio": 1.0, "learning_rate": 1e-3}, {}, "not a whole number"),
        ({"ratio": 0, "batch_size": 8}, {}, "0 is not a positive number"),
        ({"ratio": -1.0, "batch_size": 8}, {}, "-1.0 is not a positive number"),
        ({"ratio": float("nan"), "batch_size": 8}, {}, "nan is not a positive number"),
        ({"ratio": "high", "batch_size": 8}, {}, "'high' is not a positive number"),
        ({"ratio": 1e-4, "batch_size": "8"}, {}, "batch_size '8' is not a number"),
    ],
    ids=str,
)
def test_ratio_that_stands_for_no_cell_says_why(cell, plain, said):
    with pytest.raises(ValueError, match=said):
        ratio_cell(cell, plain)


def test_grid_over_ratios_has_the_keys_of_its_rates(planned, small):
    """A ratio is a way to write a cell, and no part of what it is."""
    by_ratio = small.replace("learning_rate: [0.001, 0.002]", "ratio: [0.00025, 0.0005]")
    assert [trial.key for trial in planned(by_ratio)] == [trial.key for trial in planned(small)]


def test_ratio_that_fits_no_batch_is_named_with_its_line(load, small):
    from sweep.gridfile.load import GridError

    grid = "      learning_rate: [0.001, 0.002]\n      batch_size: [4]\n"
    assert grid in small
    both = "      learning_rate: [0.001]\n      ratio: [0.0005, 0.0007]\n"
    with pytest.raises(
        GridError, match=r"grid\.yaml:12: stages\.sft\.grid\.ratio.*1\.43"
    ) as caught:
        load(small.replace(grid, both))
    assert len(caught.value.problems) == 1
