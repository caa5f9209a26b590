"""A miniature run in a process of its own, forked from one that has the libraries loaded.

Everything in it is real, the training too; only the figures of the report are left out. Four
models: the tiny one as it is, two cells of which the better is kept, and one that starts from it.
"""

import faulthandler
import gc
import os
import pickle
import signal
import sys
import traceback
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

from tests.crash_points.once import compute_once
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

LIMIT_SECONDS = 40

Place = Literal["folder", "store"]
PLACES: tuple[Place, ...] = ("folder", "store")
"""Where the run lies: in a folder, or in a store (a folder in its place) that it mirrors."""


Report = Literal["whole", "table", "none"]
"""How much of the report is written at the end of a run."""


class Ended(NamedTuple):
    code: int
    """Exit code; -9 where it was killed, -14 where it went past `LIMIT_SECONDS`."""
    output: str
    operations: dict[str, list[Operation]]
    """Of each thread."""
    struck: str
    """The operation that was disturbed, in words; empty where it never came."""


def warm_up(root: Path, *, plain: bool) -> None:
    """Have this process ready to be forked for each run: one whole run in it imports what a run
    imports and fills the caches of libraries. A fork takes milliseconds, all this takes seconds.
    `plain`: nothing but imports, and each run computes everything itself.
    """
    import matplotlib

    matplotlib.use("Agg")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads would not be in a fork
    from sweep.storage import driver_lock, leftovers
    from trainers.processes import attempt
    from trainers.steps import checkpoints

    leftovers.STALE_SECONDS = checkpoints.STALE_SECONDS = -1.0  # no minutes pass between starts
    attempt.SIGN_SECONDS = 3600.0  # or the clock decides how many there are
    driver_lock.RENEW_SECONDS, driver_lock.SETTLE_SECONDS = 0.25, 0.0
    if plain:
        import analysis.report.build
        import sweep.drive
        import trainers.evaluate.harness
        import trainers.stages.sft

        assert analysis.report.build and sweep.drive
        assert trainers.evaluate.harness and trainers.stages.sft
        return
    compute_once()
    root.mkdir()
    here, output = os.getcwd(), (os.dup(1), os.dup(2))
    _begin(root)
    with open(f"{root}.log", "wb") as log:
        for number in (1, 2):
            os.dup2(log.fileno(), number)
    code = _command("folder", root)
    for number, saved in zip((1, 2), output, strict=True):
        os.dup2(saved, number)
    os.chdir(here)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    if code:
        raise RuntimeError(f"ended with {code}: {Path(f'{root}.log').read_text()}")
    gc.collect()
    gc.freeze()  # a collection in a fork would copy all of it


def run(
    root: Path, place: Place, disturbance: Disturbance | None = None, report: Report = "whole"
) -> Ended:
    """The command on the run folder below `root`, as a user gives it again and again."""
    root.mkdir(parents=True, exist_ok=True)
    record, struck = Path(f"{root}.operations"), Path(f"{root}.struck")
    for path in (record, struck):
        path.unlink(missing_ok=True)
    output, end = os.pipe()
    child = os.fork()
    if not child:
        os.close(output)
        _in_child(root, place, disturbance, end, record, report)
    os.close(end)
    with open(output, encoding="utf-8", errors="replace") as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    operations = pickle.loads(record.read_bytes()) if record.exists() else {}
    stroke = struck.read_text(encoding="utf-8") if struck.exists() else ""
    return Ended(os.waitstatus_to_exitcode(status), text, operations, stroke)


def _in_child(
    root: Path,
    place: Place,
    disturbance: Disturbance | None,
    output: int,
    record: Path,
    report: Report,
) -> NoReturn:
    from analysis.report import build

    if report != "whole":
        build.write = _write_table if report == "table" else _report_of
    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.register(signal.SIGALRM, file=2, chain=True)
    signal.alarm(LIMIT_SECONDS)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    _begin(root)
    recorder = Recorder(root, disturbance)
    recorder.start()
    code = 70
    try:
        code = _command(place, root)
    finally:
        recorder.end()
        sys.stdout.flush()
        sys.stderr.flush()
        record.write_bytes(pickle.dumps(dict(recorder.operations)))
        os._exit(code)


def _write_table(folder: Path) -> Path:
    from analysis.tables.records import run_table

    run_table.write(folder)
    return _report_of(folder)


def _report_of(folder: Path) -> Path:
    return folder / "report" / "index.html"


def _begin(root: Path) -> None:
    os.environ["SWEEP_CACHE"] = str(root / "cache")
    os.chdir(root)
    (root / "grid.yaml").write_text(GRID, encoding="utf-8")


def _command(place: Place, root: Path) -> int:
    from sweep import run

    runs = "runs" if place == "folder" else f"file://{root}/store"
    try:
        run.app(["grid.yaml", "--local", "--runs", runs])
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 70
    return 0
