"""Batch arithmetic, on planted numbers."""

from itertools import chain, pairwise

import numpy as np
import pytest

from trainers.ops.batching import Order, micro_batches, shares, weights

LENGTHS = [3, 90, 200, 41, 40, 8, 8, 55, 1]


@pytest.mark.parametrize("batch_size", [1, 3, 8, 23, 100])
def test_an_epoch_has_each_example_once_and_ends_with_what_is_left(batch_size):
    order = Order(23, batch_size, seed=0)
    steps = order.steps_per_epoch
    batches = list(order.batches(0, 3 * steps))
    for epoch in range(3):
        taken = batches[epoch * steps : (epoch + 1) * steps]
        assert sorted(chain.from_iterable(taken)) == list(range(23))
        assert [len(batch) for batch in taken[:-1]] == [batch_size] * (steps - 1)
    assert batches[:steps] != batches[steps : 2 * steps]


def test_the_seed_decides_the_order():
    first, again, other = (Order(50, 5, seed).epoch(0).tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_batches_from_the_middle_are_those_of_the_whole():
    order = Order(23, 4, seed=3)
    assert list(order.batches(0, 20))[7:] == list(order.batches(7, 20))


def test_sums_are_those_of_the_batches():
    order, amounts = Order(9, 4, seed=1), np.array(LENGTHS)
    expected = [sum(LENGTHS[place] for place in batch) for batch in order.batches(0, 8)]
    assert order.sums(amounts, 8).tolist() == expected
    assert order.sums(amounts, 2).tolist() == expected[:2]


@pytest.mark.parametrize("total", [1, 40, 446, 447, 892, 1000, 5000])
def test_the_last_step_is_the_one_that_reaches_the_total(total):
    order, amounts = Order(9, 4, seed=1), np.array(LENGTHS)
    steps = order.steps_to(total, amounts)
    sums = order.sums(amounts, steps)
    assert sums[:-1].sum() < total <= sums.sum()


@pytest.mark.parametrize("ranks", [1, 2, 4, 12])
def test_ranks_share_every_example_and_the_tokens_evenly(ranks):
    found = shares(LENGTHS, ranks)
    assert sorted(chain.from_iterable(found)) == list(range(9))
    loads = [sum(LENGTHS[place] for place in share) for share in found]
    assert max(loads) <= max(max(LENGTHS), 4 / 3 * sum(LENGTHS) / ranks), "Graham's bound"


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("budget", [1, 50, 100, 500])
def test_micro_batches_hold_every_example_within_the_budget(budget, padded):
    found = micro_batches(LENGTHS, budget, padded)
    assert sorted(chain.from_iterable(found)) == list(range(9))
    for part in found:
        lengths = [LENGTHS[place] for place in part]
        tokens = len(part) * max(lengths) if padded else sum(lengths)
        assert len(part) == 1 or tokens <= budget


def test_micro_batches_hold_examples_of_like_length():
    found = micro_batches(LENGTHS, 100, padded=True)
    spans = [[LENGTHS[place] for place in part] for part in found]
    assert all(max(one) <= min(other) for one, other in pairwise(spans))


def test_no_share_is_no_micro_batch():
    assert micro_batches([], 100, padded=False) == []


@pytest.mark.parametrize("loss", ["token_mean", "example_mean"])
def test_a_batch_weighs_one(loss):
    counts = [1, 5, 30]
    found = weights(counts, loss)
    each = [weight * count for weight, count in zip(found, counts, strict=True)]
    assert sum(each) == pytest.approx(1)
    assert each == pytest.approx([1 / 36, 5 / 36, 30 / 36] if loss == "token_mean" else [1 / 3] * 3)
