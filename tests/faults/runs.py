"""A real run to do a fault to, and what has to hold of it in the end.

The grid is small, everything in it is real: Ray or one process, TRL, lm-eval, the tiny model. Every
run is judged by its table, which has to be that of a run to which nothing was done.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import psutil

ROOT = Path(__file__).parents[2]
TIMES = ["train_seconds", "eval_seconds"]
ROW = ["key", "benchmark", "metric"]
SAVE_EVERY = 5

ROWS = "".join(
    json.dumps({"prompt": f"What is {n} and {n % 7}?", "completion": f"It is {n + n % 7}."}) + "\n"
    for n in range(40)
)

GRID = f"""\
name: run
model: tiny
stages:
  first:
    kind: sft
    data: rows.jsonl
    learning_rate: 0.001
    batch_size: 4
    steps: 5
    heldout: 8
    max_length: 128
  second:
    kind: sft
    start_from: first
    data: rows.jsonl
    steps: 40
    save_every_steps: {SAVE_EVERY}
    heldout: 8
    max_length: 128
    grid:
      learning_rate: [0.001, 0.002]
      batch_size: [2, 4]
evaluate: {{benchmarks: [world_choice], limit: 8, items_per_batch: 8}}
resources: {{cpus_per_trial: 1, max_concurrent: 2}}
"""
"""Six models: the tiny one as it is, one trained from it, and four cells that start from that."""


class Broken(AssertionError):
    """Something that has to hold does not."""


def must(true: Any, message: str) -> None:
    if not true:
        raise Broken(message)


class Verdict(NamedTuple):
    """Of a run against the reference."""

    lost: int
    """Cells that the reference has and this table has not, or not with a result."""
    doubled: int
    """Cells with a score that stands twice."""
    difference: float
    """The largest between two numbers of one place in both tables, times left out, relative to
    those above 1; infinite where text differs."""


class Run:
    """One run folder, `folder`/runs/run, and the command that makes it."""

    def __init__(self, folder: Path, grid: str = GRID, options: tuple[str, ...] = ()):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.grid = folder / "grid.yaml"
        self.grid.write_text(grid, encoding="utf-8")
        self.rows = folder / "rows.jsonl"
        self.rows.write_text(ROWS, encoding="utf-8")
        self.options = options
        self.environment: dict[str, str] = {}
        self.largest_file: int | None = None
        """Bytes; what is larger cannot be written."""
        self.cut_lines = 0
        """So many lines of a record may have been cut off, and others written after them."""
        self.runs = folder / "runs"
        self.judged_against: tuple[str, ...] = ()
        """Options of an undisturbed run to compare with, where it is not that of all faults."""
        self.place = str(self.runs)
        """What `--runs` is told: the folder, or a URL whose mirror `path` is then."""

    @property
    def path(self) -> Path:
        return self.runs / "run"

    def command(self, *options: str) -> list[str]:
        command = [sys.executable, "-m", "sweep.run", str(self.grid), "--runs", self.place]
        return [*command, *self.options, *options]

    def start(self, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*options),
            cwd=self.folder,
            env=self.surroundings(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=self._limit if self.largest_file else None,
        )

    def surroundings(self) -> dict[str, str]:
        """The environment of the command."""
        return os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "300"} | self.environment

    def _limit(self) -> None:
        assert self.largest_file is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.largest_file, self.largest_file))

    def end(self, *options: str, code: int = 0, seconds: float = 600) -> str:
        """The command from start to end, which has to have this exit code; returns its output."""
        return ended(self.start(*options), code, seconds)

    def attempts(self) -> dict[Path, list[dict[str, Any]]]:
        """Events of each trial, by its folder."""
        found = self.path.glob("trials/*/attempts.jsonl")
        return {file.parent: lines(file, self.cut_lines) for file in found}

    def starts(self) -> dict[Path, int]:
        """How often each trial was started."""
        trials = self.attempts().items()
        return {f: sum(event["event"] == "started" for event in events) for f, events in trials}

    def trained(self) -> dict[Path, int]:
        """When the training of each trial ended that has ended."""
        return {f.parent: f.stat().st_mtime_ns for f in self.path.glob("trials/*/train.json")}

    def steps(self) -> dict[Path, int]:
        """Optimizer steps that each trial in training has taken."""
        found = {}
        for metrics in self.path.glob("trials/*/metrics.jsonl"):
            if not (metrics.parent / "train.json").exists():
                found[metrics.parent] = metrics.read_bytes().count(b"\n")
        return found

    def at_work(self, stage: str = "second") -> Path | None:
        """The folder of a trial in the middle of its training."""
        found = (f for f, steps in self.steps().items() if steps and f.name.startswith(stage))
        return next(found, None)

    def table(self) -> pd.DataFrame:
        table = pd.read_csv(self.path / "results.csv", keep_default_na=False)
        return table.drop(columns=TIMES).sort_values(ROW, ignore_index=True)


class Before(NamedTuple):
    """What was done when the fault struck."""

    trained: dict[Path, int]
    steps: dict[Path, int]
    starts: dict[Path, int]

    @staticmethod
    def of(run: Run) -> "Before":
        return Before(run.trained(), run.steps(), run.starts())

    def check(self, run: Run) -> None:
        """Nothing trained is trained again, and a training goes on from its last checkpoint."""
        after = run.trained()
        again = [one.name for one, at in self.trained.items() if after.get(one) != at]
        must(not again, f"trained again: {', '.join(again)}")
        starts = run.starts()
        for folder, steps in self.steps.items():
            events = run.attempts()[folder]
            if starts[folder] == self.starts[folder] or _ended(events, self.starts[folder]):
                continue  # nothing was done to it
            resumed = [event["step"] for event in events if event["event"] == "resumed"]
            lost = steps - (resumed[-1] if resumed else 0)
            must(lost <= SAVE_EVERY, f"{folder.name}: {lost} steps lost")


def _ended(events: list[dict[str, Any]], attempt: int) -> bool:
    """Whether the attempt with this number, from 1, left its training to be scored by another."""
    number = 0
    for event in events:
        number += event["event"] == "started"
        if number == attempt and event["event"] == "trained":
            return True
    return False


def ended(process: subprocess.Popen[str], code: int | None, seconds: float = 600) -> str:
    """Wait for the end of a command; its output."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        raise Broken(f"not ended after {seconds:g} s: {output[-2000:]}") from None
    must(code in (None, process.returncode), f"exit code {process.returncode}: {output[-2000:]}")
    return output


