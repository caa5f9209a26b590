"""`--extend`: after a grid, what its report asks to run next, round after round.

A round is the grid file that the report offers (`analysis.advice.next_grid`): the same with longer
axes or more seeds, so that only what is new runs. What it offers for several arms of a stage is one
round; a stage waits for those before it. Each file stands in extended/ of the run folder. The
limits of the file hold for all rounds of one start together. A start goes on with the last round of
an earlier one, which may not have ended.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from analysis.advice import grid_file
from analysis.text import listed
from sweep import drive as driver
from sweep.execution import remote_run
from sweep.gridfile import load
from sweep.gridfile.keys.schema import Grid, Limits
from sweep.gridfile.load import GridError
from sweep.options import Options
from sweep.plan import trials
from sweep.plan.trials import Trial
from sweep.resolve.resolve import CannotStart
from sweep.schedule import selection
from sweep.storage import events
from sweep.storage.remote.object_store import Unreachable
from sweep.storage.run_folder import RunFolder
from sweep.storage.run_log import RunConsole
from sweep.terminal.answer import RECOMMENDATIONS
from trainers import files

ROOM = "extended"
"""Of the run folder, where the grid file of each round stands."""

MARK = "# Cells of the grid it began with: "
"""Begins the first line of a round's file; a hash of the cells follows."""

OPEN = ("failed", "planned")
"""States of cells on which a next step would not stand."""

ROUNDS = 5
"""At most, in one start of the command: a top that moves on with every round is not chased."""


def drive(
    grid: Grid, planned: list[Trial], path: Path, options: Options, console: RunConsole
) -> Counter[str]:
    """As `sweep.drive.drive`, and the rounds after it; returns the states of the last.

    Raises:
        CannotStart: as there.
    """
    with ExitStack() as messages:  # of the first round to the end of the last
        return _rounds(grid, planned, path, options, console, messages)


def _rounds(
    grid: Grid,
    planned: list[Trial],
    path: Path,
    options: Options,
    console: RunConsole,
    messages: ExitStack,
) -> Counter[str]:
    folder, started, mark = RunFolder(path), time.monotonic(), mark_of(grid)
    with _recorded(folder, options.store) as records:
        last, grid, planned = _last_round(records, grid, planned)
    planned = folder.kept(planned)
    if last:
        console.say(f"extend: goes on with {ROOM}/{last}.yaml, the last round of an earlier start")
    states = driver.drive(grid, planned, path, options, console, messages)
    for number in range(last + 1, last + ROUNDS + 1):
        if open_ := [f"{count} {state}" for state in OPEN if (count := states[state])]:
            console.say(f"extend: no round follows, as the grid is not done: {listed(open_)}")
            return states
        steps = next_steps(path)
        if not steps:
            console.say("extend: the report asks for no further cell")
            return states
        limits = left(grid.limits, begun(folder, number - last), time.monotonic() - started)
        if limits is None:
            console.say("extend: the limits of the grid leave no further trial")
            return states + Counter(planned=sum(step.cells for step in steps))
        file = written(steps, folder.path / ROOM, mark)
        try:
            wider = load.load(file).model_copy(update={"limits": limits, "notify": None})
            again = folder.kept(trials.trials(wider, selection.known(wider, folder)))
        except (GridError, ValueError) as error:
            problem = "; ".join(str(error).splitlines())
            console.say(f"extend: what the report asks for cannot run: {problem}")
            return states
        for step in steps:
            of_arm = f"{step.arm}: " if step.arm else ""
            console.say(f"extend, round {number}: {of_arm}{step.sentence}")
        if {trial.key for trial in again} <= {trial.key for trial in planned}:
            return states
        planned = again
        states = driver.drive(wider, planned, path, options, console)
    console.say(f"extend: {ROUNDS} rounds have run; the same command goes on")
    return states


@contextmanager
def _recorded(folder: RunFolder, store: str | None) -> Iterator[RunFolder]:
    """The rounds and choices so far, in a store those that it has: the mirror of another machine is
    empty, or old, before it is held."""
    if store is None:
        yield folder
        return
    try:
        with remote_run.records(store, ROOM, "choices") as records:
            yield records
    except Unreachable as error:
        raise CannotStart(str(error)) from error


