"""Faults that make two processes write to one place."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.runs import ROOT, Run, ended, lines, must, wait_until
from trainers import files

LOCALFLOCK = """\
int flock(int descriptor, int operation) { return 0; }
"""
"""A file lock that says yes to everybody, as Lustre's `localflock` does between hosts."""

LOST_SECONDS = 30.0
"""For a driver to notice that it has lost its run."""


def two_writers(run: Run, chance: random.Random) -> None:
    """Each of four trials is started a second time while the first attempt lives (a node that was
    cut off), and the first one may sleep meanwhile: it writes nothing more, and no record is
    torn."""
    run.end("--set", "limits.max_trials=2", code=5)
    for victim in sorted(run.path.glob("trials/second*")):
        _write_twice(run, victim, chance)
    run.end()


def _write_twice(run: Run, victim: Path, chance: random.Random) -> None:
    first = _attempt(run, victim)
    wait_until(lambda: run.steps().get(victim, 0) > chance.randrange(2, 20), first)
    asleep = chance.random() < 0.5
    if asleep:
        first.send_signal(signal.SIGSTOP)
    second = _attempt(run, victim)
    wait_until(lambda: run.starts()[victim] == 2, second)
    if asleep:
        time.sleep(chance.uniform(0.0, 3.0))
        first.send_signal(signal.SIGCONT)
    ended(second, 0)
    said = ended(first, None, 60)
    must(first.returncode == 4, f"the first attempt ended with {first.returncode}: {said[-1000:]}")
    steps = [line["step"] for line in lines(victim / "metrics.jsonl")]
    must(steps == list(range(1, 41)), f"steps in metrics.jsonl: {steps}")
    names = [event["event"] for event in run.attempts()[victim]]
    must("failed" not in names, f"attempts: {names}")
    must(b"\0" not in (victim / "metrics.jsonl").read_bytes(), "NUL bytes")
    left = [part.name for part in victim.rglob("*.part")]
    must(not left, f"left behind: {left}")


def _attempt(run: Run, trial: Path) -> subprocess.Popen[str]:
    """One attempt at a trial in a process of its own, as a worker makes it."""
    key = trial.name.rpartition("-")[2]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.one_attempt", str(run.grid), str(run.path), key],
        cwd=run.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def lock_of_everybody(run: Run, chance: random.Random) -> None:
    """Two drivers on one folder, where each gets the file lock."""
    source, library = run.folder / "flock.c", run.folder / "flock.so"
    source.write_text(LOCALFLOCK)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    run.environment = {"LD_PRELOAD": str(library)}
    first = run.start()
    wait_until(run.at_work, first)
    said = run.end(code=4)
    must(f"held by process {first.pid}" in said, said[-500:])
    ended(first, 0)


def folder_moved(run: Run, chance: random.Random) -> None:
    """The run folder is moved away under its driver, and the command started again."""
    first = run.start()
    wait_until(run.at_work, first)
    run.path.rename(run.folder / "moved")
    began = time.monotonic()
    second = run.start()
    said = ended(first, 4, 120)
    took = time.monotonic() - began
    must(took < LOST_SECONDS, f"the first driver ended after {took:.0f} s")
    must("moved away" in said or "has lost the run" in said, said[-500:])
    ended(second, 0)


def driver_elsewhere_dead(run: Run, chance: random.Random) -> None:
    """`driver.json` of a driver on another host that died a day ago: status says so, and the next
    start takes over."""
    run.end("--set", "limits.max_trials=3", code=5)
    record = {"id": "x", "pid": 1, "host": "elsewhere", "since": "yesterday", "beat": 7}
    held = run.path / "driver.json"
    held.write_text(json.dumps(record))
    yesterday = time.time() - 86400
    os.utime(held, (yesterday, yesterday))
    (victim, *_) = sorted(run.path.glob("trials/second*"))
    with open(victim / "attempts.jsonl", "a") as file:
        started = {"event": "started", "attempt": 9, "pid": 1, "host": "x", "time": files.now()}
        file.write(json.dumps(started) + "\n")
    shutil.rmtree(victim / "scores", ignore_errors=True)
    status = subprocess.run(
        [sys.executable, "-m", "sweep.status", str(run.path)],
        cwd=run.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    ).stdout
    must("running" not in status, status)
    must("elsewhere" in status, f"the dead driver is not named: {status}")
    said = run.end()
    must("held by process 1 on elsewhere" in said, said[-500:])
