"""Seconds and memory from a table of 100,000 rows to a report of its primary metrics.

    python -m tests.bench.bench_report [--trials 1000] [--benchmarks 10] [--metrics 10]

The table is made here: trials over 20 learning rates x 10 batch sizes x seeds, a noisy peak per
benchmark, one primary metric each. `python -m analysis.report` runs as a process of its own; the
time is from its start to its end, the memory the most it (or a process it started) held at once.
The aim: at most 60 s and 2 GB on two cores.
"""

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.tables.schema import COLUMNS

ROOT = Path(__file__).resolve().parents[2]

RATES = np.geomspace(1e-6, 2e-3, 20)
SIZES = 2 ** np.arange(1, 11)


def table(trials: int, benchmarks: int, metrics: int) -> pd.DataFrame:
    """Trials x benchmarks x metrics rows in our own schema; items are 1,000 to a benchmark."""
    rng = np.random.default_rng(0)
    cells = list(itertools.product(RATES, SIZES))
    seeds = -(-trials // len(cells))
    runs = [(*cell, seed) for seed in range(seeds) for cell in cells][:trials]
    rows = pd.DataFrame(runs, columns=["learning_rate", "batch_size", "seed"])
    rows["key"] = [f"{number:012d}" for number in range(len(rows))]
    x, y = np.log2(rows.learning_rate), np.log2(rows.batch_size)
    parts = []
    for number in range(benchmarks):
        away = (x + 13 - number / 4 - 0.4 * (y - 5)) ** 2 / 18 + (y - 5) ** 2 / 40
        for metric in range(metrics):
            value = 0.25 + 0.4 * np.exp(-away) + rng.normal(0, 0.015, len(rows))
            parts.append(
                rows.assign(
                    benchmark=f"benchmark_{number}",
                    metric=f"metric_{metric}",
                    primary=metric == 0,
                    value=value,
                    stderr=0.015,
                )
            )
    frame = pd.concat(parts, ignore_index=True)
    fixed = {"parent": "", "stage": "sft", "arm": "", "model": "made", "status": "ok"}
    fixed |= {"reason": "", "higher_is_better": True, "task_type": "other", "n": 1000}
    frame = frame.assign(**fixed, lr_bs_ratio=frame.learning_rate / frame.batch_size)
    return frame.reindex(columns=list(COLUMNS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--benchmarks", type=int, default=10)
    parser.add_argument("--metrics", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "table.csv", Path(folder) / "report"
        frame = table(given.trials, given.benchmarks, given.metrics)
        frame.to_csv(source, index=False)
        megabytes = source.stat().st_size / 1e6
        print(f"{len(frame):,} rows, {megabytes:.0f} MB as CSV, on {os.cpu_count()} cores")
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "analysis.report", str(source), "--out", str(out)],
            cwd=ROOT,
            check=True,
        )
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        record = json.loads((out / "recommendations.json").read_text())
        rates = [
            one
            for stage in record["stages"].values()
            for benchmark in stage["learning_rate"]["benchmarks"].values()
            for one in benchmark
        ]
        known = sum(one["status"] == "interior" for one in rates)
        page = (out / "index.html").stat().st_size / 1e6
        figures = len(list((out / "figures").iterdir()))
    print(
        f"report: {seconds:.1f} s, {peak:.2f} GB at most; {known} of {len(rates)} best "
        f"rates inside, {figures} figure files, a page of {page:.1f} MB"
    )


if __name__ == "__main__":
    main()
