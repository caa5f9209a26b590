"""What training does on this device: kernels, exactness, speed, memory, resumption."""

import gc
import json
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import torch
from torch.profiler import ProfilerActivity, profile

from tests.gpu.setting import Setting, spec, synchronize, train
from trainers import files
from trainers.data import prepare
from trainers.models import load
from trainers.ops import likelihood
from trainers.ops.packed_attention import Example

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}
"""Dense bfloat16 operations a second, by a part of the GPU's name. Source: NVIDIA data sheets."""

WARM_UP = 2


def kernels(setting: Setting, folder: Path) -> dict[str, Any]:
    """The kernels of three steps that take most time, those of attention, and how many kernels
    three steps launch beside one: what a training does once is in both."""
    on_gpu = torch.cuda.is_available()
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU

    def profiled(steps: int) -> list[Any]:
        with profile(activities=[activity]) as recorded:
            train(setting, folder / str(steps), steps=steps)
            synchronize()
        return [event for event in recorded.key_averages() if event.key and "step" not in event.key]

    once, events = profiled(1), profiled(3)
    launched = [sum(event.count for event in some) for some in (once, events)]
    cost = (
        (lambda event: event.self_device_time_total)
        if on_gpu
        else (lambda event: event.self_cpu_time_total)
    )
    events.sort(key=cost, reverse=True)
    attention = [e.key for e in events if any(w in e.key.lower() for w in ("flash", "attention"))]
    return {
        "longest": [event.key for event in events[:8]],
        "attention": attention,
        "launches_per_step": (launched[1] - launched[0]) / 2,
    }


def packed_against_alone(setting: Setting, folder: Path) -> dict[str, Any]:
    """Losses of examples in packed rows, and of each on its own; nats a token."""
    loaded = load.load(setting.model)
    asked = spec(setting)
    prepared = prepare.prepare(asked, loaded.tokenizer, files.cache_folder("gpu"))
    columns: Any = prepared.train.select(range(16)).with_format("torch")[:]
    examples = [Example(*row) for row in zip(columns["input_ids"], columns["labels"], strict=True)]
    tokens = torch.tensor([example.loss_tokens for example in examples])
    bfloat16 = load.bfloat16("auto")
    together = likelihood.losses(loaded, examples, bfloat16) / tokens
    alone = torch.cat([likelihood.losses(loaded, [one], bfloat16) for one in examples]) / tokens
    return {
        "largest_difference": float((together - alone).abs().max()),
        "mean_loss": float(together.mean()),
        "ok": bool((together - alone).abs().max() < (0.02 if bfloat16 else 1e-4)),
    }


def losses_against_cpu(setting: Setting, folder: Path) -> dict[str, Any]:
    """Three steps on this device, in float32 and as trials compute, and on the CPU."""
    short = {"steps": 3, "batch_size": 4, "max_length": 128, "learning_rate": 1e-4}
    losses = {
        dtype: train(setting, folder / dtype, dtype=dtype, **short).figures["final_loss"]
        for dtype in ("float32", "auto")
    }
    with mock.patch.object(load, "device", lambda: torch.device("cpu")):
        cpu = train(setting, folder / "cpu", dtype="float32", **short).figures["final_loss"]
    close = abs(losses["float32"] - cpu) < 1e-3 * cpu and abs(losses["auto"] - cpu) < 2e-2 * cpu
    return {**losses, "cpu": cpu, "ok": close}


def speed(setting: Setting, folder: Path) -> dict[str, Any]:
    """Useful tokens a second at each batch size, and the share of the peak that this is."""
    return {
        f"batch {size}": at_batch(setting, folder / str(size), size) for size in setting.batches
    }


