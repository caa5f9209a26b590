"""Faults of processes: killed, interrupted, started twice, with a clock that jumps."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from sweep.execution.backends import ray_cleanup
from sweep.storage import events
from tests.faults.runs import Before, Run, ended, family, must, none_left, wait_until

LEFT_SECONDS = 30.0
"""No process of a killed driver lives longer."""


def kill(process: subprocess.Popen[Any]) -> None:
    """kill -9 of a driver; what it had started goes by itself."""
    processes = family(process.pid)
    process.kill()
    process.communicate()
    none_left(processes, LEFT_SECONDS)


def go_on(run: Run) -> None:
    """The same command again; what was done is not done again."""
    before = Before.of(run)
    run.end()
    before.check(run)


def driver_killed(run: Run, chance: random.Random) -> None:
    """kill -9 at a random moment, from the start of Ray to the report. A run that was quicker is
    done once more, and killed sooner."""
    moment = chance.uniform(2.0, 25.0)
    while not _killed_after(run, moment):
        shutil.rmtree(run.path)
        moment /= 2
    go_on(run)


def _killed_after(run: Run, seconds: float) -> bool:
    """Whether the run was still at work then."""
    process = run.start()
    wait_until(lambda: (run.path / "events.jsonl").exists(), process)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        kill(process)
        return True
    process.communicate()
    return False


def driver_killed_while_training(run: Run, chance: random.Random) -> None:
    """kill -9 in the middle of two trainings."""
    before = _scratch_folders()
    process = run.start()
    wait_until(run.at_work, process)
    time.sleep(chance.uniform(0.0, 1.0))
    kill(process)
    left = _scratch_folders() - before
    must(not left, f"left behind: {left}")
    must((run.path / "driver.json").exists(), "it had no time to tidy up")
    go_on(run)


def _scratch_folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("sweep-*"))


def driver_killed_while_ray_starts(run: Run, chance: random.Random) -> None:
    """kill -9 between Ray's first process and its last."""
    process = run.start()
    wait_until(lambda: _has_head(process.pid), process)
    time.sleep(chance.uniform(0.0, 2.0))
    kill(process)
    session = re.compile(rf".*/session_[\d_-]+_{process.pid}/")
    left = [f"{one.pid} {one.name()}" for one in ray_cleanup.using(session)]
    must(not left, f"started in the last moment and still there: {left}")
    run.end()


def _has_head(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return any(child.name() == "gcs_server" for child in family(pid))
    return False


def worker_killed(run: Run, chance: random.Random) -> None:
    process = run.start()
    victim = wait_until(run.at_work, process)
    time.sleep(chance.uniform(0.0, 0.5))
    before = Before.of(run)
    pid = run.attempts()[victim][-1]["pid"]
    os.kill(pid, signal.SIGKILL)
    ended(process, 0)
    before.check(run)
    starts = run.starts()
    other = [f.name for f, count in starts.items() if f != victim and count != 1]
    must(not other, f"others were started again: {other}")
    key = victim.name.rpartition("-")[2]
    retried = [e["key"] for e in events.read(run.path / "events.jsonl") if e["event"] == "retried"]
    if starts[victim] > 1:  # else it had ended before it was killed
        must(retried == [key], f"retried: {retried}")


def pass_killed(run: Run, chance: random.Random) -> None:
    """All that was trained in it goes on, in one pass again; nothing else is begun anew."""
    process = run.start()
    victim = wait_until(run.at_work, process)
    time.sleep(chance.uniform(0.0, 0.5))
    before = Before.of(run)
    pid = run.attempts()[victim][-1]["pid"]
    begun = {
        f: [e for e in found if e["event"] == "started"] for f, found in run.attempts().items()
    }
    mine = {
        f for f in before.steps if begun[f][-1]["pid"] == pid and begun[f][-1].get("lanes") == 2
    }
    must(len(mine) == 2 and victim in mine, f"in one pass: {mine}")
    os.kill(pid, signal.SIGKILL)
    ended(process, 0)
    before.check(run)
    keys = {folder.name.rpartition("-")[2] for folder in mine}
    retried = {e["key"] for e in events.read(run.path / "events.jsonl") if e["event"] == "retried"}
    died = {f for f, found in run.attempts().items() if any(e.get("died") for e in found)}
    if died:  # else it had ended before it was killed
        must(died == mine and retried == keys, f"died: {died}; retried: {retried}")
    for folder in died:
        second = [e for e in run.attempts()[folder] if e["event"] == "started"][1]
        must(second.get("lanes") == 2, f"{folder.name} was tried again alone")


def interrupted_once(run: Run, chance: random.Random) -> None:
    _interrupted(run, chance, [signal.SIGINT], 30.0)


def interrupted_twice(run: Run, chance: random.Random) -> None:
    _interrupted(run, chance, [signal.SIGINT, signal.SIGINT], 5.0)


def terminated(run: Run, chance: random.Random) -> None:
    _interrupted(run, chance, [signal.SIGTERM], 30.0)


def _interrupted(
    run: Run, chance: random.Random, signals: list[signal.Signals], seconds: float
) -> None:
    process = run.start()
    wait_until(run.at_work, process)
    time.sleep(chance.uniform(0.0, 1.0))
    processes = family(process.pid)
    for sent in signals:
        process.send_signal(sent)
        last = time.monotonic()
        time.sleep(0.5)
    said = ended(process, 130, seconds + 20)
    took = time.monotonic() - last
    must(took < seconds, f"{took:.1f} s until it ended, not {seconds:g}")
    must("the same command continues from here" in said, said[-500:])
    none_left(processes, LEFT_SECONDS)
    go_on(run)


def two_drivers(run: Run, chance: random.Random) -> None:
    first = run.start()
    wait_until(run.at_work, first)
    said = run.end(code=4)
    must(f"held by process {first.pid}" in said, said[-500:])
    ended(first, 0)


CLOCK = """\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
    const char *file = getenv("FAULT_CLOCK");
    return file && access(file, F_OK) == 0 ? 86400 : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(clock, now);
    if (code == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec -= shift();
    return code;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec at;
    int code = clock_gettime(CLOCK_REALTIME, &at);
    now->tv_sec = at.tv_sec;
    now->tv_usec = at.tv_nsec / 1000;
    return code;
}

time_t time(time_t *into) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (into) *into = at.tv_sec;
    return at.tv_sec;
}
"""
"""The wall clock is a day late from the moment that a file is there."""


def clock_set_back(run: Run, chance: random.Random) -> None:
    """In the middle of a training; then the driver is killed, and goes on in the past."""
    source, library = run.folder / "clock.c", run.folder / "clock.so"
    source.write_text(CLOCK)
    build = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(build, check=True)
    yesterday = run.folder / "yesterday"
    run.environment = {"LD_PRELOAD": str(library), "FAULT_CLOCK": str(yesterday)}
    process = run.start()
    wait_until(run.at_work, process)
    yesterday.touch()
    wait_until(lambda: _steps_in_the_past(run.path), process)
    kill(process)
    go_on(run)
    found = events.read(run.path / "events.jsonl")
    times = [event["time"] for event in found]
    must(times != sorted(times), "the clock was not set back")
    durations = [event["duration"] for event in found if "duration" in event]
    must(all(0 <= one < 300 for one in durations if one is not None), f"durations: {durations}")


def _steps_in_the_past(path: Path) -> bool:
    """Whether an event is older than one before it."""
    times = [event["time"] for event in events.read(path / "events.jsonl")]
    return times != sorted(times)
