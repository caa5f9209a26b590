"""Faults of what lies on disk: full, cut off, unwritable, or other than it was."""

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweep.storage import run_folder
from tests.faults.runs import Before, Broken, Run, ended, lines, must, wait_until


def disk_full(run: Run, chance: random.Random) -> None:
    """A file system of its own that is filled up at a random moment; twice, then there is room."""
    run.cut_lines = 2  # as often as it is full
    with _small_disk(run.runs):
        for _ in range(2):
            process = run.start()
            wait_until(run.path.exists, process)
            moment = time.monotonic() + chance.uniform(0.0, 12.0)
            while time.monotonic() < moment and process.poll() is None:
                time.sleep(0.02)
            ballast = run.runs / "ballast"
            _fill(ballast)
            said = ended(process, None)
            code = process.returncode
            must(code in (0, 3, 4), f"exit code {code}: {said[-2000:]}")
            if code:
                must("No space left" in said, said[-2000:])
                must(str(run.path) in said, f"no path: {said[-2000:]}")
            _records_parse(run)
            ballast.unlink()
            before = Before.of(run)
        run.end()
        before.check(run)
        shutil.copy(run.path / "results.csv", run.folder / "results.csv")
    run.path.mkdir(parents=True, exist_ok=True)
    shutil.copy(run.folder / "results.csv", run.path / "results.csv")


@contextmanager
def _small_disk(place: Path) -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(place)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _fill(ballast: Path) -> None:
    """To the last byte; what others free in the meantime is taken too."""
    with open(ballast, "ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def _records_parse(run: Run) -> None:
    path = run.path
    for file in path.rglob("*.json"):
        if ".part" not in str(file.relative_to(path)) and "cache" not in file.parts:
            try:
                json.loads(file.read_text(encoding="utf-8"))
            except json.JSONDecodeError as error:
                raise Broken(f"{file}: {error}") from error
    for file in path.glob("trials/*/*.jsonl"):
        lines(file, run.cut_lines)


def record_files_limited(run: Run, chance: random.Random) -> None:
    """No file may grow beyond a few kilobytes: weights and checkpoints cannot be written."""
    run.largest_file = chance.choice([20_000, 200_000, 2_000_000])
    process = run.start()
    said = ended(process, None)
    must(process.returncode in (3, 4), f"exit code {process.returncode}: {said[-2000:]}")
    must("File too large" in said, said[-2000:])
    run.largest_file = None
    before = Before.of(run)
    run.end()
    before.check(run)


def record_cut(run: Run, chance: random.Random) -> None:
    """Each kind of record of a run that has ended, cut at a random byte: refused or repaired."""
    run.end()
    for pattern in (
        "trials/second*/train.json", "trials/second*/scores/*.json", "trials/second*/trial.json",
        "trials/second*/scores/*.parquet",
        "trials/first*/attempts.jsonl", "manifest.json", "plan.csv", "grid.yaml", "events.jsonl",
        "trials/second*/metrics.jsonl", "results.csv",
    ):  # fmt: skip
        file = chance.choice(sorted(run.path.glob(pattern)))
        whole, trained = file.read_bytes(), run.trained()
        file.write_bytes(whole[: chance.randrange(len(whole))])
        process = run.start()
        said = ended(process, None)
        must(process.returncode in (0, 4), f"{file.name}: {said[-1000:]}")
        if process.returncode == 4:
            must(str(file) in said, f"{file.name} is not named: {said[-1000:]}")
            file.write_bytes(whole)
            os.utime(file, ns=(trained.get(file.parent, time.time_ns()),) * 2)
        after = {one: at for one, at in run.trained().items() if one != file.parent}
        kept = {one: at for one, at in trained.items() if one != file.parent}
        must(after == kept, f"{file.name}: other trials were trained again")
    run.end()


def one_bad_cell(run: Run, chance: random.Random) -> None:
    """A folder where one cell's metrics should go: it fails, the others do not."""
    run.end("--set", "limits.max_trials=2", code=5)
    cell = chance.choice(sorted(run.path.glob("trials/second*")))
    obstacle = cell / "metrics.jsonl"
    obstacle.mkdir()
    said = run.end(code=3)
    table = run.table()
    bad = table[table.status == "failed"]
    must(set(bad.key) == {cell.name.rpartition("-")[2]}, f"failed: {set(bad.key)}")
    must(bad.reason.str.contains("metrics.jsonl").all(), f"reasons: {set(bad.reason)}")
    must(table.key.nunique() == 6, "rows are missing")
    must("--retry-failed" in said, said[-500:])
    obstacle.rmdir()
    before = Before.of(run)
    run.end("--retry-failed")
    before.check(run)


def evaluation_crashes(run: Run, chance: random.Random) -> None:
    """A folder where one cell's scores should go, until the cell has failed."""
    run.end("--set", "limits.max_trials=2", code=5)
    cell = chance.choice(sorted(run.path.glob("trials/second*")))
    obstacle = cell / "scores"
    obstacle.write_text("")
    run.end(code=3)
    before = Before.of(run)
    must(cell in before.trained, "it was not trained")
    obstacle.unlink()
    run.end("--retry-failed")
    before.check(run)


def data_changed(run: Run, chance: random.Random) -> None:
    """Between two starts: refused, and goes on with the old data."""
    run.end("--set", "limits.max_trials=3", code=5)
    before = Before.of(run)
    lines = run.rows.read_text().splitlines(keepends=True)
    number = chance.randrange(len(lines))
    run.rows.write_text("".join([*lines[:number], *lines[number + 1 :]]))
    said = run.end(code=4)
    must("has changed" in said and "rows.jsonl" in said, said[-500:])
    run.rows.write_text("".join(lines))
    run.end()
    before.check(run)


def copied_code(run: Run) -> Path:
    """A copy of the code that the run's command runs."""
    copy = run.folder / "code"
    source = Path(run_folder.__file__).parents[2]
    for package in ("sweep", "trainers", "analysis"):
        shutil.copytree(source / package, copy / package)
    run.environment = {"PYTHONPATH": str(copy)}
    return copy


CODE_FILES = ("training/loop.py", "stages/sft.py", "inference/harness_model.py")


def code_changed(run: Run, chance: random.Random) -> None:
    """A line of the trainers is another one at the second start."""
    copy = copied_code(run)
    run.end("--set", "limits.max_trials=3", code=5)
    before = Before.of(run)
    file = copy / "trainers" / chance.choice(CODE_FILES)
    original = file.read_text()
    file.write_text(original + "\nANOTHER = 1\n")
    said = run.end(code=4)
    must(f"trainers/{file.relative_to(copy / 'trainers')}" in said, said[-500:])
    file.write_text(original)
    run.end()
    before.check(run)
