"""A folder with a folder for each run, as other tools leave them -> a table with a row for each.

    sft_lr1e-5_bs16/all_results.json
    sft_lr1e-5_bs16/lm_eval/out__sft/results_2026-01-01T00-00-00.json

Read are the results of lm-eval, the HF Trainer (and what is built on it), Ray Tune and W&B, and
settings that lie beside them as JSON or YAML. Settings may also stand in the folders' names. A
pickle (training_args.bin) runs code when it is read, so it is not.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from analysis.tables.errors import ResultsError
from analysis.tables.external.columns import roles
from analysis.tables.external.shape import rows_of_runs
from analysis.tables.files import SUFFIXES
from analysis.text import counted, listed

SETTINGS = re.compile(
    r"(params|args|training_args|train_args|hparams|config|train_config)\.(json|ya?ml)"
)
LM_EVAL = re.compile(r"results.*\.json")
TRAINER = re.compile(r"(all|eval|test)_results\.json")
HISTORY, TUNE, WANDB = "trainer_state.json", "result.json", "wandb-summary.json"

WITHIN = re.compile(
    r"files|\.hydra|(lm[_-]?)?evals?|evaluations?|results|outputs?|logs?|final|model"
    r"|checkpoint-(?P<step>\d+)",
    re.IGNORECASE,
)
"""Folders of a run that do not name it."""

Place = tuple[str, ...]
"""A folder, by its names below that of all runs."""


class Found(NamedTuple):
    """What one file says: `tool` wrote it, or "" for settings."""

    place: Place
    order: tuple[bool, int, str]
    """Of two files that say the same the later counts."""
    tool: str
    cells: dict[str, Any]
    directions: Mapping[str, str] = MappingProxyType({})
    """Score -> "max" or "min", where the file says so."""


class Runs(NamedTuple):
    frame: pd.DataFrame
    """A row for each run, its place in the column `run_name`."""
    directions: dict[str, str]
    notes: list[str]


def runs_of_tools(folder: Path, given: Mapping[str, str]) -> Runs:
    """The runs below a folder. Settings hold for all runs below theirs. `given` maps roles to
    columns by hand.

    Raises:
        ResultsError: no file below the folder is one of these tools', or one is damaged, or none
            says the learning rate.
    """
    found = sorted(_files(folder), key=lambda each: each.order)
    results = [each for each in found if each.tool]
    if not results:
        tables = [path.name for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES]
        held = f"; it holds tables: give {listed(tables[:5])}" if tables else ""
        raise ResultsError(
            f"{folder}: not a run folder (no manifest.json), and nothing below it is a result of "
            f"lm-eval, the HF Trainer, Ray Tune or W&B{held}"
        )
    settings: dict[Place, dict[str, Any]] = {}
    for each in found:
        if not each.tool:
            settings.setdefault(each.place, {}).update(each.cells)
    runs = _runs(results)
    scores: dict[Place, dict[str, Any]] = {}
    older = 0
    for each in results:
        row = scores.setdefault(runs[each.place], {})
        older += any(row.get(name, value) != value for name, value in each.cells.items())
        row |= each.cells
    rows = []
    for run, cells in sorted(scores.items()):
        row = {"run_name": "/".join(run) or folder.name}
        for depth in range(len(run) + 1):
            row |= settings.get(run[:depth], {})
        rows.append(row | cells)
    tools = listed(sorted({each.tool for each in results}))
    notes = [f"{counted(len(rows), 'folder')} with results of {tools}, each read as a run"]
    if older:
        notes.append(
            f"{counted(older, 'file')} of older results left out: the newest of a run count"
        )
    frame, source = pd.DataFrame(rows), str(folder)
    if "learning_rate" not in roles(rows_of_runs(frame, given, source)[0], given, source):
        raise ResultsError(
            f"{folder}: {notes[0]}, and none says its learning rate and batch size; say them in "
            "the folders' names (sft_lr1e-5_bs16), or write beside the results of each run a "
            'params.json ({"learning_rate": 1e-5, "batch_size": 16}). A training_args.bin is not '
            "read: it is a pickle, which runs code"
        )
    directions = {name: best for each in results for name, best in each.directions.items()}
    return Runs(frame, directions, notes)


def _files(folder: Path) -> Iterator[Found]:
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != "." or name == ".hydra")
        place = Path(path).relative_to(folder).parts
        step = 0
        while place and (within := WITHIN.fullmatch(place[-1])):
            step = step or int(within["step"] or 0)
            place = place[:-1]
        for name in sorted(names):
            if (read := _read(Path(path, name))) is not None:
                at_its_end = name != HISTORY  # which says more than the history of its steps
                yield Found(place, (at_its_end, step, name), *read)


def _read(path: Path) -> tuple[Any, ...] | None:
    """The tool that wrote a file, its cells, and perhaps directions; None for a file that is none
    of theirs."""
    name = path.name
    if SETTINGS.fullmatch(name):
        content = _content(path)
        if not isinstance(content, dict) or "model_type" in content:  # a model's architecture
            return None
        values = {
            key: value["value"] if isinstance(value, dict) and "value" in value else value
            for key, value in content.items()  # W&B's {"lr": {"value": 1e-5}}
        }
        return "", {f"config/{key}": value for key, value in _flat(values).items()}
    if name == TUNE:
        lines = _text(path).split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "{}")
        content = _parsed(last, path)
        return ("Ray Tune", _flat(content)) if isinstance(content, dict) else None
    if not (LM_EVAL.fullmatch(name) or TRAINER.fullmatch(name) or name in (HISTORY, WANDB)):
        return None
    content = _content(path)
    if not isinstance(content, dict):
        return None
    if name == WANDB:
        return "W&B", _flat(content)
    if name == HISTORY:
        return _history(content)
    if TRAINER.fullmatch(name):
        return "the HF Trainer", _flat(content)
    return _lm_eval(content)


def _history(content: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The last evaluation of a training, or its mean loss where it had none."""
    entries = [entry for entry in content.get("log_history", []) if isinstance(entry, dict)]
    for kind in ("eval_", "train_loss"):
        for entry in reversed(entries):
            if cells := {key: value for key, value in entry.items() if key.startswith(kind)}:
                return "the HF Trainer", cells
    return None


