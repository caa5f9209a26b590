"""How many tokens a micro-batch has, and what is done where that is more than the memory holds."""

from collections.abc import Callable, Sequence

import torch

from trainers.ops import batching
from trainers.ops.memory import SMALLEST_BUDGET, out_of_memory, release
from trainers.processes import attempt
from trainers.specs.result import BudgetTooLarge

CALM_STEPS = 200
"""Steps without running out of memory after which a halved budget is doubled again: what took the
memory may have gone. Each failure doubles the wait."""


class TokenBudget:
    """Tokens of a micro-batch: half as many where memory runs out, and in time twice as many again.

    Where `lanes` models are trained together, the tokens are shared out among them.
    """

    def __init__(self, tokens: int, lanes: int = 1):
        self.tokens = self.most = tokens
        self.lanes = lanes
        self.shrunk: list[int] = []
        """Budgets that turned out too large."""
        self._calm, self._patience = 0, CALM_STEPS

    def cut(self, lengths: Sequence[int], padded: bool) -> list[list[int]]:
        """Places of the examples of each micro-batch."""
        return batching.micro_batches(lengths, self.tokens // self.lanes, padded)

    @property
    def is_smallest(self) -> bool:
        return self.tokens // self.lanes // 2 < SMALLEST_BUDGET

    def halve(self) -> None:
        self.shrunk.append(self.tokens)
        self.tokens //= 2
        self._calm, self._patience = 0, 2 * self._patience

    def go_on_from(self, tokens: int, shrunk: Sequence[int]) -> None:
        """No more tokens than a checkpoint's, whose budgets `shrunk` turned out too large."""
        self.tokens = min(self.tokens, tokens)
        if len(shrunk) > len(self.shrunk):
            self.shrunk, self._patience = list(shrunk), CALM_STEPS << len(shrunk)

    def grow(self) -> None:
        """After enough steps without running out of memory, try twice the budget again."""
        if self.tokens >= self.most:
            return
        self._calm += 1
        if self._calm >= self._patience:
            self.tokens, self._calm = min(2 * self.tokens, self.most), 0


def add_gradients(
    budget: TokenBudget,
    lengths: Sequence[int],
    padded: bool,
    new: list[int],
    done: list[int],
    totals: torch.Tensor,
    backward: Callable[[list[int]], torch.Tensor],
    zero: Callable[[], None],
) -> torch.Tensor:
    """Add the gradients of the examples at the places `new` to those of `done`, by `backward` of
    the places of each micro-batch; returns what it gives, summed over both. `totals` are those of
    `done`, and `lengths` those of all examples.

    Where memory runs out the budget is halved and all is done again, from gradients that `zero`
    takes away: the batch never changes.
    """
    while True:
        total = totals
        try:
            for part in budget.cut([lengths[place] for place in new], padded):
                attempt.sign("training")
                total = total + backward([new[place] for place in part])
            return total
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or budget.is_smallest:
                raise
        # Not in the handler: the error holds on to the tensors of the failed pass.
        budget.halve()
        zero()
        release()
        new, done, totals = done + new, [], torch.zeros_like(totals)


def add_together(
    budget: TokenBudget,
    lengths: Sequence[int],
    padded: bool,
    shares: Sequence[list[int]],
    rank: int,
    totals: torch.Tensor,
    backward: Callable[[list[int]], torch.Tensor],
) -> torch.Tensor:
    """As `add_gradients`, in a rank that shares the weights with others, whose examples are at the
    places `shares`: each makes as many passes as the one with the most micro-batches, at the end of
    no examples.

    Raises:
        BudgetTooLarge: memory ran out; the other ranks wait for this one, and end with it.
    """
    cuts = [budget.cut([lengths[place] for place in share], padded) for share in shares]
    own = [[shares[rank][number] for number in part] for part in cuts[rank]]
    idle: list[list[int]] = [[]] * (max(map(len, cuts)) - len(own))
    try:
        for places in own + idle:
            attempt.sign("training")
            totals = totals + backward(places)
        return totals
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error) or budget.is_smallest:
            raise
        raise BudgetTooLarge(
            f"process {rank} of {len(shares)} ran out of memory with micro-batches of "
            f"{budget.tokens} tokens: {error}"
        ) from error
