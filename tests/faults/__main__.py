"""Every fault done to real runs, and what it cost: `python -m tests.faults`.

    python -m tests.faults                       the whole matrix, most of an hour on two cores
    python -m tests.faults --only driver worker --times 20

Exit code 1 where anything was lost, doubled, different or not as it has to be.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults import matrix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", default=[""], help="Faults with this in their name.")
    parser.add_argument("--times", type=int, help="Tries of each fault.")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chosen = [f for f in matrix.FAULTS if any(part in f.name for part in arguments.only)]
    if not chosen:
        names = "\n".join(fault.name for fault in matrix.FAULTS)
        sys.exit(f"--only {' '.join(arguments.only)}: no fault has this in its name:\n{names}")
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    undisturbed = matrix.reference(folder)
    print("| fault | times tried | cells lost | cells doubled | difference | seconds |")
    print("|---|---|---|---|---|---|", flush=True)
    good = True
    for fault in chosen:
        began = time.monotonic()
        times = arguments.times or fault.times
        tries = []
        for seed in range(arguments.seed, arguments.seed + times):
            where = folder / f"{matrix.FAULTS.index(fault)}-{seed}"
            one = matrix.tried(fault, where, undisturbed, seed)
            print(f"{fault.name}, try {seed}: {one.broken or 'as it has to be'}", file=sys.stderr)
            tries.append(one)
        verdicts = [one.verdict for one in tries if one.verdict]
        lost = sum(one.lost for one in verdicts)
        doubled = sum(one.doubled for one in verdicts)
        apart = max((one.difference for one in verdicts), default=float("nan"))
        seconds = (time.monotonic() - began) / times
        row = f"| {fault.name} | {times} | {lost} | {doubled} | {apart:g} | {seconds:.0f} |"
        print(row, flush=True)
        broken = [one.broken for one in tries if one.broken]
        for message in broken:
            print(f"  NOT SO: {message}", flush=True)
        good = good and not (broken or lost or doubled or apart > fault.tolerance)
    if good:
        shutil.rmtree(folder)
    else:
        print(f"what the runs left: {folder}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
