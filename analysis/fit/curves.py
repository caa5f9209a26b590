"""Joint draws of the score along the learning rate at each measured batch size.

Every answer about rate, ratio, exponent, batch size, setting and task types is read from these
draws, so that no two of them can disagree.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from analysis.fit.divergence import infeasible, upper_end, without_far_divergence
from analysis.fit.measured import no_rates, reach
from analysis.fit.optimum import tolerance
from analysis.posterior.cells import Cells
from analysis.posterior.condition import Posterior

STEPS = 40
"""Steps of the mesh over the measured learning rates."""

FALL = 0.02
"""A curve falls on a side if it loses more than this share of its range, from its top to the end
of the measured rates on that side. A curve that levels off does not."""


class Curves:
    """Draws of score(x, y) at the measured batch sizes, better when higher.

    `y`: log2 batch sizes, K; `x`: log2 learning rates of a regular mesh, M, wider than the measured
    ones by the span of y on both sides, so that a rule of one ratio can be priced everywhere;
    `height`: draws x K x M; `measured` (K x M): mesh points that train, between the lowest and the
    highest measured rate and within `reach` of their batch size; `no_rates`: why no rate can be
    called the best at a batch size, "" where one may be; `wall` (K): a cell of this batch size that
    diverged bounds its rates from above. One of another batch size does not say where this one
    diverges.
    """

    def __init__(self, cells: Cells, posterior: Posterior) -> None:
        cells = without_far_divergence(cells)
        ok = cells.table.loc[cells.ok]
        self.cells = cells
        self.posterior = posterior
        self.epsilon = tolerance(cells)
        self.batch_sizes = np.unique(ok.batch_size.to_numpy())
        self.y = np.log2(self.batch_sizes.astype(float))
        low, high = float(ok.x.min()), upper_end(cells)
        span = float(np.ptp(self.y))
        if high > low:
            step = (high - low) / STEPS
            extra = int(np.ceil(span / step))
            self.x = low + step * np.arange(-extra, STEPS + extra + 1)
            inner = np.zeros(len(self.x), dtype=bool)
            inner[extra : extra + STEPS + 1] = True
        else:
            self.x = np.array([low])
            inner = np.ones(1, dtype=bool)
        x, y = np.meshgrid(self.x, self.y)
        trains = ~infeasible(cells, x.ravel(), y.ravel()).reshape(x.shape)
        least, most = (end[:, None] for end in reach(cells, self.y))
        self.measured = trains & inner & (x >= least - 1e-9) & (x <= most + 1e-9)
        for row in np.flatnonzero(~self.measured.any(axis=1)):  # next to diverged cells only
            own = ok.x[ok.batch_size == self.batch_sizes[row]].to_numpy()
            self.measured[row, np.abs(self.x[:, None] - own).argmin(axis=0)] = True
        scores = posterior.scores(x.ravel(), y.ravel()).astype(np.float32)  # half the memory
        self.height = scores.reshape(-1, *x.shape)
        within = np.where(self.measured, self.height, np.inf)
        self.height = np.where(trains | self.measured, self.height, within.min(axis=2)[:, :, None])

    @cached_property
    def no_rates(self) -> str:
        return no_rates(self.cells)

    @cached_property
    def inside(self) -> np.ndarray:
        """`height` where measured, -inf elsewhere."""
        return np.where(self.measured, self.height, -np.inf)

    @cached_property
    def profile(self) -> np.ndarray:
        """Best score at each batch size, draws x K."""
        return self.inside.max(axis=2)

    @cached_property
    def best(self) -> np.ndarray:
        """Best score within the measured batch sizes and rates, one per draw."""
        return self.profile.max(axis=1)

    @cached_property
    def tops(self) -> np.ndarray:
        """log2 of the best learning rate at each batch size, draws x K; between mesh points by the
        parabola through the highest point and its neighbours. A draw that still rises where
        training diverges has its best rate anywhere between the last rate that trains and the
        first that does not."""
        top = self.inside.argmax(axis=2)
        if len(self.x) < 3:
            return self.x[top]
        tops = self._between(top)
        rng = np.random.default_rng(len(tops))
        for row, (low, high) in self.walls.items():
            at_wall = np.flatnonzero(top[:, row] == self.ends[1][row])
            share = (rng.permutation(len(at_wall)) + 0.5) / max(len(at_wall), 1)
            tops[at_wall, row] = low + share * (high - low)
        return tops

    def mean_top(self, sizes: Sequence[int]) -> np.ndarray:
        """Mean over these batch sizes of log2 of the best rate, one per draw."""
        return self.tops[:, np.isin(self.batch_sizes, sizes)].mean(axis=1)

    @cached_property
    def wall(self) -> np.ndarray:
        return np.isin(np.arange(len(self.y)), list(self.walls))

    @cached_property
    def walls(self) -> dict[int, tuple[float, float]]:
        """By position of the batch size: log2 of the last rate that trains and of the first above
        it that diverged, where there are both."""
        table, walls = self.cells.table, {}
        for row, size in enumerate(self.batch_sizes):
            own = table.loc[table.batch_size == size]
            last = own.x[own.status == "ok"].max()
            beyond = own.x[(own.status == "diverged") & (own.x > last)]
            if not beyond.empty:
                walls[row] = (float(last), float(beyond.min()))
        return walls

    def _between(self, top: np.ndarray) -> np.ndarray:
        draws, sizes = np.ogrid[: len(top), : len(self.y)]
        middle = np.clip(top, 1, len(self.x) - 2)
        left, centre, right = (self.height[draws, sizes, middle + k] for k in (-1, 0, 1))
        free = self.measured[sizes, middle - 1] & self.measured[sizes, middle + 1] & (top == middle)
        bend = left - 2 * centre + right
        offset = np.where(free & (bend < 0), 0.5 * (left - right) / np.where(bend < 0, bend, -1), 0)
        return self.x[top] + np.clip(offset, -0.5, 0.5) * (self.x[1] - self.x[0])

    @cached_property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """First and last measured mesh point of each batch size."""
        first = self.measured.argmax(axis=1)
        last = self.measured.shape[1] - 1 - self.measured[:, ::-1].argmax(axis=1)
        return first, last

    @cached_property
    def falls(self) -> "Falls":
        """On which sides of its top each draw's curve falls (see `FALL`)."""
        first, last = self.ends
        sizes = np.arange(len(self.y))
        lowest = np.where(self.measured, self.height, np.inf).min(axis=2)
        needed = FALL * (self.profile - lowest)
        below = self.profile - self.height[:, sizes, first] > needed
        above = self.profile - self.height[:, sizes, last] > needed
        return Falls(below, above | (self.wall & (last > first)))

    @cached_property
    def priced(self) -> np.ndarray:
        """`height`, but the lowest measured one between the last rate that trains and the first
        that diverged: a rule to keep must not depend on where in between training breaks."""
        height = self.height.copy()
        lowest = np.where(self.measured, self.height, np.inf).min(axis=2)
        for row, (last, _) in self.walls.items():
            height[:, row, self.x > last + 1e-9] = lowest[:, [row]]
        return height

    def at(self, x: np.ndarray) -> np.ndarray:
        """Scores (`priced`) at log2 rates x (K x C: a column per candidate), draws x K x C, linear
        between mesh points and constant beyond the mesh."""
        if len(self.x) < 2:
            return np.broadcast_to(self.height, (*self.height.shape[:2], x.shape[1]))
        place = np.clip((x - self.x[0]) / (self.x[1] - self.x[0]), 0, len(self.x) - 1)
        left = np.minimum(place.astype(int), len(self.x) - 2)
        share = place - left
        sizes = np.arange(len(self.y))[:, None]
        lower, upper = self.priced[:, sizes, left], self.priced[:, sizes, left + 1]
        return (1 - share) * lower + share * upper


class Falls(NamedTuple):
    """Whether the score falls towards lower and towards higher rates: draws x K each."""

    below: np.ndarray
    above: np.ndarray

    @property
    def both(self) -> np.ndarray:
        return self.below & self.above
