"""W&B, trackio and TensorBoard, written from the run folder's records by a process of its own.

    python -m sweep.tracking runs/quickstart      writes what the trackers do not have yet

One process beside the driver follows the records as they grow. Curves are live, trials import no
tracker, and a tracker that fails or hangs affects no trial. A trial whose records changed is
written again under the same id, which replaces it.
"""

import argparse
import contextlib
import csv
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

from ruamel.yaml import YAML

from analysis.tables.nearby import hint
from analysis.tables.records import run_folder
from sweep.gridfile.keys.trackers import Tracking, Wandb
from sweep.storage.run_folder import GRID
from sweep.tracking.followed import FollowedTrial
from sweep.tracking.trackers import (
    EventFile,
    Sink,
    WandbRun,
    described,
    log_report,
    unanswered,
)
from sweep.tracking.trackio_run import TrackioRun
from trainers import files

FINISH_SECONDS = 60.0
"""Time for the trackers to finish after the last trial and the report."""

POLL_SECONDS = 2.0
"""Shortest time between two reads of the records."""

MAX_CPU_SHARE = 0.05
"""Of one core, for reading the records of thousands of trials."""


@contextlib.contextmanager
def following(tracking: Tracking, run_dir: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Follow the run folder with the trackers until the end of the block."""
    if tracking == Tracking():
        yield
        return
    process = _start(run_dir)
    try:
        yield
    finally:
        problem = _finish(process) or _errors(run_dir)
        if problem:
            say(f"tracking: {problem}; try again: python -m sweep.tracking {run_dir}")


def _start(run_dir: Path) -> subprocess.Popen[bytes]:
    """The process ends when its standard input closes, so also when the driver is killed."""
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    with open(run_dir / "tracking.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "sweep.tracking", str(run_dir), "--follow"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is the driver's
        )


def _finish(process: subprocess.Popen[bytes]) -> str:
    """Wait for the process; returns what went wrong, or ""."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        code = process.wait(FINISH_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"not finished after {FINISH_SECONDS:.0f} s, so it was stopped"
    return f"ended with code {code}, see tracking.log" if code else ""


def _errors(run_dir: Path) -> str:
    errors = [
        f"{tracker}: {error}"
        for path in (*run_dir.glob("trials/*/tracking.json"), run_dir / "tracking.json")
        for tracker, error in (files.read_json(path) or {"errors": {}})["errors"].items()
    ]
    return f"{len(errors)} errors, such as {errors[0]}" if errors else ""


class Follower:
    """All trials of a run folder, and its summary."""

    def __init__(self, run_dir: Path):
        self.run_dir = run_dir
        grid = YAML(typ="safe", pure=True).load(run_dir / GRID)
        self.name = grid["name"]
        self.tracking = Tracking.model_validate(grid.get("tracking") or {})
        self.unanswered: str | None = None
        """Why W&B is written offline though the grid asks for a server; "" where the server
        answers, None before it was tried."""
        self._told: set[str] = set()
        self._trials: dict[Path, FollowedTrial] = {}

    def follow(self, stop: threading.Event) -> bool:
        """Update until `stop` is set, and once more then; whether that went well."""
        pause = POLL_SECONDS
        while not stop.wait(pause):
            before = time.process_time()
            self.update(last=False)
            pause = max(POLL_SECONDS, (time.process_time() - before) / MAX_CPU_SHARE)
        went_well = self.update(last=True)
        if self.tracking.wandb is not None:
            went_well &= self._guarded(partial(self._summary, self.tracking.wandb))
        return went_well

    def update(self, *, last: bool) -> bool:
        """Trials are taken up as they are planned, which some are while others run. What is wrong
        with the records of one is tried again, and keeps no other from the trackers."""
        went_well = True
        for path in sorted(self.run_dir.glob("trials/*/trial.json")):
            if path.parent not in self._trials:
                went_well &= self._guarded(partial(self._take_up, path))
        for trial in self._trials.values():
            went_well &= self._guarded(partial(trial.update, last=last))
        return went_well

    def _take_up(self, path: Path) -> None:
        self._trials[path.parent] = FollowedTrial(self, path.parent, run_folder.identity(path))

    def _guarded(self, act: Callable[[], None]) -> bool:
        """Returns whether `act` raised nothing; each error is printed once."""
        try:
            act()
        except Exception as error:
            if (told := f"{type(error).__name__}: {error}") not in self._told:
                self._told.add(told)
                print(f"tracking: {told}", file=sys.stderr, flush=True)
            return False
        return True

    def evaluations(self, stage: str) -> list[dict[str, Any]]:
        return run_folder.wanted(run_folder.manifest(self.run_dir).get("stages", {}), stage)

    def openers(self, trial: dict[str, Any], folder: str) -> dict[str, Callable[[], Sink]]:
        """Functions that open the trial in each tracker of the grid."""
        openers: dict[str, Callable[[], Sink]] = {}
        settings = self.tracking.wandb
        if settings is not None:
            openers["wandb"] = lambda: self._open_wandb(
                settings,
                trial["key"],
                name=folder.removesuffix(f"-{trial['key']}"),
                job_type=trial["stage"],
                config=described(trial),
            )
        if (trackio := self.tracking.trackio) is not None:
            openers["trackio"] = lambda: TrackioRun(
                trackio, self.run_dir, self.name, folder, described(trial)
            )
        if self.tracking.tensorboard:
            path = self.run_dir / "tensorboard" / folder
            openers["tensorboard"] = lambda: EventFile(path, trial)
        return openers

    def _open_wandb(self, settings: Wandb, label: str, **facts: Any) -> WandbRun:
        names = (self.run_dir, self.name, label)
        if settings.mode == "online" and self.unanswered is None:
            self.unanswered = unanswered()
        return WandbRun(settings, "offline" if self.unanswered else settings.mode, *names, **facts)

    def _summary(self, settings: Wandb) -> None:
        """Log the tables and figures of the report as one more run of the group."""
        report = self.run_dir / "report"
        recommended = files.read_json(report / "recommendations.json")
        if recommended is None:
            return
        with open(self.run_dir / "results.csv", encoding="utf-8", newline="") as file:
            results = list(csv.DictReader(file))
        mark = files.short_hash(recommended, results, settings.model_dump())
        path = self.run_dir / "tracking.json"
        if (files.read_json(path) or {}).get("mark") == mark:
            return
        errors = {}
        try:
            sink = self._open_wandb(
                settings, "summary", name=f"{self.name} summary", job_type="summary"
            )
            log_report(sink.run, results, recommended, sorted(report.glob("figures/*.png")))
            if self.unanswered:
                errors["wandb"] = f"summary: {self.unanswered}"
        except Exception as error:
            errors["wandb"] = f"summary: {type(error).__name__}: {error}"
        files.write_json(path, {"mark": "" if errors else mark, "errors": errors})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sweep.tracking")
    parser.add_argument("run_dir", type=Path, help="A run folder whose grid asks for a tracker.")
    parser.add_argument("--follow", action="store_true", help="Until the standard input ends.")
    arguments = parser.parse_args()
    if not (arguments.run_dir / "grid.yaml").is_file():
        parser.error(
            f"{arguments.run_dir}: no run folder (it has no grid.yaml){hint(arguments.run_dir)}"
        )
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would wait for a network
    cast(dict[str, Any], sys.modules)["torch"] = None  # tensorboardX would load it, for no tensor
    stop = threading.Event()
    if arguments.follow:
        os.nice(10)  # trials come first
        threading.Thread(target=lambda: (sys.stdin.buffer.read(), stop.set()), daemon=True).start()
    else:
        stop.set()
    sys.exit(0 if Follower(arguments.run_dir.absolute()).follow(stop) else 1)