def _last_round(
    folder: RunFolder, grid: Grid, planned: list[Trial]
) -> tuple[int, Grid, list[Trial]]:
    """Number, grid and trials of the last round that an earlier start began of this grid; 0, and
    the grid itself, where there is none. Files of a grid that was edited since are left out."""
    mark = mark_of(grid)
    numbers = (int(file.stem) for file in folder.path.glob(f"{ROOM}/*.yaml") if file.stem.isdigit())
    for number in sorted(numbers, reverse=True):
        with suppress(GridError, ValueError):
            file = folder.path / ROOM / f"{number}.yaml"
            last = load.load(file)
            last = last.model_copy(update={"limits": grid.limits, "notify": grid.notify})
            again = trials.trials(last, selection.known(last, folder))
            own = {trial.key for trial in trials.trials(grid, selection.known(grid, folder))}
            same = _without_cells(last) == _without_cells(grid) and own <= {t.key for t in again}
            first = file.read_text(encoding="utf-8").partition("\n")[0]
            if same and (first == mark or not first.startswith(MARK)):  # older files have no mark
                return number, last, again
    return 0, grid, planned


def mark_of(grid: Grid) -> str:
    """First line of the rounds' files of a grid with these cells, whatever parents are chosen."""
    return MARK + files.short_hash(sorted([cell.arm, cell.key] for cell in trials.trials(grid)))


def _without_cells(grid: Grid) -> Grid:
    stages = {
        name: stage.model_copy(update={"arms": (), "cells": ()})
        for name, stage in grid.stages.items()
    }
    return grid.model_copy(update={"stages": stages, "declared": {}, "notes": ()})


class Step(NamedTuple):
    """What the report asks for in one grid of a stage."""

    stage: str
    arm: str
    sentence: str
    text: str
    axes: dict[str, list[Any]]
    cells: int


def next_steps(path: Path) -> list[Step]:
    """Those of the first stage for which the report offers a grid file; none where nothing is to be
    run."""
    record = files.read_json(path / RECOMMENDATIONS) or {}
    steps = []
    for grid in record.get("stages", {}).values():
        asked = grid["summary"]["next_step"]
        if asked["cells"] and asked["text"]:
            given = (asked[name] for name in ("sentence", "text", "axes", "cells"))
            steps.append(Step(grid["stage"], grid["arm"], *given))
    return [step for step in steps if step.stage == steps[0].stage]


def together(steps: Sequence[Step], file: Path) -> str:
    """The grid file that has the axes of all steps; `file` is where it may be put together."""
    text = steps[0].text
    for step in steps[1:]:
        files.write_text(file, text)
        text = grid_file.read(step.stage, step.arm, file).text(step.axes)
    return text


def written(steps: Sequence[Step], place: Path, mark: str) -> Path:
    """The grid file of all steps: a new one, or that of an earlier start that asked for the same.
    It begins with the `mark` of the grid. None that is there is written over, since a store would
    bring it back."""
    place.mkdir(exist_ok=True)
    before = [file for file in place.glob("*.yaml") if file.stem.isdecimal()]
    file = place / f"{max((int(old.stem) for old in before), default=0) + 1}.yaml"
    text = f"{mark}\n{together(steps, file)}"
    for old in before:
        if old.read_text(encoding="utf-8") == text:
            file.unlink(missing_ok=True)
            return old
    files.write_text(file, text)
    return file


def left(limits: Limits, trials_begun: int, seconds: float) -> Limits | None:
    """What the limits leave after so many trials and seconds; None where that is nothing.
    `max_cost` counts the whole run by itself."""
    hours, count = limits.max_hours, limits.max_trials
    if hours is not None and (hours := hours - seconds / 3600) <= 0:
        return None
    if count is not None and (count := count - trials_begun) <= 0:
        return None
    return limits.model_copy(update={"max_hours": hours, "max_trials": count})


def begun(folder: RunFolder, rounds: int) -> int:
    """Trials that the latest rounds have begun. Earlier starts of the command do not count; their
    events may have come from a store only when the first round began."""
    names = [event["event"] for event in events.read(folder.events)]
    begins = [place for place, name in enumerate(names) if name == "begun"]
    return sum(names[place:].count("started") for place in begins[-rounds:][:1])
