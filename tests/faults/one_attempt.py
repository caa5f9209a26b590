"""One attempt at a trial of a run: `python -m tests.faults.one_attempt GRID RUN_FOLDER KEY`.

Exit code 4 where another attempt has taken the trial.
"""

import sys
from pathlib import Path

from sweep.execution.job import make
from sweep.execution.worker import trial
from sweep.execution.worker.trial import TrialFailed
from sweep.gridfile import load
from sweep.plan import trials
from sweep.resolve.resolve import resolve
from sweep.storage.run_folder import RunFolder


def main() -> None:
    grid = load.load(Path(sys.argv[1]), [])
    planned = {one.key: one for one in trials.trials(grid)}
    one = planned[sys.argv[3]]
    parent = planned[one.parent] if one.parent else None
    job = make(one, parent, resolve(grid), RunFolder(Path(sys.argv[2])))
    try:
        print(trial.run(job, shared=False))
    except TrialFailed as error:
        print(error)
        sys.exit(4)


if __name__ == "__main__":
    main()
