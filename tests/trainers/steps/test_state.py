"""A training that is killed at any step and taken up again ends as one that was never killed."""

import json
import multiprocessing
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainers.data import prepare
from trainers.models import load
from trainers.specs.training import SftSpec
from trainers.stages import sft
from trainers.steps import state

SPEC = {
    "kind": "sft", "data": {"name": "world:sft", "examples": 200}, "learning_rate": 1e-3,
    "batch_size": 4, "heldout": 3, "max_length": 96, "dtype": "float32", "steps": 60,
    "noise_scale_every": 3, "save_every_steps": 5, "warmup_steps": 10, "schedule": "cosine",
}  # fmt: skip
"""More than an epoch, so that the order of the next one has to come back too."""


def _train(folder: Path) -> None:
    torch.set_num_threads(1)
    spec, loaded = SftSpec.model_validate(SPEC), load.load("tiny")
    prepared = prepare.prepare(spec, loaded.tokenizer, folder.parent / "data")
    figures = sft.train(spec, loaded, prepared, folder).figures
    loaded.model.save_pretrained(folder / "model")
    (folder / "figures.json").write_text(json.dumps(figures))


def start(folder: Path) -> multiprocessing.process.BaseProcess:
    """In a process of its own, as a worker that can be killed."""
    folder.mkdir(exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainers.data.prepare", "trainers.stages.sft"])
    process = context.Process(target=_train, args=(folder,))
    process.start()
    return process


def steps(folder: Path) -> int:
    metrics = folder / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def kill_at(step: int, folder: Path) -> None:
    process = start(folder)
    while steps(folder) < step:
        assert process.is_alive()
        time.sleep(0.005)
    process.kill()
    process.join()


def outcome(folder: Path) -> tuple[bytes, list[dict], dict]:
    """Weights, lines and figures, without what a clock decides."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    figures = json.loads((folder / "figures.json").read_text())
    for record in (*lines, figures):
        for name in ("seconds", "train_seconds", "noise_scale_cost"):
            record.pop(name, None)
    return (folder / "model" / "model.safetensors").read_bytes(), lines, figures


@pytest.fixture
def undisturbed(tmp_path) -> Path:
    threads = torch.get_num_threads()
    folder = tmp_path / "undisturbed"
    folder.mkdir()
    try:
        _train(folder)
    finally:
        torch.set_num_threads(threads)
    return folder


@pytest.mark.slow
def test_killed_twice_at_random_ends_with_the_same_weights_bit_for_bit(undisturbed, tmp_path):
    folder = tmp_path / "killed"
    rng = random.Random(time.time_ns())
    moments = rng.randrange(6, 30), rng.randrange(31, 55)
    for step in moments:
        kill_at(step, folder)
        saved = [int(one.name.removeprefix("step-")) for one in folder.glob("checkpoints/step-*")]
        assert 0 <= steps(folder) - max(saved) <= SPEC["save_every_steps"], f"killed at {moments}"
    process = start(folder)
    process.join()
    assert process.exitcode == 0
    weights, lines, figures = outcome(folder)
    expected, expected_lines, expected_figures = outcome(undisturbed)
    assert lines == expected_lines, f"killed at {moments}"
    assert figures == expected_figures
    assert weights == expected


@pytest.mark.parametrize("fused", [False, True])
def test_counts_of_steps_lie_where_the_optimizer_keeps_them(fused):
    """On a GPU a count beside the weights would be waited for in each step; a fused one needs it
    there. Here the device is one without memory."""
    model: Any = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), fused=fused)
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    saved = state.tensors(model, optimizer)
    away: Any = torch.nn.Linear(3, 2, device="meta")
    groups = [{"params": list(away.parameters()), "fused": fused}]
    restored = SimpleNamespace(param_groups=groups, state={})
    state.restore(saved, away, restored)
    kept = {
        entry: value.device.type
        for entry, value in restored.state[next(iter(away.parameters()))].items()
    }
    assert kept == {"step": "meta" if fused else "cpu", "exp_avg": "meta", "exp_avg_sq": "meta"}
