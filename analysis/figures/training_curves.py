"""The training loss of every trial of a grid, as one chart."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from analysis.figures.chart import Axis, Chart, Line
from analysis.figures.style import shades
from analysis.text import number, rate

MOST_POINTS = 16_000
"""Of all curves of a grid together: 200 kB of a page."""


class TrainingCurve(NamedTuple):
    """Smoothed loss against tokens trained on, of one trial."""

    learning_rate: float
    batch_size: int
    seed: int | None
    status: str
    tokens: np.ndarray
    loss: np.ndarray


def points_per_curve(trials: int) -> int:
    """How many points of each curve are kept."""
    return int(np.clip(MOST_POINTS // max(trials, 1), 8, 80))


def training_curves(title: str, curves: Sequence[TrainingCurve]) -> Chart | None:
    """A line per trial, from low to high learning rates in rising shades; None without any.

    The loss axis ends where 95 % of all points lie below, so that a trial that diverged does not
    flatten the others; a line leaves the chart at the top where its loss does.
    """
    curves = [curve for curve in curves if len(curve.tokens) > 1]
    if not curves:
        return None
    rates = sorted({curve.learning_rate for curve in curves})
    colours = dict(zip(rates, shades(len(rates)), strict=True))
    named: set[float] = set()
    layers = []
    for curve in sorted(curves, key=lambda curve: (curve.learning_rate, curve.batch_size)):
        first = curve.learning_rate not in named
        named.add(curve.learning_rate)
        layers.append(
            Line(
                curve.tokens,
                curve.loss,
                name=f"learning rate {rate(curve.learning_rate)}" if first else "",
                colour=colours[curve.learning_rate],
                width=1.2,
                dash="dot" if curve.status == "diverged" else "solid",
                note=_note(curve),
                cell=cell_name(curve.learning_rate, curve.batch_size),
            )
        )
    losses = np.concatenate([curve.loss[np.isfinite(curve.loss)] for curve in curves])
    low, high = float(losses.min()), float(np.quantile(losses, 0.95))
    room = 0.05 * max(high - low, 1e-3)
    end = max(float(curve.tokens.max()) for curve in curves)
    x_axis = Axis("tokens trained on", 0.0, 1.02 * end)
    return Chart(title, x_axis, Axis("training loss, smoothed", low - room, high + room), layers)


def curve_points(records: Sequence[Mapping[str, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (steps where they were not recorded) and smoothed loss. A record with neither tokens
    nor step is left out."""
    records = [record for record in records if "tokens" in record or "step" in record]
    tokens = [record.get("tokens", record.get("step", np.nan)) for record in records]
    loss = [record.get("smoothed_loss", record.get("loss", np.nan)) for record in records]
    return np.array(tokens, dtype=float), np.array(loss, dtype=float)


def cell_name(learning_rate: float, batch_size: int) -> str:
    """What a click on a cell of the contour looks its curves up by."""
    return f"{learning_rate:.5g} x {batch_size}"


def _note(curve: TrainingCurve) -> str:
    seed = "" if curve.seed is None else f", seed {curve.seed}"
    setting = f"learning rate {rate(curve.learning_rate)}, batch size {curve.batch_size}{seed}"
    last = curve.loss[np.isfinite(curve.loss)]
    ended = f"{curve.status}, loss {number(float(last[-1]), 3)} at the end" if len(last) else ""
    return f"{setting}\n{ended or curve.status}"
