"""What tracking costs: a small real grid without, with W&B offline, and with a W&B that is silent.

    python tests/bench/bench_tracking.py [--repeats 5] [--steps 400] [--ray]
    python tests/bench/bench_tracking.py --beside --steps 4000 --repeats 1

Four trials of the tiny model, some seconds each, and the model as it is; the three ways take turns,
each time in another order. The silent server takes connections on loopback and never answers.
`--beside`: without and offline at the same time, each on a core of its own that its tracker has to
share, and once more with the cores changed. Told are medians and their ratios to the way without:
of the seconds of training and evaluation, of the whole command, whose end waits for the tracker,
and of the processor's seconds of all its processes, which others on the machine disturb least.
Wanted: ratios of at most 1.05, and the same table.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import pandas as pd  # noqa: E402

from tests.faults.clusters import silent_server  # noqa: E402

GRID = """\
name: tracked
model: tiny
stages:
  sft:
    kind: sft
    data: {{name: "world:sft", examples: 2000}}
    steps: {steps}
    heldout: 32
    max_length: 128
    grid:
      learning_rate: [0.0005, 0.001]            # 2 x 2 = 4 trials
      batch_size: [8, 16]
evaluate: {{benchmarks: [world_choice], limit: 200, batch_size: 64}}
resources: {{cpus_per_trial: 1}}
"""

WAYS = {
    "without": "tracking={}",
    "offline": "tracking={wandb: {project: bench}}",
    "silent": "tracking={wandb: {project: bench, mode: online}}",
}
TIMES = ["train_seconds", "eval_seconds"]
WANTED = 1.05


class Timed(NamedTuple):
    trials: float
    """Seconds of training and evaluation, all trials together."""
    command: float
    cpu: float
    table: pd.DataFrame


def run(way: str, folder: Path, options: list[str], core: int | None = None) -> Timed:
    """`core`: the only one that the command and all that it starts may use."""
    cores = [] if core is None else ["taskset", "-c", str(core)]
    with silent_server() as environment, tempfile.TemporaryFile() as output:
        command = [sys.executable, "-m", "sweep.run", str(folder.parent / "grid.yaml")]
        command += ["--runs", str(folder), "--set", WAYS[way], *options]
        began = time.monotonic()
        process = subprocess.Popen(
            cores + command,
            env=os.environ | environment | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
            stdout=output,
            stderr=output,
        )
        _, status, used = os.wait4(process.pid, 0)  # of this command and what it waited for
        seconds = time.monotonic() - began
        if status:
            output.seek(0)
            sys.exit(f"{way}: exit {os.waitstatus_to_exitcode(status)}\n{output.read().decode()}")
    table = pd.read_csv(folder / "tracked" / "results.csv")
    trained = table.drop_duplicates("key").train_seconds.sum()
    scored = table.drop_duplicates(["key", "benchmark"]).eval_seconds.sum()
    return Timed(
        trained + scored, seconds, used.ru_utime + used.ru_stime, table.drop(columns=TIMES)
    )


def beside(repeat: int, folder: Path, options: list[str]) -> dict[str, Timed]:
    """Without and offline at once, on the first two cores, which they change from time to time."""
    ways = ("without", "offline")
    cores = sorted(os.sched_getaffinity(0))[:2]
    with ThreadPoolExecutor(2) as pool:
        at_work = {
            way: pool.submit(
                run, way, folder / f"{way}-{repeat}", options, cores[(place + repeat) % 2]
            )
            for place, way in enumerate(ways)
        }
        return {way: each.result() for way, each in at_work.items()}


def in_turn(repeat: int, folder: Path, options: list[str]) -> dict[str, Timed]:
    turn = repeat % len(WAYS)
    ways = [*WAYS][turn:] + [*WAYS][:turn]
    return {way: run(way, folder / f"{way}-{repeat}", options) for way in ways}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--ray", action="store_true", help="With Ray, not in one process.")
    parser.add_argument("--beside", action="store_true", help="Two ways at the same time.")
    given = parser.parse_args()
    options = [] if given.ray else ["--local"]
    times, once = (2 * given.repeats, beside) if given.beside else (given.repeats, in_turn)
    found: dict[str, list[Timed]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="bench-tracking-") as name:
        (Path(name) / "grid.yaml").write_text(GRID.format(steps=given.steps))
        for repeat in range(times):
            for way, one in once(repeat, Path(name), options).items():
                found[way].append(one)
                print(f"{way}: trials {one.trials:.1f} s, command {one.command:.1f} s", end=", ")
                print(f"processor {one.cpu:.1f} s", flush=True)
    plain = found["without"]
    for way, them in found.items():
        same = all(one.table.equals(plain[0].table) for one in them)
        parts = []
        for what in ("trials", "command", "cpu"):
            mine, base = (statistics.median(getattr(one, what) for one in w) for w in (them, plain))
            parts.append(f"{what} {mine:.1f} s, {mine / base:.3f} of without")
        print(f"{way}: {'; '.join(parts)}; table {'the same' if same else 'DIFFERENT'}")
    print(f"wanted: at most {WANTED:g}")


if __name__ == "__main__":
    main()
