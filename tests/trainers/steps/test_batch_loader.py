"""Batches come in the order of the seed, whoever reads them ahead."""

from datasets import Dataset

from trainers.ops.batching import Order
from trainers.steps.batch_loader import BatchLoader

ROWS = Dataset.from_dict({"number": list(range(10))})
ORDER = Order(examples=10, batch_size=4, seed=3)
BATCHES = list(ORDER.batches(0, 6))
"""Two epochs; the third batch of each has two rows."""


def loader(first_step: int = 0) -> BatchLoader:
    return BatchLoader(ROWS, lambda rows: [row["number"] for row in rows], ORDER, first_step, 6)


def test_batches_are_those_of_the_order():
    assert list(loader()) == BATCHES
    assert list(loader(first_step=4)) == BATCHES[4:]
    assert len(loader()) == 6


def test_a_batch_read_ahead_is_the_next_one_and_is_read_once():
    batches = loader()
    seen = []
    for batch in batches:
        seen.append(batch)
        batches.prefetch()
        batches.prefetch()
    assert seen == BATCHES


def test_a_second_pass_begins_anew():
    batches = loader()
    next(iter(batches))
    batches.prefetch()
    assert list(batches) == BATCHES
