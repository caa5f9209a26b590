"""Faults of memory: a machine without enough of it kills the process that asks for more."""

import contextlib
import math
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from sweep import store
from tests.faults.runs import Before, Broken, Run, ended, must, wait_until

CONTROL = Path("/sys/fs/cgroup/memory")
"""Version 1 of the kernel's control groups, for whoever may make a group."""


def out_of_memory(run: Run, chance: random.Random) -> None:
    """The kernel kills a driver that trains; the next start takes half the token budget, and the
    same batches."""
    with _group(f"faults-{run.folder.name}-{time.monotonic_ns()}") as group:
        process = run.start()
        victim = wait_until(run.at_work, process)
        (group / "cgroup.procs").write_text(str(process.pid))
        _take_the_rest(group, process)
        ended(process, -signal.SIGKILL, 60)
    before = Before.of(run)
    run.end()
    before.check(run)
    other = [f for f in run.path.glob("trials/second*") if f != victim]
    budgets = {_budget(folder) for folder in other}
    must(len(budgets) == 1, f"token budgets of what was not killed: {budgets}")
    must(_budget(victim) == budgets.pop() // 2, f"token budget: {_budget(victim)}")


def _take_the_rest(group: Path, process: subprocess.Popen[str]) -> None:
    """Let the group hold no more than it does at its lowest, so that the next peak is too much."""
    end = time.monotonic() + 60
    lowest = math.inf
    while process.poll() is None:
        if time.monotonic() > end:
            process.kill()
            raise Broken("it lived on without memory")
        lowest = min(lowest, int((group / "memory.usage_in_bytes").read_text()))
        with contextlib.suppress(OSError):  # busy: it has grown since
            (group / "memory.limit_in_bytes").write_text(str(lowest))
        time.sleep(0.005)


@contextlib.contextmanager
def _group(name: str) -> Iterator[Path]:
    group = CONTROL / name
    group.mkdir()
    try:
        yield group
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), seconds=30)
        group.rmdir()


def _budget(folder: Path) -> int:
    """Tokens that the training of a trial took at once."""
    return store.read_json(folder / "train.json")["tokens_per_micro_batch"]
