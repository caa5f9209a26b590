"""Benchmark -> its items as the contamination audit reads them: text, and the hash of the document.

An item's name is the one that evaluation records carry, so that scores can be joined with what the
audit found. Items are read by a process of their own (`python -m trainers.tasks.items`, a
request on stdin), which may be online and whose lm-eval and torch leave with it.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trainers.specs.evaluation import EvaluateSpec
from trainers.specs.fields import Strict
from trainers.tasks import benchmarks, task_files
from trainers.tasks.item_sources import SUFFIXES, TABLE_1, Source, data_files, hub_rows, rows_of
from trainers.tasks.task_files import EvaluationUnavailable

QUESTION = ("question", "query", "prompt", "instruction", "input", "problem", "goal", "ctx", "text")
"""Fields that hold what is asked; the first that a document has is compared where none is named."""

PROMPT = "the prompt as it is asked"
"""What is compared of a task's document that has none of these fields."""


class Item(NamedTuple):
    name: str
    fields: tuple[str, ...]
    """The texts that are compared."""


class Items(NamedTuple):
    """A benchmark's items. Fewer than `public` are a sample; None where nobody knows."""

    benchmark: str
    source: str
    public: int | None
    items: list[Item]
    compared: tuple[str, ...] = ()
    """The fields that are compared, or `PROMPT`."""


class Request(Strict):
    """Benchmarks to read: names, files, folders or `NAME=PATH` with a file in a name's place."""

    benchmarks: tuple[str, ...]
    evaluate: EvaluateSpec
    """Its `data_dir` has local items; its tasks give the documents that scores are about."""
    offline: bool = False
    out: str = ""


def problem(given: str) -> str | None:
    """What is wrong with a benchmark's name or file, or None; asks no network."""
    name, path, _ = _parts(given)
    if path is not None:
        file = Path(path)
        if file.is_dir():
            return None if data_files(file) else f"no {', '.join(SUFFIXES)} file in {path!r}"
        if not file.is_file():
            return f"no file or folder {path!r} (from {os.getcwd()})"
        return None if file.suffix in SUFFIXES else f"{path!r} is none of {', '.join(SUFFIXES)}"
    of_tasks = [
        benchmark.name
        for benchmark in benchmarks.BENCHMARKS.values()
        if benchmark.scores == "policy"
    ]
    unknown = name in benchmarks.BENCHMARKS and name not in of_tasks
    if name in TABLE_1 or not (unknown or benchmarks.problem(name)):
        return None
    known = ", ".join(dict.fromkeys([*of_tasks, *TABLE_1]))
    return (
        f"{name!r} is not a benchmark to audit; use one of {known}, a task's YAML file, a local "
        f"file or folder ({', '.join(SUFFIXES)}), or NAME=PATH; the fields of a file are named by "
        "PATH:field+field"
    )


def label(given: str) -> str:
    """The name of a benchmark as it stands in tables."""
    return _parts(given)[0]


def twice(label: str) -> str:
    """What is wrong with a second benchmark of a name, under which the tables would have both."""
    return f"{label!r} stands twice; give the second another name: NAME=PATH"


def label_of_tasks(name: str, audited: Sequence[str], evaluate: EvaluateSpec) -> str:
    """The name that a benchmark's scores have; of one that is not evaluated, a name that is no
    other's."""
    evaluated = [n for n in evaluate.benchmarks if n not in benchmarks.OF_STAGES]
    for other, label in benchmarks.labels(evaluated).items():
        if benchmarks.same(name, other):
            return label
    files = [given for given in audited if task_files.is_path(given)]
    return benchmarks.labels(list(dict.fromkeys([*evaluated, *files, name])))[name]


def local_files(given: str) -> list[Path]:
    """The files that a benchmark is read from; none where it is a name."""
    _, path, _ = _parts(given)
    if path is None:
        return []
    return data_files(Path(path))


def _parts(given: str) -> tuple[str, str | None, tuple[str, ...]]:
    """Name, path and fields of `gsm8k`, `items.jsonl:question+choices` or `gsm8k=items.jsonl`. In a
    grid file a comma may stand for the plus."""
    name, equals, rest = given.partition("=")
    rest = rest if equals else given
    path, colon, fields = rest.rpartition(":")
    if not (colon and Path(path).suffix in (*SUFFIXES, "")) or "/" in fields:
        path, fields = rest, ""
    local = Path(path).is_dir() or Path(path).suffix in SUFFIXES
    named = tuple(filter(None, re.split("[,+]", fields)))
    if equals:
        return name, path, named
    return (Path(path).stem, path, named) if local else (given, None, ())


