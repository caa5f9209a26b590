"""A miniature run in a process of its own, forked from one that has the libraries loaded.

Everything in it is real, the training too; only the figures of the report are left out. Four
models: the tiny one as it is, two cells of which the better is kept, and one that starts from it.
"""

import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.crash_points.operations import Disturbance, Operation, Recorder

GRID = """\
name: run
model: tiny
stages:
  first:
    kind: sft
    data: {name: world:sft, examples: 24}
    steps: 3
    save_every_steps: 1
    max_length: 128
    heldout: 8
    keep: best
    grid: {learning_rate: [0.001, 0.002], batch_size: [4]}
  second:
    kind: sft
    start_from: first
    parent: {best: world_choice}
    data: {name: world:sft, examples: 24}
    steps: 2
    max_length: 128
    heldout: 8
    learning_rate: 0.001
    batch_size: 4
evaluate: {benchmarks: [world_choice], limit: 4, items_per_batch: 4}
resources: {cpus_per_trial: 1, retries: 3}
"""

LIMIT_SECONDS = 90


class Ended(NamedTuple):
    code: int
    """Exit code; -9 where it was killed, -14 where it went past `LIMIT_SECONDS`."""
    output: str
    operations: list[Operation]


def load_libraries() -> None:
    """What a run imports, once, before it is forked: a fork takes milliseconds, imports seconds."""
    import matplotlib

    matplotlib.use("Agg")
    import analysis.figures.style as style
    import analysis.report.build
    import sweep.run
    import trainers.evaluate.harness
    import trainers.training.sft
    from sweep.storage import leftovers
    from trainers.training import checkpoints

    style.save = _no_figure
    leftovers.STALE_SECONDS = checkpoints.STALE_SECONDS = -1.0  # no minutes pass between starts
    assert analysis.report.build and sweep.run and trainers.evaluate.harness
    assert trainers.training.sft


def _no_figure(figure: Any, path: Path) -> str:
    path.with_name(f"{path.name}.svg").write_text("<svg/>", encoding="utf-8")
    return "<svg/>"


def run(root: Path, disturbance: Disturbance | None = None) -> Ended:
    """The command on the run folder below `root`, as a user gives it again and again."""
    root.mkdir(parents=True, exist_ok=True)
    log, record = root.with_suffix(".log"), root.with_suffix(".operations")
    record.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        _in_child(root, disturbance, log, record)
    _, status = os.waitpid(child, 0)
    operations = pickle.loads(record.read_bytes()) if record.exists() else []
    return Ended(os.waitstatus_to_exitcode(status), log.read_text(encoding="utf-8"), operations)


def _in_child(root: Path, disturbance: Disturbance | None, log: Path, record: Path) -> None:
    os.setsid()
    signal.alarm(LIMIT_SECONDS)
    with open(log, "w", encoding="utf-8") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    os.environ["SWEEP_CACHE"] = str(root / "cache")
    os.chdir(root)
    (root / "grid.yaml").write_text(GRID, encoding="utf-8")
    recorder = Recorder(root, disturbance)
    recorder.start()
    code = 70
    try:
        code = _command(["grid.yaml", "--local", "--runs", "runs"])
    finally:
        sys.stdout.flush()
        record.write_bytes(pickle.dumps(recorder.operations))
        os._exit(code)


def _command(arguments: list[str]) -> int:
    import traceback

    from sweep import run

    try:
        run.app(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 70
    return 0
