"""Every file operation of a miniature run disturbed in turn: `python -m tests.crash_points`.

    python -m tests.crash_points                          every point, most of an hour on two cores
    python -m tests.crash_points --share 0.1 --seed 3     a seeded tenth of them
    python -m tests.crash_points --kinds kill --at 120    one of them, its folder kept

Each is followed by the same command again. Exit code 1 where anything was lost, doubled, different
or left behind.
"""

import argparse
import math
import multiprocessing
import random
import shutil
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

from tests.crash_points import runs, verdict
from tests.crash_points.operations import KINDS, Disturbance, Operation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--share", type=float, default=1.0, help="Of the points; at random.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at", type=int, help="The number of one operation.")
    parser.add_argument("--jobs", type=int, default=2, help="Runs at a time.")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="crash-points-"))
    runs.load_libraries()
    whole = runs.run(folder / "whole")
    if whole.code:
        sys.exit(f"the undisturbed run ended with {whole.code}:\n{whole.output}")
    expected = verdict.table(folder / "whole").reset_index(drop=True)
    points = chosen(whole.operations, arguments)
    print(f"{len(whole.operations)} file operations: {_counts(whole.operations)}", flush=True)
    judge = partial(verdict.judged, folder=folder, expected=expected)
    bad: list[verdict.Verdict] = []
    with multiprocessing.get_context("fork").Pool(arguments.jobs) as pool:
        for result in pool.imap_unordered(judge, [(p, whole.operations[p.number]) for p in points]):
            if result.faults:
                bad.append(result)
                print(_words(result, folder), flush=True)
            elif arguments.at is None:
                _remove(folder, result)
    print("| disturbance | points | not as it has to be |\n|---|---|---|")
    for kind in arguments.kinds:
        tried = sum(point.kind == kind for point in points)
        print(f"| {kind} | {tried} | {sum(one.disturbance.kind == kind for one in bad)} |")
    if bad or arguments.at is not None:
        print(f"what the runs left: {folder}")
    else:
        shutil.rmtree(folder)
    sys.exit(1 if bad else 0)


def chosen(operations: list[Operation], arguments: argparse.Namespace) -> list[Disturbance]:
    """The points: every operation for each kind, where the kind can be done to it."""
    points = [
        Disturbance(kind, number)
        for kind in arguments.kinds
        for number, operation in enumerate(operations)
        if (kind != "torn" or operation.name == "open") and arguments.at in (None, number)
    ]
    if arguments.share < 1:
        drawn = random.Random(arguments.seed)
        points = drawn.sample(points, math.ceil(arguments.share * len(points)))
    return points


def _counts(operations: list[Operation]) -> str:
    counts = Counter(operation.name for operation in operations)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _words(result: verdict.Verdict, folder: Path) -> str:
    kind, number = result.disturbance
    name, path, target = result.operation
    where = path.removeprefix(f"{folder}/whole/")
    to = f" -> {Path(target).name}" if target else ""
    return f"{kind} at {number} ({name} {where}{to}): {'; '.join(result.faults)}"


def _remove(folder: Path, result: verdict.Verdict) -> None:
    name = f"{result.disturbance.kind}-{result.disturbance.number:04}"
    for path in folder.glob(f"{name}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    main()
