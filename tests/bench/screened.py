"""`decide` with screening runs on simulated surfaces, for `bench_decide --fidelity`.

A short run sees the full surface with its best rates displaced, or a surface that has nothing to do
with it. Runs of both lengths are ranked by a held-out loss: what a benchmark shows, with a
`SHARP`th of the noise. (In the quickstart that loss ranges over 2 nats, and seeds differ by .005 to
.04.)
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from analysis.design import screening
from analysis.design.decide import Settings, decide
from analysis.design.space import Cell, Space, Tried
from analysis.design.start import screening_cells
from analysis.fit.surface import Fit, fit
from tests.bench.simulated import Function, Laboratory

SHARP = 20.0
SHARE = 0.25
"""Of the full length."""

AT_ONCE = 3


class Look(NamedTuple):
    """`tokens` in full runs, the screening runs among them; `refused` where their rankings were
    found to disagree, or they showed nothing."""

    cells: list[Cell]
    tokens: float
    refused: bool


def short_surfaces(full: Function, other: Function, octaves: float) -> dict[str, Function]:
    """By name: with the best rates of the full surface, with them displaced, and another one."""
    offsets = (0.0, octaves, -octaves)
    return {f"{off:+g} octaves": _displaced(full, off) for off in offsets} | {"unrelated": other}


def ends(
    lab: Laboratory,
    space: Space,
    settings: Settings,
    budgets: Sequence[int],
    shorts: Mapping[str, Function],
    full: Function,
    rng: np.random.Generator,
) -> Iterator[tuple[str, Look]]:
    """For each of the short surfaces the last look within each budget, named after both; `lab` has
    the benchmark of the full runs."""
    for name, short in shorts.items():
        every = list(_looks(lab, space, settings, short, full, rng))
        for budget in budgets:
            yield f"{name}, {budget}", [look for look in every if len(look.cells) <= budget][-1]


def _looks(
    lab: Laboratory,
    space: Space,
    settings: Settings,
    short: Function,
    full: Function,
    rng: np.random.Generator,
) -> Iterator[Look]:
    screened = screening_cells(space)
    losses = [Laboratory(_sharp(score), screened, rng) for score in (short, full)]
    seen = losses[0].cells(screened)
    expected = screening.expected([fit(seen)] if seen else [], space, screened, "short runs")
    spent = SHARE * len(screened)
    tried: list[Tried] = []
    fits: list[Fit] = []
    while True:
        kept = expected
        if expected is not None:
            ran = [trial.cell for trial in tried if trial.cell in screened]
            kept, _ = screening.standing(
                expected, tried, space, None, losses[0].rows(screened), losses[1].rows(ran)
            )
        asked = settings._replace(expected=kept, screening=True)
        chosen = decide(fits, tried, space, asked, AT_ONCE)
        if tried:
            yield Look([trial.cell for trial in tried], spent + len(tried), kept is None)
        if not chosen.choices:
            return
        tried += [Tried(one.cell, lab.status(one.cell)) for one in chosen.choices]
        cells = lab.cells([trial.cell for trial in tried])
        fits = [fit(cells)] if cells is not None else []


def _sharp(score: Function) -> Function:
    return lambda x, y: 0.4 + SHARP * (score(x, y) - 0.4)


def _displaced(score: Function, octaves: float) -> Function:
    """The surface with its best rates so much higher."""
    return lambda x, y: score(x - octaves, y)
