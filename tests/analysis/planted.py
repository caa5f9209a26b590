"""A run folder with planted truths, as the sweep writes it, and tables of known surfaces."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.tables.external.adopt import adopt

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
SIZES = (4, 8, 16, 32)
EVALUATIONS = [
    {"benchmark": "world_choice", "metric": "acc", "higher_is_better": True},
    {"benchmark": "world_arithmetic", "metric": "exact_match", "higher_is_better": True},
    {"benchmark": "world_continuation", "metric": "acc", "higher_is_better": True},
    {"benchmark": "world_instruction", "metric": "acc", "higher_is_better": True},
    {"benchmark": "heldout_loss", "metric": "loss", "higher_is_better": False},
]
PEAK = {"world_choice": -12.5, "world_arithmetic": -12.0, "world_continuation": -14.5}


Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


def table(
    score: Score,
    *,
    rates: tuple[float, ...] = RATES,
    sizes: tuple[int, ...] = SIZES,
    seeds: int = 1,
    noise: float = 0.0,
    benchmark: str = "arc",
    metric: str = "acc",
    stderr: bool = True,
) -> pd.DataFrame:
    """A foreign table whose value is score(log2 rate, log2 size) plus noise, as read from CSV."""
    rng = np.random.default_rng(seeds)
    rows = [(r, s, seed) for r in rates for s in sizes for seed in range(seeds)]
    frame = pd.DataFrame(rows, columns=["learning_rate", "batch_size", "seed"])
    x, y = np.log2(frame.learning_rate.to_numpy()), np.log2(frame.batch_size.to_numpy())
    frame["value"] = score(x, y) + noise * rng.standard_normal(len(frame))
    frame["benchmark"], frame["metric"] = benchmark, metric
    if stderr:
        frame["stderr"] = noise or 1e-3
    return adopt(frame, "planted").frame


def bowl(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Best at log2 learning rate -10, log2 batch size 3.5: log2 ratio -13.5."""
    return 0.6 - 0.02 * (x + 10) ** 2 - 0.01 * (y - 3.5) ** 2


def run_folder(root: Path, items: int = 60) -> Path:
    """4 stand-in benchmarks and a loss over 5 x 4 cells, with a diverged and a failed cell.

    Base and pretraining stand outside the grid; one planned cell was never started.
    """
    wanted = [e | {"fingerprint": f"{order:04x}"} for order, e in enumerate(EVALUATIONS)]
    stages = {name: {"evaluations": wanted} for name in ("base", "pretrain", "sft")}
    _write(
        root / "manifest.json",
        {
            "name": "planted",
            "created": "2026-01-01T00:00:00Z",
            "git_commit": "abc1234",
            "packages": {"torch": "2.13.0"},
            "stages": stages,
        },
    )
    difficulty = np.random.default_rng(7).normal(0, 1, items)
    plan = []

    def trial(key: str, stage: str, kind: str, parent: str | None, spec: dict | None) -> Path:
        plan.append({"key": key, "stage": stage, "parent": parent or ""} | (spec or {}))
        folder = root / "trials" / f"{stage}-{key}"
        _write(
            folder / "trial.json",
            {"key": key, "parent": parent, "stage": stage, "arm": "", "kind": kind}
            | {"model": "tiny", "spec": spec},
        )
        return folder

    base = trial("base00000000", "base", "base", None, None)
    _scores(base, wanted, difficulty, skill=-2.0, seed=1)
    first = {"learning_rate": 3e-3, "batch_size": 32, "seed": 0}
    pretrain = trial("1e5000000000", "pretrain", "sft", "base00000000", first)
    _train(pretrain, "ok")
    _scores(pretrain, wanted, difficulty, skill=-1.0, seed=2)
    cells = [(rate, size) for rate in RATES for size in SIZES]
    for order, (rate, size) in enumerate(cells):
        spec = {"learning_rate": rate, "batch_size": size, "seed": 0}
        key = f"{order:012d}"
        if order == 7:  # planned, never started
            plan.append({"key": key, "stage": "sft", "parent": "1e5000000000"} | spec)
            continue
        folder = trial(key, "sft", "sft", "1e5000000000", spec)
        if (rate, size) == (1e-2, 4):
            _train(folder, "diverged", "loss is nan at step 3")
        elif (rate, size) == (1e-4, 32):
            _attempt(folder, "failed", "MemoryError: 2 GB wanted")
        else:
            _train(folder, "ok")
            _attempt(folder, "done")
            ratio = np.log2(rate / size)
            _scores(folder, wanted, difficulty, skill=ratio, seed=order + 10)
    pd.DataFrame(plan).to_csv(root / "plan.csv", index=False)
    return root


def _scores(folder: Path, wanted: list[dict], difficulty: np.ndarray, skill: float, seed: int):
    rng = np.random.default_rng(seed)
    for evaluation in wanted:
        name = evaluation["benchmark"]
        items = [f"{name} {number}" for number in range(len(difficulty))]
        peak = PEAK.get(name, -13.5)
        level = skill if skill > -5 else 2.0 - 0.35 * (skill - peak) ** 2
        chance = 1 / (1 + np.exp(-(level + difficulty + rng.normal(0, 0.3, len(difficulty)))))
        if name == "heldout_loss":
            values = 3 - 2 * chance
        else:
            values = (rng.random(len(difficulty)) < chance).astype(float)
        count = len(values)
        score = {
            "metric": evaluation["metric"],
            "value": float(values.mean()),
            "stderr": float(values.std(ddof=1) / count**0.5),
            "n": count,
            "primary": True,
            "higher_is_better": evaluation["higher_is_better"],
        }
        path = folder / "scores" / evaluation["fingerprint"]
        record = {"benchmark": name, "eval_seconds": 1.5, "scores": [score]}
        _write(path.with_suffix(".json"), record)
        pd.DataFrame({"item": items, "metric": evaluation["metric"], "value": values}).to_parquet(
            path.with_suffix(".parquet"), index=False
        )


def _train(folder: Path, status: str, reason: str = "") -> None:
    _write(
        folder / "train.json",
        {"status": status, "reason": reason, "steps": 120, "examples": 960, "tokens": 31234}
        | {"epochs": 1.0, "train_seconds": 5.1, "model_parameters": 1_049_600},
    )


def _attempt(folder: Path, event: str, reason: str = "") -> None:
    line = {"attempt": 1, "event": event, "phase": "train", "reason": reason}
    with (folder / "attempts.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def _write(path: Path, record: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
