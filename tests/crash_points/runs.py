"""A miniature run in a process of its own, forked from one that has the libraries loaded.

Everything in it is real, the training too; only the figures of the report are left out. Four
models: the tiny one as it is, two cells of which the better is kept, and one that starts from it.
"""

import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

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

Place = Literal["folder", "store"]
PLACES: tuple[Place, ...] = ("folder", "store")
"""Where the run lies: in a folder, or in a store (a folder in its place) that it mirrors."""


class Ended(NamedTuple):
    code: int
    """Exit code; -9 where it was killed, -14 where it went past `LIMIT_SECONDS`."""
    output: str
    operations: dict[str, list[Operation]]
    """Of each thread."""
    struck: str
    """The operation that was disturbed, in words; empty where it never came."""


def load_libraries() -> None:
    """What a run imports, once, before it is forked: a fork takes milliseconds, imports seconds."""
    import gc

    import matplotlib

    matplotlib.use("Agg")
    import analysis.figures.style as style
    import analysis.report.build
    import sweep.page.view
    import sweep.run
    import trainers.evaluate.harness
    import trainers.training.sft
    from sweep.storage import driver_lock, leftovers
    from trainers import attempt
    from trainers.training import checkpoints

    style.save = _no_figure
    leftovers.STALE_SECONDS = checkpoints.STALE_SECONDS = -1.0  # no minutes pass between starts
    attempt.SIGN_SECONDS = 3600.0  # or the clock decides how many there are
    driver_lock.RENEW_SECONDS, driver_lock.SETTLE_SECONDS = 0.25, 0.0
    assert analysis.report.build and sweep.page.view and sweep.run
    assert trainers.evaluate.harness and trainers.training.sft
    gc.collect()
    gc.freeze()  # a collection in a fork would copy all of it


def _no_figure(figure: Any, path: Path) -> str:
    path.with_name(f"{path.name}.svg").write_text("<svg/>", encoding="utf-8")
    return "<svg/>"


def run(root: Path, place: Place, disturbance: Disturbance | None = None) -> Ended:
    """The command on the run folder below `root`, as a user gives it again and again."""
    root.mkdir(parents=True, exist_ok=True)
    record, struck = Path(f"{root}.operations"), Path(f"{root}.struck")
    for path in (record, struck):
        path.unlink(missing_ok=True)
    output, end = os.pipe()
    child = os.fork()
    if not child:
        os.close(output)
        _in_child(root, place, disturbance, end, record)
    os.close(end)
    with open(output, encoding="utf-8", errors="replace") as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    operations = pickle.loads(record.read_bytes()) if record.exists() else {}
    stroke = struck.read_text(encoding="utf-8") if struck.exists() else ""
    return Ended(os.waitstatus_to_exitcode(status), text, operations, stroke)


def _in_child(
    root: Path, place: Place, disturbance: Disturbance | None, output: int, record: Path
) -> NoReturn:
    os.setsid()
    signal.alarm(LIMIT_SECONDS)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    os.environ["SWEEP_CACHE"] = str(root / "cache")
    os.chdir(root)
    (root / "grid.yaml").write_text(GRID, encoding="utf-8")
    recorder = Recorder(root, disturbance)
    recorder.start()
    runs = "runs" if place == "folder" else f"file://{root}/store"
    code = 70
    try:
        code = _command(["grid.yaml", "--local", "--runs", runs])
    finally:
        recorder.end()
        sys.stdout.flush()
        record.write_bytes(pickle.dumps(dict(recorder.operations)))
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
