"""Which batch size: whether smaller or larger is better, or an inner one, or none matters."""

from enum import StrEnum
from typing import NamedTuple

import numpy as np

from analysis.fit.curves import Curves

CALLED = 0.7
"""Share of draws that decides a direction."""

INDIFFERENT = 0.95
"""Share of draws in which all batch sizes are as good for them to be called so."""

BOUND = 0.95

OCTAVE = 1.0
"""Of learning rates: how far beyond the measured ones the best of the next batch size may lie."""


class Batch(StrEnum):
    """Direction in which the score improves, each batch size at its own best learning rate."""

    SMALLER = "smaller"
    LARGER = "larger"
    INTERIOR = "interior"
    INDIFFERENT = "indifferent"
    UNDECIDED = "undecided"


class Direction(NamedTuple):
    """`verdict` with the probabilities behind it.

    best: measured batch size that is most often the best, of the inner ones where the verdict is
    interior; p_best: share of draws for each measured batch size, in their order; p_smaller,
    p_larger, p_interior: shares of draws whose best batch size is the smallest, the largest, one
    between; p_indifferent: share in which the best and the worst batch size differ by less than
    epsilon. next_batch_size: half the smallest (or twice the largest, where larger is
    better), or the first one on that side that was run and has no score; next_gain, next_gain_high:
    what it would gain at its own best rate, expected and 95 % bound, in the metric's units. These
    are extrapolations, None where it was run, with one batch size and below 1.
    """

    verdict: Batch
    best: int
    batch_sizes: tuple[int, ...]
    p_best: tuple[float, ...]
    p_smaller: float
    p_larger: float
    p_interior: float
    p_indifferent: float
    next_batch_size: int | None
    next_gain: float | None
    next_gain_high: float | None


def direction(curves: Curves, shaped: bool) -> Direction:
    """Of the best score at each measured batch size; of one rate each none is called."""
    count = len(curves.y)
    profile = _profile(curves)
    first = profile.argmax(axis=1)
    p_best = np.bincount(first, minlength=count) / len(first)
    spread = np.ptp(profile, axis=1)
    p_indifferent = float((spread <= curves.epsilon).mean())
    inner = float(p_best[1:-1].sum())
    shares = {
        Batch.SMALLER: float(p_best[0]),
        Batch.LARGER: float(p_best[-1]),
        Batch.INTERIOR: inner,
    }
    likely = max(shares, key=lambda side: shares[side])
    one_each = curves.no_rates and curves.cells.table.x.nunique() > 1
    if count < 2 or not shaped or one_each:
        verdict = Batch.UNDECIDED
    elif p_indifferent >= INDIFFERENT:
        verdict = Batch.INDIFFERENT
    else:
        verdict = likely if shares[likely] >= CALLED else Batch.UNDECIDED
    likeliest = p_best.argmax() if verdict is not Batch.INTERIOR else 1 + p_best[1:-1].argmax()
    size, expected, high = _beyond(curves, larger=p_best[-1] > p_best[0])
    return Direction(
        verdict=verdict,
        best=int(curves.batch_sizes[likeliest]),
        batch_sizes=tuple(int(size) for size in curves.batch_sizes),
        p_best=tuple(float(share) for share in p_best),
        p_smaller=shares[Batch.SMALLER],
        p_larger=shares[Batch.LARGER],
        p_interior=inner,
        p_indifferent=p_indifferent,
        next_batch_size=size,
        next_gain=expected,
        next_gain_high=high,
    )


def _profile(curves: Curves) -> np.ndarray:
    """The best score at each batch size, draws x K: where its top is not inside the measured rates
    in most draws, that at rates up to an octave beyond them."""
    profile = curves.profile.copy()
    for row in np.flatnonzero(curves.falls.both.mean(axis=0) < 0.5):
        profile[:, row] = np.maximum(profile[:, row], _best_nearby(curves, curves.y[row], int(row)))
    return profile


def _best_nearby(curves: Curves, y: float, row: int) -> np.ndarray:
    """Each draw's best score at log2 batch size y, at rates up to an octave beyond the measured
    ones, but no higher where some diverged at batch size number `row`."""
    rates = curves.x[curves.measured.any(axis=0)]
    highest = rates.max() + (0 if curves.wall[row] else OCTAVE)
    x = curves.x[(curves.x >= rates.min() - OCTAVE) & (curves.x <= highest)]
    scores = curves.posterior.scores(x, np.full_like(x, y))
    return np.minimum(scores.max(axis=1), curves.cells.bounds[1])


def _beyond(curves: Curves, larger: bool) -> tuple[int | None, float | None, float | None]:
    """The next batch size beyond the border, its expected gain and the bound of that."""
    if len(curves.y) < 2:
        return None, None, None
    last = int(curves.batch_sizes[-1 if larger else 0])
    run = curves.cells.table.batch_size
    without_score = run[run > last if larger else run < last]
    if len(without_score):
        return int(without_score.min() if larger else without_score.max()), None, None
    size = last * 2 if larger else last // 2
    if size < 1:
        return None, None, None
    gain = _best_nearby(curves, np.log2(size), -1 if larger else 0) - curves.best
    return size, max(float(gain.mean()), 0.0), max(float(np.quantile(gain, BOUND)), 0.0)
