"""Faults that make no noise: what has stopped, hangs, or is taken away."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from sweep.storage import events
from tests.faults.clusters import at_work_among, node
from tests.faults.runs import ROOT, Run, ended, must, wait_until

STALLED_SECONDS = 60.0
"""Of resources.stalled_minutes; a machine with other work takes half of it for the imports."""

STALLED = ("--set", f"resources.stalled_minutes={STALLED_SECONDS / 60}")

HANGS = '''"""In a run of tests/faults: the first evaluation of a trained model never returns."""
import importlib.abc, importlib.util, os, sys, time

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "trainers.evaluate.harness":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            score = module.score
            def hanging(*arguments, **options):
                if os.path.exists(os.environ["FAULT_HANG"]):
                    os.remove(os.environ["FAULT_HANG"])
                    time.sleep(100_000)
                return score(*arguments, **options)
            module.score = hanging
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
'''


def worker_stopped(run: Run, chance: random.Random) -> None:
    """SIGSTOP of a worker in training: it cannot end itself, so the driver does."""
    process = run.start(*STALLED)
    victim = wait_until(run.at_work, process)
    time.sleep(chance.uniform(0.0, 1.0))
    pid = run.attempts()[victim][-1]["pid"]
    os.kill(pid, signal.SIGSTOP)
    _must_be_noticed(run, victim, process)
    ended(process, 0)


def worker_stopped_on_another_node(run: Run, chance: random.Random) -> None:
    """The same on the second of two nodes."""
    with node(run.folder, "--head") as head:
        address = f"127.0.0.1:{head.port}"
        with node(run.folder, f"--address={address}", "127.0.0.2") as second:
            run.options = ("--address", address)
            run.environment = second.environment
            process = run.start(*STALLED)
            victim = wait_until(lambda: at_work_among(run, second.workers()), process)
            os.kill(run.attempts()[victim][-1]["pid"], signal.SIGSTOP)
            _must_be_noticed(run, victim, process)
            ended(process, 0)


def _must_be_noticed(run: Run, victim: Path, process: Any) -> None:
    stopped = time.monotonic()
    wait_until(lambda: _stalled(run, victim), process, 3 * STALLED_SECONDS)
    took = time.monotonic() - stopped
    print(f"  a stopped worker was noticed after {took:.0f} s", flush=True)
    must(took < STALLED_SECONDS, f"noticed after {took:.0f} s")
    wait_until(lambda: run.starts()[victim] == 2, process)
    log = (victim / "log.txt").read_text(errors="replace")
    must("Thread 0x" in log or "most recent call first" in log, "no stacks in log.txt")


def _stalled(run: Run, victim: Path) -> bool:
    return any(event.get("stalled") for event in run.attempts()[victim])


def evaluation_hangs(run: Run, chance: random.Random) -> None:
    """A benchmark that never returns, on Ray: ended at the limit, and tried again."""
    _let_hang(run)
    run.end(*STALLED)
    stalled = [f for f, found in run.attempts().items() if any(e.get("stalled") for e in found)]
    must(len(stalled) == 1, f"stalled: {stalled}")
    log = (stalled[0] / "log.txt").read_text(errors="replace")
    must("hanging" in log, "the stacks do not show where it hung")


def evaluation_hangs_in_driver(run: Run, chance: random.Random) -> None:
    """The same in one process, which ends itself; the same command goes on."""
    _let_hang(run)
    said = run.end(*STALLED, code=4)
    must("no sign of progress" in said and "goes on from here" in said, said[-500:])
    run.end(*STALLED)


def evaluation_over_its_time(run: Run, chance: random.Random) -> None:
    """The same with limits.max_trial_hours: failed, and the others are not."""
    _let_hang(run)
    run.end("--set", "limits.max_trial_hours=0.01", code=3)
    failed = [e for found in run.attempts().values() for e in found if e["event"] == "failed"]
    must(len(failed) == 1 and "over the time limit" in failed[0]["reason"], f"failed: {failed}")
    run.end("--retry-failed")


def _let_hang(run: Run) -> None:
    folder = run.folder / "hang"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HANGS)
    flag = run.folder / "hang-once"
    flag.touch()
    run.environment = {"PYTHONPATH": f"{folder}:{ROOT}", "FAULT_HANG": str(flag)}


def preempted_twice(run: Run, chance: random.Random) -> None:
    """The same trial's worker is killed twice, each time further on: no retry is used up."""
    process = run.start("--set", "resources.retries=0", "--set", "stages.second.steps=120")
    victim = wait_until(lambda: _past(run, None, 6), process)
    for steps in (6, 40):
        wait_until(lambda least=steps: _past(run, victim, least), process)
        os.kill(_worker(run, victim), signal.SIGKILL)
        starts = run.starts()[victim]
        wait_until(lambda least=starts: run.starts()[victim] > least, process)
    said = ended(process, 0)
    must("6 ok" in said, said[-500:])
    again = [e for e in events.read(run.path / "events.jsonl") if e["event"] == "retried"]
    must(len(again) == 2, f"retried: {len(again)}")
    run.judged_against = ("--set", "stages.second.steps=120")


def preemption_notice(run: Run, chance: random.Random) -> None:
    """SIGTERM to a worker: it saves a checkpoint at its next step, and goes on from there."""
    slow = ("--set", "stages.second.save_every_steps=1000")
    process = run.start(*slow)
    victim = wait_until(lambda: _past(run, None, 3), process)
    os.kill(_worker(run, victim), signal.SIGTERM)
    ended(process, 0)
    names = [event["event"] for event in run.attempts()[victim]]
    must(names == ["started", "stopped", "started", "resumed", "done"], f"attempts: {names}")
    run.judged_against = slow


def _worker(run: Run, victim: Path) -> int:
    return [e["pid"] for e in run.attempts()[victim] if e["event"] == "started"][-1]


def _past(run: Run, victim: Path | None, steps: int) -> Path | None:
    """A trial of the second stage that has taken more steps than that."""
    for folder, taken in run.steps().items():
        if taken > steps and folder.name.startswith("second") and victim in (None, folder):
            return folder
    return None
