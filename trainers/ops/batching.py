"""One effective batch -> ranks and micro-batches. The only home of batch arithmetic; plain numbers.

The effective batch is what is studied; how it is cut up is a matter of memory and speed alone.
"""

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np


class Order(NamedTuple):
    """Which examples each optimizer step takes: a permutation per epoch, drawn from the seed.

    An epoch's last batch is what is left of it: smaller, never filled up from the next epoch.
    """

    examples: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.examples // self.batch_size)

    def epoch(self, number: int) -> np.ndarray:
        """The examples of epoch `number`, counted from 0, in their order."""
        return np.random.default_rng([self.seed, number]).permutation(self.examples)

    def batches(self, first: int, last: int) -> Iterator[list[int]]:
        """The examples of the steps from `first` up to but not including `last`, from 0."""
        epoch, order = -1, np.empty(0, int)
        for step in range(first, last):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                order = self.epoch(epoch)
            place = step % self.steps_per_epoch * self.batch_size
            yield order[place : place + self.batch_size].tolist()

    def sums(self, amounts: np.ndarray, steps: int) -> np.ndarray:
        """The sum of the examples' `amounts` in each of the first `steps` steps."""
        starts = np.arange(self.steps_per_epoch) * self.batch_size
        epochs = range(-(-steps // self.steps_per_epoch))
        amounts_by_step = [np.add.reduceat(amounts[self.epoch(epoch)], starts) for epoch in epochs]
        return (
            np.concatenate(amounts_by_step)[:steps]
            if amounts_by_step
            else np.empty(0, amounts.dtype)
        )

    def steps_to(self, total: int, amounts: np.ndarray) -> int:
        """The number of steps after which the sum of the examples' `amounts` has reached `total`.

        Raises:
            ValueError: it never will, since all amounts are zero.
        """
        per_epoch = int(amounts.sum())
        if per_epoch <= 0:
            raise ValueError("every amount is zero")
        whole, rest = divmod(total, per_epoch)
        if not rest:
            return whole * self.steps_per_epoch
        last = amounts[self.epoch(whole)]
        sums = np.add.reduceat(last, np.arange(self.steps_per_epoch) * self.batch_size)
        return whole * self.steps_per_epoch + int(np.searchsorted(np.cumsum(sums), rest)) + 1


def shares(lengths: Sequence[int], ranks: int) -> list[list[int]]:
    """Places of the examples that each rank takes, with about as many tokens each.

    The longest first, each to the rank with the least so far (Graham 1969). A rank may have none.
    """
    shares: list[list[int]] = [[] for _ in range(ranks)]
    load = [(0, rank) for rank in range(ranks)]
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        tokens, rank = heapq.heappop(load)
        shares[rank].append(place)
        heapq.heappush(load, (tokens + lengths[place], rank))
    return shares


def micro_batches(lengths: Sequence[int], budget: int, padded: bool) -> list[list[int]]:
    """Places of the examples of each micro-batch: of like length, together within `budget` tokens.

    With `padded` every example takes as many tokens as the longest one beside it. An example longer
    than the budget is alone.
    """
    micro_batches: list[list[int]] = []
    tokens = 0
    for place in sorted(range(len(lengths)), key=lambda place: (lengths[place], place)):
        length = lengths[place]
        together = (
            (len(micro_batches[-1]) + 1) * length if micro_batches and padded else tokens + length
        )
        if not micro_batches or together > budget:
            micro_batches.append([])
            together = length
        micro_batches[-1].append(place)
        tokens = together
    return micro_batches


def weights(loss_tokens: Sequence[int], loss: str) -> list[float]:
    """What each loss token of an example weighs in its batch's loss, by the example.

    `token_mean`: all loss tokens of the batch weigh the same. `example_mean`: all examples do, and
    within an example all its loss tokens. Either way everything together weighs 1.
    """
    match loss:
        case "token_mean":
            return [1 / sum(loss_tokens)] * len(loss_tokens)
        case "example_mean":
            return [1 / (len(loss_tokens) * count) for count in loss_tokens]
        case _:
            raise ValueError(f"{loss!r} is not a loss of texts")
