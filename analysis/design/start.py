"""The first cells, before anything is known: three batch sizes with three or more rates each."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from analysis.design.space import Cell, Space

SIZES = 3
FEWEST_RATES, MOST_RATES = 3, 4

NEAR = 2.5
"""Octaves on both sides of an expected rate among which the first rates are spread: published
settings of one task lie up to five octaves apart."""


class Expected(NamedTuple):
    """Where the best learning rates may lie. The fit never sees it: a wrong one costs the trials of
    the start and no coverage."""

    rates: Mapping[int, float]
    """At each batch size of the grid."""
    source: str
    """In words."""


def first_cells(space: Space, expected: Expected | None = None) -> list[Cell]:
    """The smallest, the largest and a middle batch size; the rates of each spread over the grid's,
    or over those near the expected one, a third of a step further from one batch size to the next,
    so that together they are many. Those of the middle come first."""
    sizes = _spread(space.batch_sizes, min(SIZES, len(space.batch_sizes)))
    every = space.learning_rates
    wanted = MOST_RATES if len(every) > 2 * FEWEST_RATES else FEWEST_RATES
    per_size = min(len(every), wanted)
    cells = []
    for number, size in enumerate(sizes):
        near = every if expected is None else _near(every, expected.rates[size], per_size)
        shift = (number + 0.5) / len(sizes)
        places = (np.arange(per_size) + shift) * len(near) / per_size
        rates = [near[int(place)] for place in places]
        cells.append([Cell(rate, size, space.seeds[0]) for rate in rates])
    by_rate = zip(*cells, strict=True)
    middle = (per_size - 1) / 2
    ordered = sorted(enumerate(by_rate), key=lambda pair: (abs(pair[0] - middle), pair[0]))
    return [cell for _, row in ordered for cell in row]


def _near(rates: tuple[float, ...], middle: float, fewest: int) -> tuple[float, ...]:
    """Those within `NEAR` octaves, and the nearest where these are too few; rising."""
    apart = np.abs(np.log2(np.array(rates) / middle))
    count = max(fewest, int((apart <= NEAR).sum()))
    return tuple(rates[place] for place in sorted(np.argsort(apart, kind="stable")[:count]))


def _spread(values: tuple[int, ...], count: int) -> list[int]:
    places = np.linspace(0, len(values) - 1, count).round().astype(int)
    return [values[place] for place in places]
