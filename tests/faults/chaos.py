"""A long run in which something dies every minute: `python -m tests.faults.chaos` (make chaos).

    python -m tests.faults.chaos --minutes 3 --cells 16

Two nodes that share no folder, an object store between them, and a grid of small real trainings.
Every `--every` seconds one of these happens, by `--seed`: the driver is killed (and started again,
as a supervisor would), a worker is killed, a whole node is killed and comes back, or the
store is out of reach for a while. After `--minutes` the run is left in peace until it ends; its
table has to be that of a run to which nothing was done.
"""

import argparse
import contextlib
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from tests.faults.clusters import Node, node
from tests.faults.processes import kill
from tests.faults.runs import Broken, Run, judged, must
from tests.faults.stores import Bucket, Line, bucket, joins_at, own_environment

GRID = """\
name: run
model: tiny
stages:
  second:
    kind: sft
    data: rows.jsonl
    steps: 20
    save_every_steps: 5
    heldout: 8
    max_length: 128
    grid:
      learning_rate: {{log: [1.0e-4, 1.0e-2], count: {rates}}}
      batch_size: [2, 4]
      seed: {seeds}
evaluate: {{benchmarks: [world_choice], limit: 8, items_per_batch: 8}}
resources: {{cpus_per_trial: 1, max_concurrent: 2, retries: 20}}
"""

RATES, PER_SEED = 4, 8
AWAY_SECONDS = 8.0
LOOK_SECONDS = 2.0
HOSTS = ("127.0.0.2", "127.0.0.3")
MOST_GIVEN_UP = 20
"""Ends with exit code 4; the command is given again after each."""

STARTS = 3
"""Of a node that comes back: a raylet may die as it joins, and a supervisor starts it again, as it
does one that dies later: a node does not survive its agent, which is killed as a worker may be."""

LAST_SECONDS = 3600.0
"""For what is left when the time is over."""


class Nodes:
    """A head that runs no trial, and two nodes of one CPU that can be killed and come back."""

    def __init__(self, driver: Path, store: Bucket, place: Path):
        self.driver, self.store, self.place = driver, store, place
        self.own = [place / "one", place / "two"]
        for folder in self.own:
            folder.mkdir()
        self.stack = contextlib.ExitStack()
        self.each = [contextlib.ExitStack(), contextlib.ExitStack()]
        self.nodes: list[Node] = []

    def __enter__(self) -> "Nodes":
        options = ["--num-cpus=0", f"--temp-dir={self.place / 'ray'}"]
        self.head = self.stack.enter_context(node(self.place, "--head", options=options))
        self.nodes = [self._begin(0), self._begin(1)]
        return self

    def __exit__(self, *_: object) -> None:
        for stack in (*self.each, self.stack):
            stack.close()

    def _begin(self, number: int) -> Node:
        environment = own_environment(self.store, self.own[number])
        join = f"--address=127.0.0.1:{self.head.port}"
        hidden = (self.driver, self.own[1 - number])
        return self.each[number].enter_context(
            node(self.place, join, HOSTS[number], environment, hidden)
        )

    def restart(self, number: int) -> None:
        self.nodes[number].kill()
        for attempt in range(STARTS):
            self.each[number].close()
            try:
                self.nodes[number] = self._begin(number)
                return
            except Broken:
                if attempt == STARTS - 1:
                    raise

    def dead(self) -> list[int]:
        """Those that ended though nobody struck them."""
        return [number for number, one in enumerate(self.nodes) if not one.lives()]

    def last_words(self) -> str:
        """Of Ray's nodes, the errors that they logged last."""
        lines: list[str] = []
        for log in (self.place / "ray").glob("session_2*/logs/raylet*.*"):
            text = log.read_text(encoding="utf-8", errors="replace")
            lines += [line for line in text.splitlines() if " E " in line or " C " in line][-3:]
        return "\n".join(lines)


