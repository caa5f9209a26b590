"""Every file operation of a miniature run disturbed in turn: `python -m tests.crash_points`.

    python -m tests.crash_points                          every point, most of an hour on two cores
    python -m tests.crash_points --share 0.1 --seed 3     a seeded tenth of them
    python -m tests.crash_points --kinds kill --at 120    one of them, its folder kept
    python -m tests.crash_points --place store            of a run that lies in a store
    python -m tests.crash_points --part 2/6               every sixth, from the second on

`--lines` prints one for each point: what was struck, how the start ended, what it left. `--plain`
computes everything anew in each run, four times as slow; its lines have to be the same.

Each point is followed by the same command again. Exit code 1 where anything was lost, doubled,
different or left behind.
"""

import argparse
import math
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

from tests.crash_points import runs, verdict
from tests.crash_points.operations import KINDS, MAIN, Disturbance
from tests.crash_points.runs import Report
from tests.crash_points.verdict import Point, Undisturbed, Verdict

OF_A_THREAD = 24
"""The first so many operations of each thread beside the main one: later ones say the same."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--place", choices=runs.PLACES, default="folder")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--thread", help="Operations of this thread alone.")
    parser.add_argument("--share", type=float, default=1.0, help="Of the points; at random.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", default="1/1", metavar="I/N")
    parser.add_argument("--lines", action="store_true")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--at", type=int, nargs="*", help="Numbers of operations.")
    parser.add_argument("--jobs", type=int, default=2, help="Runs at a time.")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="crash-points-", dir=_quick()))
    began = time.monotonic()
    runs.warm_up(folder / "warm", plain=arguments.plain)
    expected = verdict.undisturbed(folder / "whole", arguments.place)
    points = chosen(expected, arguments)
    for thread, operations in expected.operations.items():
        counts = Counter(operation.name for operation in operations)
        kinds = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        print(f"{thread}: {len(operations)} file operations: {kinds}", flush=True)
    verdicts = _tried(points, folder, expected, arguments)
    if arguments.lines:
        for result in sorted(verdicts):
            print(_words(result, folder))
    _print_table(verdicts, arguments.kinds, folder)
    print(f"{len(verdicts)} points in {(time.monotonic() - began) / 60:.1f} min")
    bad = any(result.faults for result in verdicts)
    if bad or arguments.at:
        print(f"what the runs left: {folder}")
    else:
        shutil.rmtree(folder)
    sys.exit(1 if bad else 0)


def _quick() -> str | None:
    """Where an fsync costs nothing; it is numbered and heeded all the same."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def chosen(expected: Undisturbed, arguments: argparse.Namespace) -> list[Point]:
    """The points: every operation for each kind, where the kind can be done to it. Those of the
    main thread come first: how many the others have depends on the clock.
    """
    points = [
        Point(
            Disturbance(kind, number, thread),
            operation,
            moved=expected.place == "store" and number % 2 == 1,
            report="whole" if arguments.plain else _report(expected, number, thread),
        )
        for thread, operations in sorted(
            expected.operations.items(), key=lambda of_thread: of_thread[0] != MAIN
        )
        if arguments.thread in (None, thread)
        for kind in arguments.kinds
        for number, operation in enumerate(operations)
        if (kind != "torn" or operation.name == "open")
        and (kind != "short" or operation.name in ("open", "mkdir"))
        and (thread == MAIN or number < OF_A_THREAD)
        and (not arguments.at or number in arguments.at)
    ]
    if arguments.share < 1:
        drawn = random.Random(arguments.seed)
        points = drawn.sample(points, math.ceil(arguments.share * len(points)))
    part, parts = map(int, arguments.part.split("/"))
    return points[part - 1 :: parts]


def _report(expected: Undisturbed, number: int, thread: str) -> Report:
    """Before the report begins its table is enough."""
    operations = expected.operations[MAIN]
    first = next(at for at, each in enumerate(operations) if "/report/" in each.path)
    return "whole" if "page" in thread or (thread == MAIN and number >= first - 1) else "table"


def _tried(
    points: list[Point], folder: Path, expected: Undisturbed, arguments: argparse.Namespace
) -> list[Verdict]:
    judge = partial(verdict.judged, folder=folder, expected=expected)
    verdicts: list[Verdict] = []
    with multiprocessing.get_context("fork").Pool(arguments.jobs) as pool:
        for result in pool.imap_unordered(judge, points):
            verdicts.append(result)
            if result.faults:
                print(_words(result, folder), flush=True)
            elif not arguments.at:
                _remove(folder, result.point.disturbance)
    return verdicts


def _print_table(verdicts: list[Verdict], kinds: list[str], folder: Path) -> None:
    print("| disturbance | points | struck | another operation | not as it has to be |")
    print("|---|---|---|---|---|")
    for kind in kinds:
        tried = [result for result in verdicts if result.point.disturbance.kind == kind]
        struck = [result for result in tried if result.struck]
        other = sum(one.struck != one.point.operation.words(folder / "whole") for one in struck)
        bad = sum(bool(result.faults) for result in tried)
        print(f"| {kind} | {len(tried)} | {len(struck)} | {other} | {bad} |")


def _words(result: Verdict, folder: Path) -> str:
    kind, number, thread = result.point.disturbance
    operation = result.struck or result.point.operation.words(folder / "whole")
    moved = ", on another machine" if result.point.moved else ""
    told = "; ".join(result.faults) or f"as it has to be ({result.left})"
    return f"{kind} at {thread} {number} ({operation}{moved}): {told}"


def _remove(folder: Path, disturbance: Disturbance) -> None:
    shutil.rmtree(folder / disturbance.file_name)
    for path in folder.glob(f"{disturbance.file_name}.*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    main()
