"""The first cells, before anything is known: three batch sizes with three or more rates each."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from analysis.design.space import Cell, Space, Tried, diverging

SIZES = 3
FEWEST_RATES, MOST_RATES = 3, 4

NEAR = 2.5
"""Octaves on both sides of an expected rate among which the first rates are spread: published
settings of one task lie up to five octaves apart."""

SCREENED = 2
"""Cells that are screened for each cell of the start."""


class Expected(NamedTuple):
    """Where the best learning rates may lie. The fit never sees it: a wrong one costs the trials of
    the start and no coverage."""

    rates: Mapping[int, float]
    """At each batch size of the grid."""
    source: str
    """In words."""
    screened: tuple[Cell, ...] = ()
    """The cells that the start is taken from; any of the grid's where there are none."""
    diverged: frozenset[Cell] = frozenset()
    """Those of them that have diverged, in a short run. The full one may train, so they come last
    in the start: the first that diverges leaves out those with a rate and a ratio as high."""


def first_cells(space: Space, expected: Expected | None = None) -> list[Cell]:
    """The smallest, the largest and a middle batch size; the rates of each spread over the grid's,
    or over those near the expected one, a third of a step further from one batch size to the next,
    so that together they are many. Those of the middle come first, those that are known to diverge
    last."""
    near = dict.fromkeys(_sizes(space), space.learning_rates)
    if expected is not None:
        screened = expected.screened
        if screened:
            near = {
                size: tuple(sorted(c.learning_rate for c in screened if c.batch_size == size))
                for size in near
            }
        near = {size: _near(r, expected.rates[size], _count(space)) for size, r in near.items()}
    cells = _laid(near, _count(space), space.seeds[0])
    diverged = frozenset() if expected is None else expected.diverged
    known = sorted(cell for cell in cells if cell in diverged)
    return [*(cell for cell in cells if cell not in diverged), *known]


def screening_cells(space: Space) -> list[Cell]:
    """Those of the start, and as many between them."""
    rates = dict.fromkeys(_sizes(space), space.learning_rates)
    count = min(len(space.learning_rates), SCREENED * _count(space))
    return _laid(rates, count, space.seeds[0])


def start_left(
    tried: Sequence[Tried],
    space: Space,
    allowed: Collection[Cell] | None,
    expected: Expected | None,
) -> list[Cell]:
    """First cells that were not tried yet and would train; all may run where `allowed` is None."""
    begun = {trial.cell for trial in tried}
    start = first_cells(space, expected)
    start = [c for c in start if c not in begun and (allowed is None or c in allowed)]
    bad = diverging([cell.setting for cell in start], tried)
    return [cell for cell, diverges in zip(start, bad, strict=True) if not diverges]


def had_another_start(
    tried: Sequence[Tried], space: Space, expected: Expected | None = None
) -> bool:
    """Whether as many cells as a start has were tried, and these began with another one, as where
    the grid was edited since: its first cell always runs, and all do where none diverges."""
    begun = {trial.cell for trial in tried}
    start = first_cells(space, expected)
    if len(begun) < len(start):
        return False
    diverged = any(trial.status == "diverged" for trial in tried)
    return start[0] not in begun or (not diverged and not begun.issuperset(start))


def _laid(near: Mapping[int, tuple[float, ...]], count: int, seed: int) -> list[Cell]:
    """`count` cells of each batch size, spread over its rates."""
    cells = []
    for number, (size, rates) in enumerate(near.items()):
        shift = (number + 0.5) / len(near)
        places = (np.arange(count) + shift) * len(rates) / count
        cells.append([Cell(rates[int(place)], size, seed) for place in places])
    by_rate = zip(*cells, strict=True)
    middle = (count - 1) / 2
    ordered = sorted(enumerate(by_rate), key=lambda pair: (abs(pair[0] - middle), pair[0]))
    return [cell for _, row in ordered for cell in row]


def _count(space: Space) -> int:
    """Rates of each batch size of the start."""
    wanted = MOST_RATES if len(space.learning_rates) > 2 * FEWEST_RATES else FEWEST_RATES
    return min(len(space.learning_rates), wanted)


def _near(rates: tuple[float, ...], middle: float, fewest: int) -> tuple[float, ...]:
    """Those within `NEAR` octaves, and the nearest where these are too few; rising."""
    apart = np.abs(np.log2(np.array(rates) / middle))
    count = max(fewest, int((apart <= NEAR).sum()))
    return tuple(rates[place] for place in sorted(np.argsort(apart, kind="stable")[:count]))


def _sizes(space: Space) -> list[int]:
    count = min(SIZES, len(space.batch_sizes))
    places = np.linspace(0, len(space.batch_sizes) - 1, count).round().astype(int)
    return [space.batch_sizes[place] for place in places]
