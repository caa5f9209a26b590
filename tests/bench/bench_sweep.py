"""A whole sweep, ours against Ray Tune + TRL + lm-eval glued together, end to end.

    python -m tests.bench.bench_sweep quickstart
    python -m tests.bench.bench_sweep real            (needs the benchmarks' items: SWEEP_DATA)

`quickstart` is grids/quickstart.yaml as shipped; `real` is a 2 x 2 grid of SmolLM2-135M-Instruct.
Three ways, each a process of its own that trains the same cells on the same rows and scores them,
and the model before training, on the same items, in the same precision and two trials at once:
`ours` (python -m sweep.run, which also writes the report), `documented`
(tests/bench/stock_sweep.py, a process per trial, the settings of the documentations: per-device
batch = batch, evaluation batch 8) and `tuned` (workers reused, small micro-batches accumulated,
best fixed evaluation batch). Of the quickstart the mean scores say little: they hang on the one
base model, which learns arithmetic or does not with the order of its examples.
Wall seconds are of the whole command; training and evaluation seconds of all models of ours, and of
the grid's cells alone in the other two.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from sweep.gridfile import load as gridfile
from sweep.gridfile.keys.schema import Grid
from trainers.data.rows import sources
from trainers.models import load as models
from trainers.specs.evaluation import EvaluateSpec
from trainers.specs.training import SftSpec
from trainers.tasks import benchmarks, tasks

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SWEEP_DATA", ROOT.parent / "shared" / "data"))

REAL = {
    "stages.sft.data": str(DATA / "sft" / "dolly_hhrlhf_messages.jsonl"),
    "stages.sft.steps": 4,
    "stages.sft.heldout": 8,
    "evaluate.data_dir": str(DATA / "eval"),
    "evaluate.benchmarks": ["arc", "hellaswag", "gsm8k"],
    "evaluate.limit": 16,
}
"""What `real` changes in grids/smollm2_cpu.yaml. IFEval's answers of up to 1,280 tokens would take
most of an hour, and bench_eval.py times them alone."""

DOCUMENTED_EVAL_BATCH = 8
"""The batch of lm-eval's own examples."""

TUNED = {"quickstart": {"per_device": 8, "eval": 64}, "real": {"per_device": 1, "eval": 8}}
"""The best fixed sizes on two CPU cores: a tiny model wants rows at once, a real one no padding."""


CONCURRENCY = 2


