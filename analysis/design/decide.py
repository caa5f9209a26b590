"""The next cells to run, each with its reason, or the reason to stop. Pure: the same results and
settings give the same decision."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from analysis.advice.answers import answers
from analysis.design.choose import contrast_weights, ensemble, gains, updated
from analysis.design.questions import LEVEL, Asked, asked, open_sides
from analysis.design.space import Cell, Space, Tried, candidates
from analysis.design.start import Expected, had_another_start, start_left
from analysis.fit.surface import Fit
from analysis.tables.records.decided import Stop
from analysis.text import counted, listed, rate

EARLIEST = 21
"""Results before which nothing counts as decided: intervals of few cells come and go."""

REPEATS = 4
"""Replicates from which the noise between seeds is known well enough."""

REPEAT_FROM = 12
"""Trials, without those that failed, from which replicates are asked for."""


ENOUGH = 6
"""Scored settings from which the fits choose."""

FEWEST = 3
"""Scored settings from which they do where no further one of the grid or below it would train."""

NO_CELL = Stop("no_cell", "no cell is left that would train")


class Choice(NamedTuple):
    cell: Cell
    reason: str


class Decision(NamedTuple):
    """What to run next; `stop` says why nothing, None while there is something. `open_questions`
    are those not decided."""

    choices: tuple[Choice, ...]
    stop: Stop | None
    open_questions: tuple[Asked, ...] = ()


class Settings(NamedTuple):
    """`trials` in all, the width in `octaves` at which an interval decides, and where the best
    rates are `expected`, for the first cells alone. With `screening` runs one start may follow
    another. `benchmarks` are those asked about; where there are none, those of the fits."""

    trials: int
    octaves: float
    expected: Expected | None = None
    screening: bool = False
    benchmarks: tuple[str, ...] = ()


def decide(
    fits: Sequence[Fit],
    tried: Sequence[Tried],
    space: Space,
    settings: Settings,
    count: int,
    allowed: Collection[Cell] | None = None,
) -> Decision:
    """At most `count` further cells. `fits` are those of the benchmarks asked for, of the cells of
    `tried` that have ended; `allowed` are the cells that can be run (all where None). A trial that
    failed uses the budget and tells nothing."""
    count = min(count, settings.trials - len(tried))
    start = start_left(tried, space, allowed, settings.expected)[: max(count, 0)]
    usable = _usable(fits, ENOUGH)
    edited = not settings.screening and had_another_start(tried, space, settings.expected)
    if start and not (usable and edited):
        choices = [Choice(cell, _where(settings.expected, cell)) for cell in start]
        return Decision(tuple(choices), None)
    running = any(trial.status == "running" for trial in tried)
    unscored = _unscored(settings.benchmarks, fits, usable, tried)
    if not usable:
        blind = _blind(tried, space, allowed, settings, count, ["lower"])
        if blind.choices or running or count <= 0:
            return blind._replace(open_questions=unscored)
        usable = _usable(fits, FEWEST)
        unscored = _unscored(settings.benchmarks, fits, usable, tried)
    if not usable:
        blind = _blind(tried, space, allowed, settings, count, _untold_sides(tried))
        return blind._replace(open_questions=unscored)
    given = answers(usable)
    sides = open_sides(usable, given, space)
    closed = [side for side in ("lower", "higher") if not _extendable(side, usable, space, tried)]
    questions = asked(given, settings.octaves, _results(usable), closed)
    left = tuple(question for question in questions if not question.decided)
    results = sum(trial.status in ("ok", "diverged") for trial in tried)
    at_end = len(tried) >= settings.trials and not running
    if not left and not unscored and (results >= EARLIEST or at_end):
        level = dict.fromkeys(
            question.benchmark for question in questions if question.answer == LEVEL
        )
        reason = f"every question is decided within {settings.octaves:g} octaves"
        reason += f", and {listed(list(level))} is level" if level else ""
        return Decision((), Stop("answered", reason))
    if count <= 0:
        return Decision((), _spent(settings.trials), (*left, *unscored))
    cells = candidates(space, tried, allowed, sides)
    if not cells:
        return Decision((), NO_CELL, (*left, *unscored))
    chosen = _chosen(usable, tried, space, sides, cells, left, count)
    return Decision(tuple(chosen), None, (*left, *unscored))


def _usable(fits: Sequence[Fit], fewest: int) -> list[Fit]:
    return [fit for fit in fits if fit.cells.ok.sum() >= fewest and fit.curves is not None]


def _results(fits: Sequence[Fit]) -> dict[str, int]:
    """Benchmark -> trials with a score of it or that diverged."""
    tables = {fit.cells.benchmark: fit.cells.table for fit in fits}
    return {
        name: int(table.seeds.sum() + table.diverged_seeds.sum()) for name, table in tables.items()
    }


def _unscored(
    benchmarks: Sequence[str], fits: Sequence[Fit], usable: Sequence[Fit], tried: Sequence[Tried]
) -> tuple[Asked, ...]:
    """The question of each of the `benchmarks` that has no fit to answer it."""
    answering = {fit.cells.benchmark for fit in usable}
    scores = {fit.cells.benchmark: int(fit.cells.table.seeds.sum()) for fit in fits}
    ended = counted(sum(trial.status != "running" for trial in tried), "trial")
    return tuple(
        Asked(
            name,
            f"a best learning rate ({scores.get(name, 'too few')} of {ended} have a score)",
            False,
            "too few scores",
        )
        for name in benchmarks
        if name not in answering
    )


def _untold_sides(tried: Sequence[Tried]) -> list[str]:
    """Borders beyond which cells may train, as long as no fit says where a top lies."""
    diverged = any(trial.status == "diverged" for trial in tried)
    return ["lower", "smaller", "larger", *([] if diverged else ["higher"])]


def _where(expected: Expected | None, cell: Cell) -> str:
    if expected is None:
        return "start: cells spread over the grid"
    here = f"{rate(expected.rates[cell.batch_size])} at batch size {cell.batch_size}"
    return f"start: cells about the rates of {expected.source}: {here}"


def _blind(
    tried: Sequence[Tried],
    space: Space,
    allowed: Collection[Cell] | None,
    settings: Settings,
    count: int,
    sides: Sequence[str],
) -> Decision:
    """Where too few cells have a score for a fit: those farthest from all that were tried, of the
    grid and beyond these borders."""
    if count <= 0:
        return Decision((), _spent(settings.trials))
    cells = candidates(space, tried, allowed, sides)
    cells = [cell for cell in cells if cell.setting not in {trial.cell.setting for trial in tried}]
    if not cells:
        return Decision((), NO_CELL)
    known = np.log2(np.array([trial.cell.setting for trial in tried], dtype=float))
    choices = []
    for _ in range(min(count, len(cells))):
        points = np.log2(np.array([cell.setting for cell in cells], dtype=float))
        apart = ((points[:, None] - known[None]) ** 2).sum(axis=2).min(axis=1)
        cell = cells[int(apart.argmax())]
        known = np.vstack([known, np.log2(np.array(cell.setting, dtype=float))])
        choices.append(Choice(cell, "too few cells have a score: the farthest from those tried"))
    return Decision(tuple(choices), None)


def _chosen(
    fits: Sequence[Fit],
    tried: Sequence[Tried],
    space: Space,
    sides: Sequence[str],
    cells: list[Cell],
    left: Sequence[Asked],
    count: int,
) -> list[Choice]:
    running = [trial.cell for trial in tried if trial.status == "running"]
    every = [*cells, *running]
    rates = [cell.learning_rate for cell in every] + [trial.cell.learning_rate for trial in tried]
    sizes = [*(space.smaller if "smaller" in sides else ()), *space.batch_sizes]
    sizes += space.larger if "larger" in sides else ()
    ends = min(rates), max(rates)
    of = [
        ensemble(fit, every, ends, sorted(sizes), weight)
        for fit, weight in zip(fits, contrast_weights(fits), strict=True)
    ]
    for place in range(len(cells), len(every)):
        of = updated(of, place)
    names = {question.benchmark for question in left} or {fit.cells.benchmark for fit in fits}
    wanted = [np.full(len(sizes) + 1, fit.cells.benchmark in names or "" in names) for fit in fits]
    contrast = not left or any(not question.benchmark for question in left)
    begun = [trial.cell.setting for trial in tried if trial.status != "failed"]
    seen = set(begun)
    repeats = len(begun) - len(seen)
    choices: list[Choice] = []
    free = np.ones(len(cells), dtype=bool)
    for _ in range(min(count, len(cells))):
        gain = gains(of, wanted, contrast)[: len(cells)]
        again = np.array([cell.setting in seen for cell in cells])
        few = len(begun) + len(choices) >= REPEAT_FROM and repeats < REPEATS
        measure = few and bool(again[free].any())
        usable = free & again if measure else free
        best = int(np.where(usable, gain, -np.inf).argmax())
        cell, free[best] = cells[best], False
        repeats += cell.setting in seen
        seen.add(cell.setting)
        of = updated(of, best)
        choices.append(Choice(cell, _reason(cell, gain[best], again[best], measure, space, left)))
    return choices


def _reason(
    cell: Cell, gain: float, again: bool, measure: bool, space: Space, left: Sequence[Asked]
) -> str:
    what = "a cell of the grid"
    if again:
        what = "a replicate"
    elif cell.learning_rate not in space.learning_rates or cell.batch_size not in space.batch_sizes:
        what = "a cell beyond the border"
    if measure:
        return f"{what}: the noise between seeds is not known yet"
    questions = counted(len(left), "question") if left else "the answers"
    return f"{what}: expected to shorten {questions} by {gain:.2f} octaves in all"


def _extendable(side: str, fits: Sequence[Fit], space: Space, tried: Sequence[Tried]) -> bool:
    """Whether cells beyond this border of the rates can still be run."""
    added = getattr(space, side)
    if side == "higher" and any(fit.curves is not None and fit.curves.wall.any() for fit in fits):
        return False
    ran = {trial.cell.learning_rate for trial in tried if trial.status != "failed"}
    ends = space.learning_rates[0], space.learning_rates[-1]
    beyond = [*added] if added else []
    beyond += [ends[0] if side == "lower" else ends[1]]
    return any(rate not in ran for rate in beyond)


def _spent(trials: int) -> Stop:
    return Stop("budget", f"the budget of {counted(trials, 'trial')} is spent")
