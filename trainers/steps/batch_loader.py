"""The data loader of exact batches: one item is one effective batch, read one step ahead.

The host reads the next batch while the device works on this one: the engine calls `prefetch` when
it has launched all of a step and before it waits for the result.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from trainers.ops import batching


class BatchLoader(DataLoader):
    """Yields the batches of the steps from `first_step` to `steps`, counted from 0."""

    def __init__(
        self,
        rows: Dataset,
        collate: Callable[[list[dict[str, Any]]], list[Any]],
        order: batching.Order,
        first_step: int,
        steps: int,
    ):
        sampler = _Steps(order, first_step, steps)
        super().__init__(_Rows(rows), sampler=sampler, batch_size=None, collate_fn=collate)
        self._next: list[Any] | None = None
        self._rest: Iterator[list[Any]] = iter(())

    def __iter__(self) -> Any:
        self._next, self._rest = None, super().__iter__()
        return self._batches()

    def _batches(self) -> Iterator[list[Any]]:
        while True:
            self.prefetch()
            batch, self._next = self._next, None
            if not batch:
                return
            yield batch

    def prefetch(self) -> None:
        """Read the next batch, unless it has been read already."""
        if self._next is None:
            self._next = next(self._rest, [])
            for example in self._next:
                getattr(example, "length", None)  # computed once and kept


class _Rows(TorchDataset[list[dict[str, Any]]]):
    """The rows of a whole step at once, straight from Arrow: lists of numbers as int64 tensors, all
    else as Python has it; quicker than the torch format of datasets, where rows are short."""

    def __init__(self, rows: Dataset):
        self._rows = rows.with_format("arrow")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, places: Any) -> list[dict[str, Any]]:
        table: Any = self._rows[places]
        columns = [_values(column.combine_chunks()) for column in table.columns]
        names = table.column_names
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(column: pa.Array) -> Sequence[Any]:
    if not isinstance(column, pa.ListArray):
        return column.to_pylist()
    numbers = column.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    return torch.from_numpy(numbers).split(column.value_lengths().to_pylist())


class _Steps(Sampler[list[int]]):
    """The examples of every step still to be taken."""

    def __init__(self, order: batching.Order, first_step: int, steps: int):
        self._order, self._first_step, self._steps = order, first_step, steps

    def __len__(self) -> int:
        return self._steps  # of the whole training, as Trainer counts

    def __iter__(self) -> Iterator[list[int]]:
        return self._order.batches(self._first_step, self._steps)