def read(request: Request) -> list[Items]:
    """The items of each benchmark, read by a process of its own.

    Raises:
        EvaluationUnavailable: some are not to be had; the message says which and why.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked = request.model_copy(update={"out": str(Path(folder) / "items.jsonl")})
        environment = os.environ | {
            "HF_HUB_OFFLINE": str(int(request.offline)),
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "TQDM_DISABLE": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        run = subprocess.run(
            [sys.executable, "-m", "trainers.tasks.items"],
            input=asked.model_dump_json(),
            capture_output=True,
            env=environment,
            text=True,
        )
        if run.returncode:
            last = run.stderr.strip().splitlines()[-1:] or ["it ended without a word"]
            raise EvaluationUnavailable(run.stdout.strip() or f"reading benchmarks: {last[0]}")
        with open(asked.out, encoding="utf-8") as file:
            return [_items(json.loads(line)) for line in file]


def _items(record: dict[str, Any]) -> Items:
    items = [Item(name, tuple(fields)) for name, fields in record.pop("items")]
    return Items(items=items, compared=tuple(record.pop("compared")), **record)


def main() -> int:
    request = Request.model_validate_json(sys.stdin.read())
    try:
        with open(request.out, "w", encoding="utf-8") as file:
            for given in request.benchmarks:
                file.write(json.dumps(_load(given, request)._asdict()) + "\n")
    except EvaluationUnavailable as error:
        print(error)
        return 1
    return 0


def _load(given: str, request: Request) -> Items:
    name, path, fields = _parts(given)
    known = TABLE_1.get(name)
    if path is not None:
        items = _of_rows(name, path, rows_of(path), known, fields)
    elif known is None or name in {*benchmarks.BENCHMARKS, *request.evaluate.benchmarks}:
        label = label_of_tasks(name, request.benchmarks, request.evaluate)
        items = _of_tasks(name, request.evaluate)._replace(benchmark=label)
    else:
        items = _of_rows(name, known.hub, hub_rows(name, known), known, ())
    if not items.items:
        raise EvaluationUnavailable(f"benchmark {name!r}: no items in {items.source}")
    return items


def _of_tasks(name: str, evaluate: EvaluateSpec) -> Items:
    """The documents of a benchmark's lm-eval tasks, as they are evaluated."""
    from trainers.tasks.tasks import item_name, load

    benchmark = benchmarks.find(name)
    known = TABLE_1.get(name)
    items, compared = [], {}
    for label, task in load(benchmark, evaluate).items():
        docs = list(task.eval_docs)
        asking = _asking(docs)
        for doc in docs:
            named = known is not None and set(known.fields) <= doc.keys()
            asked = known.fields if known and named else _question(doc, asking)
            fields = [doc[field] for field in asked] if asked else [task.doc_to_text(doc)]
            compared |= dict.fromkeys(asked or (PROMPT,))
            items.append(Item(item_name(label, document_hash(doc)), tuple(map(str, fields))))
    local = evaluate.data_dir is not None and benchmark.local_files
    source = str(evaluate.data_dir) if local else ", ".join(benchmark.tasks)
    return Items(benchmark.name, source, benchmark.items, items, tuple(compared))


def _of_rows(
    name: str,
    source: str,
    rows: Iterable[dict[str, Any]],
    known: Source | None,
    fields: Sequence[str],
) -> Items:
    """The items of raw rows; a row without one of several fields has the others.

    Raises:
        EvaluationUnavailable: a row has none of the fields.
    """
    rows = list(rows)
    fields = fields or (known.fields if known else ())
    asking = _asking(rows)
    items, compared = [], {}
    for number, row in enumerate(rows, 1):
        asked = fields or _question(row, asking) or _question(row, QUESTION)
        texts = {field: str(row[field]) for field in asked if row.get(field) not in (None, "")}
        if not texts:
            lacking = f"no field {' or '.join(map(repr, asked or QUESTION))}"
            raise EvaluationUnavailable(
                f"{source}: row {number}: {lacking}; it has {', '.join(row)}; name the fields with "
                "PATH:field+field"
            )
        compared |= dict.fromkeys(texts)
        items.append(Item(document_hash(row)[:16], tuple(texts.values())))
    return Items(name, source, known and known.items, items, tuple(compared))


def _asking(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Those of `QUESTION` that ask: one whose texts each stand in more than two of the rows, on
    average, instructs alike in all of them."""
    asking = []
    for name in QUESTION:
        texts = [row[name] for row in rows if isinstance(row.get(name), str)]
        if texts and 2 * len(set(texts)) >= len(texts):
            asking.append(name)
    return tuple(asking)


def _question(row: dict[str, Any], asking: Sequence[str]) -> tuple[str, ...]:
    return next(((name,) for name in asking if isinstance(row.get(name), str)), ())


def document_hash(doc: dict[str, Any]) -> str:
    """lm-eval's hash of a document (its evaluator.py)."""
    text = json.dumps(doc, indent=2, default=_plain, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    from lm_eval.utils import handle_non_serializable

    return handle_non_serializable(value)


if __name__ == "__main__":
    sys.exit(main())
