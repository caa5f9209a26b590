"""Where a benchmark's items lie, on the hub or in local files, and their rows as they are."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from trainers import files
from trainers.tasks.task_files import EvaluationUnavailable


class Source(NamedTuple):
    """Where a benchmark of SmolTulu's Table 1 is on the hub, and what of it is compared."""

    hub: str
    subset: str | None
    """None: all of them, one after another."""
    split: str
    fields: tuple[str, ...]
    items: int | None
    """Items of the public data; fewer are a sample. None: not known here."""
    first: int | None = None
    """Items taken of each subset, where not all are."""


# Data sets, splits and fields are Tulu 3's (open-instruct, decontamination/search.py) but for
# three: its fields of PopQA are too short for any 8-gram, so the question is compared; the two
# safety sets stand in SmolTulu's table alone.
TABLE_1 = {
    "mmlu": Source("cais/mmlu", "all", "test", ("question",), 14042),
    "humaneval": Source("openai/openai_humaneval", None, "test", ("prompt",), 164),
    "gsm8k": Source("openai/gsm8k", "main", "test", ("question",), 1319),
    "drop": Source("ucinlp/drop", None, "validation", ("passage", "question"), 9535),
    "math": Source("lighteval/MATH", "all", "test", ("problem",), 5000),
    "ifeval": Source("google/IFEval", None, "train", ("prompt",), 541),
    "popqa": Source("akariasai/PopQA", None, "test", ("question",), 14267),
    "alpaca_eval": Source("tatsu-lab/alpaca_eval", None, "eval", ("instruction",), 805),
    "bbh": Source("lukaemon/bbh", None, "test", ("input",), 6511),
    "truthfulqa": Source("truthfulqa/truthful_qa", "generation", "validation", ("question",), 817),
    "wildguardmix": Source("allenai/wildguardmix", "wildguardtest", "test", ("prompt",), 1725),
    "wildjailbreak": Source("allenai/wildjailbreak", "eval", "train", ("adversarial",), 2210),
    "mmlu_pro": Source("TIGER-Lab/MMLU-Pro", None, "test", ("question",), 12032),
    "gpqa": Source("Idavidrein/gpqa", "gpqa_extended", "train", ("Question",), 546),
    "agi_eval": Source("lighteval/agi_eval_en", None, "train", ("passage", "question"), None),
    "bigcodebench": Source("bigcode/bigcodebench", None, "v0.1.2", ("instruct_prompt",), 1140),
    "math_dataset": Source("deepmind/math_dataset", None, "test", ("question",), None, first=50),
}

SUFFIXES = (".jsonl", ".parquet", ".csv")


def data_files(path: Path) -> list[Path]:
    """The file, or all of a folder."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)


def rows_of(path: str) -> Iterator[dict[str, Any]]:
    for file in data_files(Path(path)):
        try:
            yield from _file_rows(file)
        except (OSError, ValueError, csv.Error) as error:
            raise EvaluationUnavailable(f"{file}: {error}") from error


def _file_rows(path: Path) -> Iterator[dict[str, Any]]:
    match path.suffix:
        case ".parquet":
            import pyarrow.parquet

            yield from pyarrow.parquet.read_table(path).to_pylist()
        case ".csv":
            with open(path, encoding="utf-8", newline="") as file:
                yield from csv.DictReader(file)
        case _:
            with open(path, encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    if not line.isspace():
                        yield _object(line, number)


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f"line {number}: {line[:40].strip()!r} is not an object")
    return row


def hub_rows(name: str, source: Source) -> Iterator[dict[str, Any]]:
    import datasets

    folder = str(files.cache_folder("benchmarks"))
    try:
        subsets = [source.subset]
        if source.subset is None:
            subsets = datasets.get_dataset_config_names(source.hub)
        for subset in subsets:
            rows: Any = datasets.load_dataset(
                source.hub, subset, split=source.split, cache_dir=folder
            )
            yield from list(rows)[: source.first]
    except Exception as error:  # the hub client and datasets raise a dozen unrelated types
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EvaluationUnavailable(
            f"benchmark {name!r}: {source.hub} cannot be read ({first}); with a local file in its "
            f"place: {name}=PATH"
        ) from error