def workers(nodes: Nodes) -> list[psutil.Process]:
    alive = []
    for one in nodes.nodes:
        for child in psutil.Process(one.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.name().startswith("ray::"):
                    alive.append(child)
    return alive


class Chaos:
    def __init__(self, run: Run, nodes: Nodes, line: Line, chance: random.Random):
        self.run, self.nodes, self.line, self.chance = run, nodes, line, chance
        self.log = run.folder / "driver.out"
        self.driver = self._start()
        self.done: Counter[str] = Counter()
        self.gave_up = self.fell = 0
        self.memory: dict[int, list[int]] = defaultdict(list)
        """Process id of each driver -> bytes that it held, every `LOOK_SECONDS`."""
        self._looked = 0.0

    def _start(self) -> subprocess.Popen[bytes]:
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                self.run.command("--yes"),
                cwd=self.run.folder,
                env=self.run.surroundings(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def strike(self) -> None:
        deed = self.chance.choice((self.kill_driver, self.kill_worker, self.kill_node, self.cut))
        self.done[deed.__name__] += 1
        print(f"{time.strftime('%H:%M:%S')} {deed.__name__}", flush=True)
        deed()

    def kill_driver(self) -> None:
        kill(self.driver)
        self.driver = self._start()

    def kill_worker(self) -> None:
        if there := workers(self.nodes):
            with contextlib.suppress(psutil.NoSuchProcess):
                self.chance.choice(there).kill()

    def kill_node(self) -> None:
        self.nodes.restart(self.chance.randrange(2))

    def cut(self) -> None:
        self.line.cut()
        time.sleep(AWAY_SECONDS)
        self.line.mend()

    def until(self, end: float, every: float | None) -> bool:
        """Whether the run has ended before `end`; a strike `every` so many seconds."""
        strike = time.monotonic() + (every or 0)
        while time.monotonic() < end:
            if self.driver.poll() is not None:
                if self.driver.returncode == 0:
                    return True
                self.gave_up += 1  # the cluster or the store was away for too long
                expected = self.driver.returncode == 4 and self.gave_up <= MOST_GIVEN_UP
                must(expected, f"exit code {self.driver.returncode}: {self.tail()}")
                self.driver = self._start()
            self._look()
            if every is not None and time.monotonic() > strike:
                self.strike()
                strike = time.monotonic() + every
            time.sleep(0.2)
        return False

    def _look(self) -> None:
        if time.monotonic() < self._looked + LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        for number in self.nodes.dead():
            self.fell += 1
            print(f"{time.strftime('%H:%M:%S')} a node ended by itself", flush=True)
            print(self.nodes.last_words(), flush=True)
            self.nodes.restart(number)
        with contextlib.suppress(psutil.NoSuchProcess):
            held = psutil.Process(self.driver.pid).memory_info().rss
            self.memory[self.driver.pid].append(held)

    def memory_words(self) -> str:
        """Of the driver that lived longest: the most that it held in each quarter of its life."""
        longest = max(self.memory.values(), key=len)
        most = max(max(held) for held in self.memory.values())
        quarter = -(-len(longest) // 4)
        parts = [longest[start : start + quarter] for start in range(0, len(longest), quarter)]
        return (
            f"driver at most {most >> 20} MiB; the one of {len(self.memory)} that lived longest "
            f"({len(longest) * LOOK_SECONDS / 60:.1f} min) held up to "
            f"{', '.join(str(max(part) >> 20) for part in parts)} MiB in the quarters of its life"
        )

    def tail(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60, help="of strikes")
    parser.add_argument("--every", type=float, default=60, help="seconds between two strikes")
    parser.add_argument("--cells", type=int, default=1040, help=f"rounded up to {PER_SEED}s")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(given)
    seeds = list(range(-(-arguments.cells // PER_SEED)))
    grid = GRID.format(rates=RATES, seeds=seeds)
    with TemporaryDirectory(prefix="chaos", dir="/tmp", ignore_cleanup_errors=True) as folder:
        reference = Run(Path(folder, "undisturbed"), grid, ("--local", "--yes"))
        reference.end(seconds=7200)
        run = Run(Path(folder, "run"), grid)
        place = Path(folder, "r")
        place.mkdir()
        with bucket(run.folder) as store:
            line = Line(store.port)
            between = store._replace(
                environment=store.environment | {"AWS_ENDPOINT_URL": line.address}
            )
            with Nodes(run.folder, between, place) as nodes:
                joins_at(run, nodes.head, between)
                chaos = Chaos(run, nodes, line, random.Random(arguments.seed))
                begun = time.monotonic()
                try:
                    over = chaos.until(begun + 60 * arguments.minutes, arguments.every)
                    over = over or chaos.until(time.monotonic() + LAST_SECONDS, None)
                finally:
                    if chaos.driver.poll() is None:
                        kill(chaos.driver)
                must(over, f"not ended: {chaos.tail()}")
        verdict = judged(run.table(), reference.table())
        starts = sum(run.starts().values())
    struck = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in sorted(chaos.done.items()))
    print(f"{PER_SEED * len(seeds)} cells in {(time.monotonic() - begun) / 60:.1f} min; {struck}")
    print(f"trials begun {starts} times; {chaos.gave_up} drivers gave up; {chaos.fell} nodes fell")
    print(chaos.memory_words())
    print(f"lost {verdict.lost}, doubled {verdict.doubled}, difference {verdict.difference:g}")
    return int(any(verdict))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broken as error:
        sys.exit(f"NOT SO: {error}")