def _lm_eval(content: dict[str, Any]) -> tuple[Any, ...] | None:
    """Metrics with errors and items; of a group the whole alone."""
    results = content.get("results")
    if not isinstance(results, dict) or not all(
        isinstance(each, dict) for each in results.values()
    ):
        return None
    groups = content.get("group_subtasks") or {}
    parts = {part for group, members in groups.items() if group in results for part in members}
    items, better = content.get("n-samples") or {}, content.get("higher_is_better") or {}
    cells: dict[str, Any] = {}
    directions: dict[str, str] = {}
    for task in (name for name in results if name not in parts):
        for metric, value in results[task].items():
            column, name = f"{task}/{metric}", metric.partition(",")[0]
            if not (isinstance(value, int | float) and "," in metric):
                continue
            cells[column] = value
            if name.endswith("_stderr"):
                continue
            if (count := (items.get(task) or {}).get("effective")) is not None:
                cells[f"{column}_n"] = count
            if (best := (better.get(task) or {}).get(name)) is not None:
                directions[column] = "max" if best else "min"
    return "lm-eval", cells, directions


def _runs(results: list[Found]) -> dict[Place, Place]:
    """Folder with results -> folder of its run. What lies deeper belongs to the run above it,
    unless two of them say the same: then these are runs of their own."""
    said: dict[Place, set[str]] = {}
    for each in results:
        said.setdefault(each.place, set()).update(each.cells)
    runs = {place: place for place in said}
    for above in sorted(said, key=len):
        deeper = [place for place in said if place[: len(above)] == above]
        apart = sum(len(said[place]) for place in deeper) == len(
            set().union(*(said[place] for place in deeper))
        )
        if apart and runs[above] == above:
            runs |= dict.fromkeys(deeper, above)
    return runs


def _content(path: Path) -> Any:
    text = _text(path)
    if path.suffix == ".json":
        return _parsed(text, path)
    try:
        return YAML(typ="safe").load(text)
    except (YAMLError, ValueError) as error:
        raise ResultsError(f"{path}: not YAML; correct it, or move it away") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise ResultsError(
            f"{path}: not readable as text; write it again, or move it away"
        ) from error


def _parsed(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ResultsError(f"{path}: damaged, not JSON; write it again, or move it away") from error


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    """Numbers and words by their path, a/b; lists are left out."""
    if not content:
        return {}
    (row,) = pd.json_normalize(content, sep="/").to_dict("records")
    return {
        str(key): value
        for key, value in row.items()
        if isinstance(value, str | int | float) and value == value
    }
