"""What has to hold after a disturbed run, once the same command has gone on."""

import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tests.crash_points import runs
from tests.crash_points.operations import Disturbance, Operation

TIMES = ["train_seconds", "eval_seconds"]
CODES = {0, 3, 4, 5, -9}
"""Exit codes that a disturbed start may have: documented ones, or killed."""

STARTS = 3
"""Of the same command, at most, until all is done."""


class Verdict(NamedTuple):
    disturbance: Disturbance
    operation: Operation
    faults: tuple[str, ...]
    """In words; none where all that has to hold holds."""


def judged(point: tuple[Disturbance, Operation], folder: Path, expected: pd.DataFrame) -> Verdict:
    """Disturb a run at an operation, go on, and compare it with the table of an undisturbed one."""
    disturbance, operation = point
    root = folder / f"{disturbance.kind}-{disturbance.number:04}"
    first = runs.run(root, disturbance)
    faults = []
    if first.code not in CODES or "Traceback" in first.output:
        faults.append(f"ended with {first.code}: {_last_line(first.output)}")
    done = _done(root)
    for _ in range(STARTS):
        again = runs.run(root)
        if again.code == 0:
            break
    else:
        faults.append(f"goes on with {again.code}: {_last_line(again.output)}")
        return Verdict(disturbance, operation, tuple(faults))
    faults += _compared(root, expected, done)
    third = runs.run(root)
    if third.code or "0 to go" not in third.output:
        faults.append(f"a start with nothing to do: {third.code}: {_last_line(third.output)}")
    return Verdict(disturbance, operation, tuple(faults))


def table(root: Path) -> pd.DataFrame:
    """Results without what a clock decides."""
    path = root / "runs" / "run" / "results.csv"
    return pd.read_csv(path).drop(columns=TIMES).sort_values(["key", "benchmark", "metric"])


def _compared(root: Path, expected: pd.DataFrame, done: dict[str, int]) -> list[str]:
    faults = []
    here = table(root)
    if here.duplicated(["key", "benchmark", "metric"]).any():
        faults.append("a row stands twice")
    try:
        pd.testing.assert_frame_equal(here.reset_index(drop=True), expected)
    except AssertionError as error:
        faults.append(f"another table: {_last_line(str(error))}")
    for name, starts in _done(root).items():
        if name in done and starts != done[name]:
            faults.append(f"{name} was done and was started again")
    for metrics in root.glob("runs/run/trials/*/metrics.jsonl"):
        steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
        if steps != sorted(set(steps)):
            faults.append(f"{metrics.parent.name}: steps {steps}")
    left = [
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.name.endswith(".part") or ".part." in path.name
    ]
    if left:
        faults.append(f"left behind: {', '.join(left[:3])}")
    return faults


def _done(root: Path) -> dict[str, int]:
    """Trials whose records say that they are done -> how often each was started."""
    done = {}
    for path in root.glob("runs/run/trials/*/attempts.jsonl"):
        events = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                events.append(json.loads(line)["event"])
            except (ValueError, KeyError):
                continue
        if "done" in events:
            done[path.parent.name] = events.count("started")
    return done


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "no output"
