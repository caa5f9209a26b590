"""The first cells, before anything is known: three batch sizes with three or more rates each."""

import numpy as np

from analysis.design.space import Cell, Space

SIZES = 3
FEWEST_RATES, MOST_RATES = 3, 4


def first_cells(space: Space) -> list[Cell]:
    """The smallest, the largest and a middle batch size; the rates of each spread over the grid's,
    a third of a step further from one batch size to the next, so that together they are many. Those
    of the middle come first."""
    sizes = _spread(space.batch_sizes, min(SIZES, len(space.batch_sizes)))
    count = len(space.learning_rates)
    per_size = min(count, MOST_RATES if count > 2 * FEWEST_RATES else FEWEST_RATES)
    cells = []
    for number, size in enumerate(sizes):
        shift = (number + 0.5) / len(sizes)
        places = (np.arange(per_size) + shift) * count / per_size
        rates = [space.learning_rates[int(place)] for place in places]
        cells.append([Cell(rate, size, space.seeds[0]) for rate in rates])
    by_rate = zip(*cells, strict=True)
    middle = (per_size - 1) / 2
    ordered = sorted(enumerate(by_rate), key=lambda pair: (abs(pair[0] - middle), pair[0]))
    return [cell for _, row in ordered for cell in row]


def _spread(values: tuple[int, ...], count: int) -> list[int]:
    places = np.linspace(0, len(values) - 1, count).round().astype(int)
    return [values[place] for place in places]