class Timing(NamedTuple):
    """Seconds; `train` and `evaluate` are those of the grid's cells."""

    wall: float
    train: float
    evaluate: float
    work: float
    """Of the training and the evaluation of every model."""
    scores: dict[tuple[float, int], dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grid", choices=("quickstart", "real"))
    parser.add_argument("--ways", default="ours,documented,tuned")
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    ways = options.ways.split(",")
    timings: dict[str, list[Timing]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory(prefix="bench-sweep-") as scratch:
        for repeat in range(options.repeats):
            for way in ways:
                out = Path(scratch) / f"{way}-{repeat}"
                out.mkdir()
                found = (
                    _ours(options.grid, out) if way == "ours" else _stock(options.grid, way, out)
                )
                timings[way].append(found)
                print(f"{way}: {found.wall:.0f} s", flush=True)
    _print(timings)


def _overrides(grid: str) -> list[str]:
    return [f"{key}={value}" for key, value in REAL.items()] if grid == "real" else []


def _file(grid: str) -> Path:
    return ROOT / "grids" / ("smollm2_cpu.yaml" if grid == "real" else "quickstart.yaml")


def _ours(grid: str, out: Path) -> Timing:
    changes = itertools.chain.from_iterable(("--set", change) for change in _overrides(grid))
    command = [sys.executable, "-m", "sweep.run", str(_file(grid)), "--runs", str(out), *changes]
    wall = _timed(command, out)
    (table,) = out.glob("*/results.csv")
    rows = pd.read_csv(table)
    models, scored = rows.drop_duplicates("key"), rows.drop_duplicates(["key", "benchmark"])
    work = models.train_seconds.sum() + scored.eval_seconds.sum()
    train = models.train_seconds[models.stage == "sft"].sum()
    evaluate = scored.eval_seconds[scored.stage == "sft"].sum()
    scores = {
        (cell.learning_rate, int(cell.batch_size)): {
            row.benchmark: row.value for row in group.itertuples() if row.primary
        }
        for (_, group) in rows[rows.stage == "sft"].groupby("key")
        for cell in [next(group.itertuples())]
    }
    return Timing(wall, train, evaluate, work, scores)


def _stock(grid: str, way: str, out: Path) -> Timing:
    loaded = gridfile.load(_file(grid), _overrides(grid))
    with contextlib.ExitStack() as files:
        plan = _plan(loaded, out) | _tasks(loaded.evaluate, files) | _sizes(grid, way)
        (out / "plan.json").write_text(json.dumps(plan))
        script = Path(__file__).with_name("stock_sweep.py")
        wall = _timed([sys.executable, str(script), str(out / "plan.json")], out)
    cells = json.loads((out / "cells.json").read_text())
    train = sum(cell["train_seconds"] for cell in cells)
    evaluate = sum(cell["eval_seconds"] for cell in cells)
    return Timing(
        wall,
        train,
        evaluate,
        train + evaluate,
        {(cell["learning_rate"], cell["batch_size"]): cell["scores"] for cell in cells},
    )


def _timed(command: list[str], out: Path) -> float:
    """Wall seconds of a command that ends well; what it prints goes to a file."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "RAY_ADDRESS": "local",  # not a cluster that was left here
        "NLTK_DATA": os.environ.get("NLTK_DATA", str(DATA / "nltk_data")),
    }
    begun = time.monotonic()
    with open(out / "log", "w") as log:
        ended = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    if ended.returncode:
        sys.exit(
            f"{' '.join(command)}: exit {ended.returncode}\n{(out / 'log').read_text()[-2000:]}"
        )
    return time.monotonic() - begun


def _plan(grid: Grid, out: Path) -> dict[str, Any]:
    """What the stock way needs to train the grid's cells on the same rows."""
    sft, pretrain = grid.stages["sft"], grid.stages.get("pretrain")
    specs = [spec for _, spec in sft.cells]
    start = out / "start"
    loaded = models.load(grid.model.name)
    loaded.model.save_pretrained(start)
    loaded.tokenizer.save_pretrained(start)
    plan = {
        "out": str(out),
        "model": str(start),
        "learning_rates": sorted({spec.learning_rate for spec in specs}),
        "batch_sizes": sorted({spec.batch_size for spec in specs}),
        "sft": _stage(specs[0], out / "sft.jsonl"),
        "pretrain": None,
    }
    if pretrain is not None:
        (_, spec), *_ = pretrain.cells
        cell = {"learning_rate": spec.learning_rate, "batch_size": spec.batch_size}
        plan["pretrain"] = _stage(spec, out / "pretrain.jsonl") | {"cell": cell}
    return plan


def _stage(spec: SftSpec, file: Path) -> dict[str, Any]:
    every = list(sources.rows(spec.data))
    rows = every[spec.heldout_examples(len(every)) :]
    file.write_text("".join(json.dumps(_as_trl_has_it(row)) + "\n" for row in rows))
    return {
        "rows": str(file),
        "steps": spec.steps,
        "warmup_ratio": spec.warmup_ratio,
        "max_length": spec.max_length,
        "adam_beta2": spec.adam_beta2,
    }


def _as_trl_has_it(row: dict[str, Any]) -> dict[str, Any]:
    """A conversation as prompt and completion, of which TRL trains on the completion alone."""
    if "messages" not in row:
        return row
    return {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}


def _tasks(spec: EvaluateSpec, files: contextlib.ExitStack) -> dict[str, Any]:
    """The benchmarks' lm-eval task files, items and primary metrics."""
    paths: list[str] = []
    samples: dict[str, list[int]] = {}
    metrics: dict[str, str] = {}
    for name in spec.benchmarks:
        benchmark = benchmarks.find(name)
        folder = files.enter_context(tempfile.TemporaryDirectory())
        paths += tasks.localised(benchmark, spec, Path(folder))
        found = tasks.load(benchmark, spec)
        samples |= tasks.subsets(found, spec.limit) or {}
        for task, loaded in found.items():
            metric = benchmark.metric or next(iter(loaded.aggregation()))
            metrics[task] = metric if "," in metric else f"{metric},{_first_filter(loaded)}"
    return {"tasks": paths, "samples": samples, "metrics": metrics}


def _first_filter(task: Any) -> str:
    return task._filters[0].name if task._filters else "none"


def _sizes(grid: str, way: str) -> dict[str, Any]:
    tuned = way == "tuned"
    return {
        "tuned": tuned,
        "per_device_batch_size": TUNED[grid]["per_device"] if tuned else None,
        "eval_batch_size": TUNED[grid]["eval"] if tuned else DOCUMENTED_EVAL_BATCH,
    }


def _print(timings: dict[str, list[Timing]]) -> None:
    walls = {way: statistics.median(t.wall for t in found) for way, found in timings.items()}
    print("training and evaluation: of the cells alone")
    print(f"{'way':12} {'wall s':>8} {'training s':>11} {'evaluation s':>13} {'against ours':>13}")
    for way, found in timings.items():
        last = found[-1]
        ratio = f"{walls[way] / walls['ours']:.2f} x" if "ours" in walls else ""
        print(f"{way:12} {walls[way]:8.0f} {last.train:11.0f} {last.evaluate:13.0f} {ratio:>13}")
    if "ours" in timings:
        bound = timings["ours"][-1].work / CONCURRENCY
        print(f"ours: wall {walls['ours'] / bound:.2f} x the work on all models / {CONCURRENCY}")
    _print_scores(timings)


def _print_scores(timings: dict[str, list[Timing]]) -> None:
    """Mean score over the cells, by way: the same sweep should say the same."""
    print("mean over the cells:")
    for way, found in timings.items():
        table = pd.DataFrame(found[-1].scores.values())
        print(f"{way:12}", "  ".join(f"{name} {value:.3f}" for name, value in table.mean().items()))


if __name__ == "__main__":
    main()
