"""Batch arithmetic."""

import pytest

from trainers.batch import split


@pytest.mark.parametrize(
    ("batch_size", "limit", "expected"),
    [
        (8, 8, (8, 1)),
        (8, 4, (4, 2)),
        (8, 1, (1, 8)),
        (8, 100, (8, 1)),
        (1, 8, (1, 1)),
        (12, 8, (6, 2)),
        (10, 8, (5, 2)),
        (7, 4, (1, 7)),
        (128, 8, (8, 16)),
    ],
)
def test_batch_splits_into_equal_parts_within_the_limit(batch_size, limit, expected):
    assert split(batch_size, limit) == expected


@pytest.mark.parametrize("limit", [1, 3, 8, 64])
def test_parts_make_up_the_batch_exactly(limit):
    for batch_size in range(1, 200):
        per_device, accumulation = split(batch_size, limit)
        assert per_device * accumulation == batch_size
        assert 1 <= per_device <= limit
