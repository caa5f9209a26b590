"""`--extend`: after a grid, what its report asks to run next, round after round.

A round is the grid file that the report offers (`analysis.advice.next_grid`): the same with longer
axes or more seeds, so that only what is new runs. Each stands in extended/ of the run folder. The
limits of the file hold for all rounds of one start together.
"""

import time
from collections import Counter
from pathlib import Path
from typing import Any

from sweep import drive as driver
from sweep.gridfile import load
from sweep.gridfile.keys.schema import Grid, Limits
from sweep.options import Options
from sweep.plan import trials
from sweep.plan.trials import Trial
from sweep.schedule import selection
from sweep.storage import events
from sweep.storage.run_folder import RunFolder
from sweep.storage.run_log import RunConsole
from sweep.terminal.answer import RECOMMENDATIONS
from trainers import files

ROUNDS = 5
"""At most, in one start of the command: a top that moves on with every round is not chased."""


def drive(
    grid: Grid, planned: list[Trial], path: Path, options: Options, console: RunConsole
) -> Counter[str]:
    """As `sweep.drive.drive`, and the rounds after it; returns the states of the last.

    Raises:
        CannotStart: as there.
    """
    folder, started = RunFolder(path), time.monotonic()
    before = _begun(folder)
    states = driver.drive(grid, planned, path, options, console)
    for number in range(1, ROUNDS + 1):
        if states["failed"] or states["planned"]:
            return states
        step = next_step(path)
        if step is None:
            console.say("extend: the report asks for no further cell")
            return states
        limits = left(grid.limits, _begun(folder) - before, time.monotonic() - started)
        if limits is None:
            console.say("extend: the limits of the grid leave no further trial")
            return states
        file = folder.path / "extended" / f"{number}.yaml"
        file.parent.mkdir(exist_ok=True)
        files.write_text(file, step["text"])
        wider = load.load(file).model_copy(update={"limits": limits})
        again = trials.trials(wider, selection.known(wider, folder))
        console.say(f"extend, round {number}: {step['sentence']}")
        if {trial.key for trial in again} <= {trial.key for trial in planned}:
            return states
        planned = again
        states = driver.drive(wider, planned, path, options, console)
    console.say(f"extend: {ROUNDS} rounds have run; the same command goes on")
    return states


def next_step(path: Path) -> dict[str, Any] | None:
    """The first grid of the report for which it offers a file; None where nothing is to be run."""
    record = files.read_json(path / RECOMMENDATIONS) or {}
    for stage in record.get("stages", {}).values():
        step = stage["summary"]["next_step"]
        if step["cells"] and step["text"]:
            return step
    return None


def left(limits: Limits, begun: int, seconds: float) -> Limits | None:
    """What the limits leave after so many trials and seconds; None where that is nothing.
    `max_cost` counts the whole run by itself."""
    hours, count = limits.max_hours, limits.max_trials
    if hours is not None and (hours := hours - seconds / 3600) <= 0:
        return None
    if count is not None and (count := count - begun) <= 0:
        return None
    return limits.model_copy(update={"max_hours": hours, "max_trials": count})


def _begun(folder: RunFolder) -> int:
    """Trials that were begun, by all starts of the command."""
    return sum(event["event"] == "started" for event in events.read(folder.events))
