"""Faults of memory: a machine without enough of it kills the process that asks for more."""

import contextlib
import math
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.faults.runs import Before, Broken, Run, ended, must, wait_until
from trainers import files

GROUPS = Path("/sys/fs/cgroup")


def out_of_memory(run: Run, chance: random.Random) -> None:
    """The kernel kills a driver that trains; the next start takes half the token budget, and the
    same batches."""
    with _group(f"faults-{time.monotonic_ns()}") as group:
        process = run.start()
        victim = wait_until(run.at_work, process)
        group.processes.write_text(str(process.pid))
        _take_the_rest(group, process)
        ended(process, -signal.SIGKILL, 60)
    before = Before.of(run)
    run.end()
    before.check(run)
    killed = {victim, *before.steps}  # with those that were trained in one pass with it
    other = [f for f in run.path.glob("trials/second*") if f not in killed]
    budgets = {_budget(folder) for folder in other}
    must(len(budgets) == 1, f"token budgets of what was not killed: {budgets}")
    halved = {_budget(folder) for folder in killed}
    must(halved == {budgets.pop() // 2}, f"token budgets: {halved}")


class _Group(NamedTuple):
    """Files of a control group, of version 1 or 2."""

    processes: Path
    held: Path
    limit: Path


@contextlib.contextmanager
def _group(name: str) -> Iterator[_Group]:
    """For whoever may make one, which is root."""
    if (GROUPS / "memory" / "memory.limit_in_bytes").exists():
        folder, held, limit = GROUPS / "memory", "memory.usage_in_bytes", "memory.limit_in_bytes"
    else:
        folder, held, limit = GROUPS, "memory.current", "memory.max"
    place = folder / name
    try:
        place.mkdir()
    except OSError as error:
        raise Broken(f"no control group can be made here: {error}") from error
    group = _Group(place / "cgroup.procs", place / held, place / limit)
    try:
        yield group
    finally:
        wait_until(lambda: not group.processes.read_text(), seconds=30)
        place.rmdir()


def _take_the_rest(group: _Group, process: subprocess.Popen[str]) -> None:
    """Let the group hold no more than it does at its lowest, so that the next peak is too much."""
    end = time.monotonic() + 60
    lowest = math.inf
    while process.poll() is None:
        if time.monotonic() > end:
            process.kill()
            process.wait()
            raise Broken("it lived on without memory")
        lowest = min(lowest, int(group.held.read_text()))
        with contextlib.suppress(OSError):  # busy: it has grown since
            group.limit.write_text(str(lowest))
        time.sleep(0.005)


def _budget(folder: Path) -> int:
    """Tokens that the training of a trial took at once."""
    return files.read_json(folder / "train.json")["tokens_per_micro_batch"]