def at_batch(setting: Setting, folder: Path, size: int) -> dict[str, Any]:
    figures = train(setting, folder, batch_size=size).figures
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    first, last = json.loads(lines[WARM_UP - 1]), json.loads(lines[-1])
    seconds = last["seconds"] - first["seconds"]
    per_second = (last["tokens"] - first["tokens"]) / seconds
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    peak = next((flops for part, flops in PEAK_FLOPS.items() if part in name), None)
    used = 6 * figures["model_parameters"] * per_second
    return {
        "tokens_per_second": per_second,
        "milliseconds_per_step": 1000 * seconds / (len(lines) - WARM_UP),
        "share_of_peak": used / peak if peak else None,
        "tokens_per_micro_batch": figures["tokens_per_micro_batch"],
    }


def memory_after_trials(setting: Setting, folder: Path) -> dict[str, Any]:
    """Bytes that are held after each of several trials in one process: of the GPU, or of the
    process where there is none."""
    held = []
    for number in range(setting.trials):
        train(setting, folder / str(number), steps=2)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            held.append(torch.cuda.memory_allocated())
        else:
            held.append(psutil.Process().memory_info().rss)
    settled = held[1:]
    growth = settled[-1] - settled[0]
    return {"held": held, "growth": growth, "ok": not torch.cuda.is_available() or growth == 0}


class _NoRoom:
    """Refuses passes of more than so many tokens, as a full GPU does."""

    def __init__(self, tokens: int):
        self.tokens, self.refused = tokens, 0

    def __call__(self, module: Any, arguments: Any, named: Any) -> None:
        ids = named.get("input_ids", arguments[0] if arguments else None)
        if ids is not None and ids.numel() > self.tokens:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory (provoked)")


def out_of_memory(setting: Setting, folder: Path) -> dict[str, Any]:
    """A training whose first micro-batch does not fit ends with the loss of one that fits."""
    batch = {"batch_size": setting.batches[-1], "steps": 2}
    expected = train(setting, folder / "fits", **batch).figures["final_loss"]
    loaded = load.load(setting.model)
    body: Any = loaded.model.base_model
    hook = None
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        room = torch.cuda.memory_reserved() + (6 << 30)
        torch.cuda.set_per_process_memory_fraction(min(room / total, 1.0))
    else:
        hook = body.register_forward_pre_hook(_NoRoom(setting.max_length), with_kwargs=True)
    try:
        figures = train(
            setting, folder / "full", loaded, tokens_per_micro_batch=1 << 20, **batch
        ).figures
    finally:
        if hook is None:
            torch.cuda.set_per_process_memory_fraction(1.0)
        else:
            hook.remove()
    survived = abs(figures["final_loss"] - expected) < 1e-2 * expected
    return {
        "budgets_too_large": figures["budgets_too_large"],
        "ok": survived and bool(figures["budgets_too_large"]),
    }


class _Killed(Exception):
    pass


def resume(setting: Setting, folder: Path) -> dict[str, Any]:
    """A training that ends in the middle goes on from its checkpoint, with the losses of one that
    was left alone."""
    steps = {"steps": 6, "save_every_steps": 2}
    train(setting, folder / "whole", **steps)
    loaded = load.load(setting.model)
    metrics = folder / "cut" / "metrics.jsonl"

    def killed(*_: Any) -> None:
        if metrics.is_file() and len(_lines(metrics)) >= 3:
            raise _Killed

    body: Any = loaded.model.base_model
    hook = body.register_forward_pre_hook(killed)
    try:
        train(setting, folder / "cut", loaded, **steps)
        raise RuntimeError("the training was not killed: nothing to resume")
    except _Killed:
        marked = [json.dumps(line | {"before": True}) + "\n" for line in _lines(metrics)]
        metrics.write_text("".join(marked), encoding="utf-8")
    finally:
        hook.remove()
    train(setting, folder / "cut", **steps)
    after = _lines(metrics)
    again = sum("before" not in line for line in after)
    losses, expected = (
        torch.tensor([line["loss"] for line in lines])
        for lines in (after, _lines(folder / "whole" / "metrics.jsonl"))
    )
    difference = float((losses - expected).abs().max())
    bound = 1e-3 if torch.cuda.is_available() else 1e-6
    return {
        "difference": difference,
        "steps": len(after),
        "trained_again": again,
        "ok": difference <= bound and again == 4,
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
