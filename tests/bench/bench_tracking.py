"""What tracking costs: a small real grid without, with W&B offline, and with a W&B that is silent.

    python -m tests.bench.bench_tracking [--repeats 5] [--steps 400] [--ways offline] [--ray]

Four trials of the tiny model, some seconds each, and the model as it is; the three ways take turns,
each time in another order. The silent server takes connections on loopback and never answers. Told
are medians, and the median of the ratios to the way without in the same turn, since a machine's
speed drifts by more than is asked about: of the seconds of training and evaluation, of the whole
command, whose end waits for the tracker, and of the processor's seconds of all its processes.
Wanted: ratios of at most 1.05, and the same table. Many short turns tell more than few long ones.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tests.faults.clusters import silent_server
from tests.faults.runs import TIMES

ROOT = Path(__file__).resolve().parents[2]

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
WANTED = 1.05


class Timed(NamedTuple):
    trials: float
    """Seconds of training and evaluation, all trials together."""
    command: float
    cpu: float
    table: pd.DataFrame


def run(way: str, folder: Path, options: list[str]) -> Timed:
    with silent_server() as environment:
        command = [sys.executable, "-m", "sweep.run", str(folder.parent / "grid.yaml")]
        command += ["--runs", str(folder), "--set", WAYS[way], *options]
        began, before = time.monotonic(), processor()
        ended = subprocess.run(
            command,
            env=os.environ | environment | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
        )
        seconds = time.monotonic() - began
    if ended.returncode:
        sys.exit(f"{way}: exit {ended.returncode}\n{ended.stdout}{ended.stderr}")
    table = pd.read_csv(folder / "tracked" / "results.csv")
    trained = table.drop_duplicates("key").train_seconds.sum()
    scored = table.drop_duplicates(["key", "benchmark"]).eval_seconds.sum()
    return Timed(trained + scored, seconds, processor() - before, table.drop(columns=TIMES))


def processor() -> float:
    """Seconds of it that processes started here, and theirs, have taken so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--ray", action="store_true", help="With Ray, not in one process.")
    parser.add_argument("--ways", nargs="+", choices=[*WAYS][1:], default=[*WAYS][1:])
    given = parser.parse_args()
    options = [] if given.ray else ["--local"]
    ways = ["without", *given.ways]
    found: dict[str, list[Timed]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory(prefix="bench-tracking-") as name:
        (Path(name) / "grid.yaml").write_text(GRID.format(steps=given.steps))
        for repeat in range(given.repeats):
            turn = repeat % len(ways)
            for way in ways[turn:] + ways[:turn]:
                one = run(way, Path(name) / f"{way}-{repeat}", options)
                found[way].append(one)
                print(f"{way}: trials {one.trials:.1f} s, command {one.command:.1f} s", end=", ")
                print(f"processor {one.cpu:.1f} s", flush=True)
    plain = found["without"]
    for way, them in found.items():
        same = all(one.table.equals(plain[0].table) for one in them)
        parts = []
        for what in ("trials", "command", "cpu"):
            mine, base = ([getattr(one, what) for one in w] for w in (them, plain))
            ratios = sorted(one / other for one, other in zip(mine, base, strict=True))
            told = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
            ratio = f"{statistics.median(ratios):.3f} of without ({told})"
            parts.append(f"{what} {statistics.median(mine):.1f} s, {ratio}")
        print(f"{way}: {'; '.join(parts)}; table {'the same' if same else 'DIFFERENT'}")
    print(f"wanted: at most {WANTED:g}")


if __name__ == "__main__":
    main()
