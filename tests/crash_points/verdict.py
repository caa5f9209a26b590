"""What has to hold after a disturbed run, once the same command has gone on."""

import json
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tests.crash_points import runs
from tests.crash_points.once import TIMES
from tests.crash_points.operations import MAIN, UNIQUE, Disturbance, Operation
from tests.crash_points.runs import Place, Report
from trainers import files

CODES = {0, 3, 4, 5, -9}
"""Exit codes that a disturbed start may have: documented ones, or killed."""

STARTS = 3
"""Of the same command, at most, until all is done."""

NO_RECORD = "/signs.json"
"""How the name of a file ends that a run can do without: the next sign of an attempt writes it."""


SEGMENTS = re.compile(r"\.segments/.*")
"""What a store holds of a file that grows: by the attempt, and joined when it ends."""


class Undisturbed(NamedTuple):
    """What a run leaves to which nothing was done."""

    place: Place
    operations: dict[str, list[Operation]]
    table: pd.DataFrame
    files: frozenset[str]


class Point(NamedTuple):
    disturbance: Disturbance
    operation: Operation
    moved: bool
    """Whether the run goes on on a machine that has nothing of it but the store."""
    report: Report
    """How much of it the runs write: all of it where the operation is one of the report's."""


class Verdict(NamedTuple):
    point: Point
    struck: str
    """What was disturbed, in words; not what was numbered where a clock came between."""
    left: str
    """The exit code of the disturbed start, and a hash of the names of the trials' files then."""
    faults: tuple[str, ...]
    """In words; none where all that has to hold holds."""


def undisturbed(root: Path, place: Place) -> Undisturbed:
    """
    Raises:
        RuntimeError: the run did not end well, or did file operations that have no number.
    """
    whole = runs.run(root, place)
    if whole.code:
        raise RuntimeError(f"the undisturbed run ended with {whole.code}:\n{whole.output}")
    if unknown := unnumbered(root, whole.operations):
        raise RuntimeError(f"neither opened nor flushed by a numbered operation: {unknown}")
    return Undisturbed(place, whole.operations, table(root), frozenset(_files(root)))


def judged(point: Point, folder: Path, expected: Undisturbed) -> Verdict:
    """Disturb a run at an operation, go on, and compare it with an undisturbed one."""
    disturbance, place = point.disturbance, expected.place
    root = folder / disturbance.file_name
    first = runs.run(root, place, disturbance, point.report)
    faults = []
    if first.code not in CODES or "Traceback" in first.output:
        (folder / f"{disturbance.file_name}.output").write_text(first.output, encoding="utf-8")
        faults.append(f"ended with {first.code}: {_last_line(first.output)}")
    if not first.struck and disturbance.thread == MAIN and place == "folder":  # else by the clock
        faults.append("the run never came to it")
    of_trials = sorted(name for name in _files(root) if "/trials/" in name)
    left = f"exit {first.code}, {files.short_hash(of_trials)}"
    done = _done(root)
    if point.moved:
        shutil.rmtree(root / "runs", ignore_errors=True)
        shutil.rmtree(root / "cache", ignore_errors=True)
    for _ in range(STARTS):
        again = runs.run(root, place, report=point.report)
        if again.code == 0:
            break
    else:
        faults.append(f"goes on with {again.code}: {_last_line(again.output)}")
        return Verdict(point, first.struck, left, tuple(faults))
    faults += _compared(root, expected, done, point)
    third = runs.run(root, place, report="none")
    if third.code or "0 to go" not in third.output:
        faults.append(f"a start with nothing to do: {third.code}: {_last_line(third.output)}")
    return Verdict(point, first.struck, left, tuple(faults))


def table(root: Path) -> pd.DataFrame:
    """Results without what a clock decides."""
    path = root / "runs" / "run" / "results.csv"
    rows = pd.read_csv(path).drop(columns=TIMES)
    return rows.sort_values(["key", "benchmark", "metric"], ignore_index=True)


def _compared(root: Path, expected: Undisturbed, done: dict[str, int], point: Point) -> list[str]:
    faults = []
    here = table(root)
    if here.duplicated(["key", "benchmark", "metric"]).any():
        faults.append("a row stands twice")
    try:
        pd.testing.assert_frame_equal(here, expected.table)
    except AssertionError as error:
        faults.append(f"another table: {_last_line(str(error))}")
    for name, starts in _done(root).items():
        if name in done and starts != done[name]:
            faults.append(f"{name} was done and was started again")
    for metrics in root.glob("runs/run/trials/*/metrics.jsonl"):
        steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
        if steps != sorted(set(steps)):
            faults.append(f"{metrics.parent.name}: steps {steps}")
    there, wanted = _files(root), expected.files
    if point.report != "whole":
        there, wanted = (
            {name for name in names if "/report/" not in name} for names in (there, wanted)
        )
    if left := sorted(there - wanted):
        faults.append(f"left behind: {', '.join(left[:3])}")
    if gone := sorted(name for name in wanted - there if not _is_spare(name, point)):
        faults.append(f"not there: {', '.join(gone[:3])}")
    return faults


def _files(root: Path) -> set[str]:
    """Names of all files, without what is another in every run."""
    names = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return {UNIQUE.sub("*", SEGMENTS.sub(".segments/*", name)) for name in names}


def _is_spare(name: str, point: Point) -> bool:
    """Whether a run that goes on can do without: data and caches of a machine where nothing had to
    be trained any more; the attempts of a trial that ends before its first look at the store (half
    a second) and dies in its only upload, of which they are the last."""
    attempts = re.match(r"(?:runs|store)/(run/trials/[^/*]+).*/attempts\.jsonl$", name)
    return (
        name.endswith(NO_RECORD)
        or bool(attempts and f"store/{attempts[1]}" in point.operation.path)
        or name.startswith("cache/")
        or (point.moved and name.startswith("runs/run/data/"))
    )


def unnumbered(root: Path, operations: dict[str, list[Operation]]) -> list[str]:
    """Files there whose writing no operation shows: a way round the numbered ones, or a library in
    another language whose file nobody flushed."""
    known: set[str] = set()
    for operation in (each for of_thread in operations.values() for each in of_thread):
        known.add(operation.target or operation.path)
    paths = [path for path in root.rglob("*") if path.is_file() and path.name != "grid.yaml"]
    renamed = tuple(f"{o.target}/" for ops in operations.values() for o in ops if o.target)
    return sorted(
        path.relative_to(root).as_posix()
        for path in paths
        if str(path) not in known and not str(path).startswith(renamed)
    )


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
