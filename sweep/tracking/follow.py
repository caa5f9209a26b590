"""W&B, trackio and TensorBoard, written from the run folder's records by a process of its own.

    python -m sweep.tracking runs/quickstart      writes what the trackers do not have yet

One process beside the driver follows the records as they grow. Curves are live, trials import no
tracker, and a tracker that fails or hangs affects no trial. A trial whose records changed is
written again under the same id, which replaces it.
"""

import argparse
import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from ruamel.yaml import YAML

from analysis.tables.nearby import hint
from analysis.tables.records import run_folder as records
from sweep.gridfile.keys.trackers import Tracking, Wandb
from sweep.storage.run_folder import GRID, TrialFolder
from sweep.tracking.trackers import (
    Ended,
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


class _Followed:
    """The records of one trial as they grow, and its open trackers while it runs."""

    def __init__(self, follower: "Follower", folder: Path, trial: dict[str, Any]):
        self._follower = follower
        self._folder = TrialFolder(folder)
        self._trial = trial
        self._sinks: dict[str, Sink] = {}
        self._errors: dict[str, str] = {}
        self._record = folder / "tracking.json"
        self._attempt = -1
        self._position = 0
        self._seen: list[tuple[int, int]] = []

    def update(self, *, last: bool) -> None:
        """Log what is new. At the `last` update a trial that has not ended is closed too."""
        seen = self._stamps()
        if seen == self._seen and not (last and self._sinks):
            return
        self._seen = seen
        events = [event["event"] for event in self._folder.attempts()]
        if not events:
            return
        over = last or events[-1] in ("done", "failed")
        mark = self._mark()
        if over and files.read_json(self._record) == {"mark": mark, "errors": {}}:
            return
        if events.count("started") != self._attempt:
            self._begin(events.count("started"))
        for row in self._rows():
            self._each(lambda sink, row=row: sink.log(row))
        if over:
            ended = Ended(self._folder, self._follower.evaluations(self._trial["stage"]))
            self._each(lambda sink: sink.close(ended))
            self._sinks = {}
            files.write_json(self._record, {"mark": mark, "errors": self._errors})

    def _begin(self, attempt: int) -> None:
        """Start again from the first row under the same id: a new attempt replaces the last."""
        ended = Ended(self._folder, [])
        self._each(lambda sink: sink.close(ended))
        self._attempt, self._position, self._errors, self._sinks = attempt, 0, {}, {}
        for tracker, opened in self._follower.openers(self._trial, self._folder.path.name).items():
            try:
                self._sinks[tracker] = opened()
            except Exception as error:
                self._note_error(tracker, error)
        if self._follower.unanswered and "wandb" in self._sinks:
            self._errors["wandb"] = f"{self._trial['key']}: {self._follower.unanswered}"

    def _each(self, act: Callable[[Sink], None]) -> None:
        for tracker, sink in list(self._sinks.items()):
            try:
                act(sink)
            except Exception as error:
                del self._sinks[tracker]
                self._note_error(tracker, error)

    def _note_error(self, tracker: str, error: Exception) -> None:
        """Errors of trackers go to tracking.json, and at the end of the run to the terminal."""
        self._errors[tracker] = f"{self._trial['key']}: {type(error).__name__}: {error}"

    def _rows(self) -> Iterator[dict[str, Any]]:
        """New complete lines of metrics.jsonl."""
        path = self._folder.path / "metrics.jsonl"
        if not path.is_file():
            return
        with open(path, "rb") as file:
            file.seek(self._position)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._position += len(line)
                yield json.loads(line)

    def _stamps(self) -> list[tuple[int, int]]:
        names = ("attempts.jsonl", "metrics.jsonl", "train.json", "scores")
        paths = [self._folder.path / name for name in names]
        stats = [path.stat() for path in paths if path.exists()]
        return [(stat.st_mtime_ns, stat.st_size) for stat in stats]

    def _mark(self) -> str:
        """Hash of everything that the trackers receive."""
        evaluations = self._follower.evaluations(self._trial["stage"])
        ended = Ended(self._folder, evaluations)
        return files.short_hash(ended.figures, ended.last, self._follower.tracking.model_dump())


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
        self._trials: dict[Path, _Followed] = {}

    def follow(self, stop: threading.Event) -> None:
        """Update until `stop` is set, and once more then."""
        pause = POLL_SECONDS
        while not stop.wait(pause):
            before = time.process_time()
            self._update(last=False)
            pause = max(POLL_SECONDS, (time.process_time() - before) / MAX_CPU_SHARE)
        self._update(last=True)
        if self.tracking.wandb is not None:
            self._summary(self.tracking.wandb)

    def _update(self, *, last: bool) -> None:
        """Trials are taken up as they are planned, which some are while others run."""
        for folder, trial in records.trials(self.run_dir, but=self._trials):
            self._trials[folder] = _Followed(self, folder, trial)
        for trial in self._trials.values():
            trial.update(last=last)

    def evaluations(self, stage: str) -> list[dict[str, Any]]:
        return records.wanted(records.manifest(self.run_dir).get("stages", {}), stage)

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
    Follower(arguments.run_dir.absolute()).follow(stop)