def wait_until(
    true: Callable[[], Any], process: subprocess.Popen[str] | None = None, seconds: float = 300
) -> Any:
    """What `true()` returns when it first is; the process has to be alive until then."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        if process is not None and process.poll() is not None:
            raise Broken(f"ended too soon: {process.communicate()[0][-2000:]}")
        time.sleep(0.02)
    raise Broken("what was waited for did not happen")


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it has started, Ray's among them."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def alive(processes: list[psutil.Process]) -> Iterator[str]:
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                yield f"{process.pid} {' '.join(process.cmdline())[:120]}"
        except psutil.NoSuchProcess:
            continue


def none_left(processes: list[psutil.Process], seconds: float) -> float:
    """Seconds until all are gone; more than `seconds` is too long."""
    began = time.monotonic()
    while left := list(alive(processes)):
        if time.monotonic() - began > seconds:
            for process in processes:
                if process.is_running():
                    process.kill()
            raise Broken(f"still there after {seconds:g} s: {'; '.join(left)}")
        time.sleep(0.1)
    return time.monotonic() - began


def judged(table: pd.DataFrame, reference: pd.DataFrame) -> Verdict:
    good = set(table.loc[table.status.isin(["ok", "diverged"]), "key"])
    bad = set(table.loc[~table.status.isin(["ok", "diverged"]), "key"])
    lost = set(reference.key) - (good - bad)
    doubled = table.loc[table.duplicated(ROW), "key"].nunique()
    return Verdict(len(lost), doubled, difference(table, reference))


def difference(table: pd.DataFrame, reference: pd.DataFrame) -> float:
    if list(table.columns) != list(reference.columns) or len(table) != len(reference):
        return float("inf")
    largest = 0.0
    for name in table.columns:
        one, two = table[name], reference[name]
        unequal = one.astype(str) != two.astype(str)
        if not unequal.any():
            continue
        numbers = [pd.to_numeric(column[unequal], errors="coerce") for column in (one, two)]
        if numbers[0].isna().any() or numbers[1].isna().any():
            return float("inf")
        apart = (numbers[0] - numbers[1]).abs() / numbers[1].abs().clip(lower=1.0)
        largest = max(largest, float(apart.max()))
    return largest


def lines(path: Path, cut: int = 0) -> list[dict[str, Any]]:
    """Of a record that has to be whole but for a last line that was cut off, and up to `cut` others
    that were before something was written after them."""
    found, broken = [], []
    for line in filter(None, path.read_text(encoding="utf-8").split("\n")[:-1]):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            broken.append(line)
    must(len(broken) <= cut, f"{path}: no JSON: {broken}")
    must(not any(line.endswith("}") for line in broken), f"{path}: not cut off: {broken}")
    return found
