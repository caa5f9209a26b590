"""A folder with a folder for each run, as other tools leave them -> a table with a row for each.

    sft_lr1e-5_bs16/all_results.json
    sft_lr1e-5_bs16/lm_eval/out__sft/results_2026-01-01T00-00-00.json

Settings stand in the folders' names or in files beside the results: see `tool_files`.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.tables.errors import ResultsError
from analysis.tables.external.names.columns import roles
from analysis.tables.external.shape import rows_of_runs
from analysis.tables.external.tool_files import HISTORY, TOOLS, Said, read
from analysis.tables.files import READERS
from analysis.text import counted, listed

CHECKPOINT = r"(checkpoint|ckpt|(global[_-]?)?step)[_-]?(?P<step>\d+)"
WITHIN = re.compile(
    r"files|\.hydra|(lm[_-]?)?evals?|evaluations?|results|outputs?|logs?|final|model"
    rf"|{CHECKPOINT}",
    re.IGNORECASE,
)
"""Folders of a run that do not name it."""

OF_CHECKPOINT = re.compile(rf"(?P<run>.+)__{CHECKPOINT}", re.IGNORECASE)
"""A folder as lm-eval calls it after the model's path: out__sft_lr1e-5_bs16__checkpoint-500."""

Place = tuple[str, ...]
"""A folder, by its names below that of all runs."""


class Found(NamedTuple):
    """What one file says, and the folder of the run that it is of."""

    place: Place
    order: tuple[bool, float, str]
    """Of two files that say the same the later counts."""
    said: Said


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
    files = sorted(_files(folder), key=lambda each: each.order)
    results = [each for each in files if each.said.tool]
    if not results:
        tables = [path.name for path in sorted(folder.iterdir()) if path.suffix in READERS]
        held = f"; it holds tables: give {listed(tables[:5])}" if tables else ""
        raise ResultsError(
            f"{folder}: not a run folder (no manifest.json), and nothing below it is a result of "
            f"{', '.join(TOOLS[:-1])} or {TOOLS[-1]}, or a metrics.json{held}"
        )
    settings: dict[Place, dict[str, Any]] = {}
    for each in files:
        if not each.said.tool:
            settings.setdefault(each.place, {}).update(each.said.cells)
    runs = _runs(results)
    scores: dict[Place, dict[str, Any]] = {}
    older = 0
    for each in results:
        row = scores.setdefault(runs[each.place], {})
        older += any(row.get(name, value) != value for name, value in each.said.cells.items())
        row |= each.said.cells
    rows = []
    for run, cells in sorted(scores.items()):
        row = {"run_name": "/".join(run) or folder.name}
        for depth in range(len(run) + 1):
            row |= settings.get(run[:depth], {})
        rows.append(row | cells)
    tools = listed(sorted({each.said.tool for each in results}))
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
    directions = {name: best for each in results for name, best in each.said.directions.items()}
    return Runs(frame, directions, notes)


def _files(folder: Path) -> Iterator[Found]:
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != "." or name == ".hydra")
        place = Path(path).relative_to(folder).parts
        step = math.inf  # what lies in no checkpoint is of the finished model
        while place and (within := WITHIN.fullmatch(place[-1])):
            step = min(step, int(within["step"] or 0) or math.inf)
            place = place[:-1]
        if place and (of_checkpoint := OF_CHECKPOINT.fullmatch(place[-1])):
            step = min(step, int(of_checkpoint["step"]))
            place = (*place[:-1], of_checkpoint["run"])
        for name in sorted(names):
            if (said := read(Path(path, name))) is not None:
                at_its_end = name != HISTORY  # which says more than the history of its steps
                yield Found(place, (at_its_end, step, name), said)


def _runs(results: list[Found]) -> dict[Place, Place]:
    """Folder with results -> folder of its run. What lies deeper belongs to the run above it,
    unless two of them say the same: then these are runs of their own."""
    said: dict[Place, set[str]] = {}
    for each in results:
        said.setdefault(each.place, set()).update(each.said.cells)
    runs = {place: place for place in said}
    below: dict[Place, list[Place]] = {place: [] for place in said}
    for place in said:
        for depth in range(len(place) + 1):
            if place[:depth] in below:
                below[place[:depth]].append(place)
    for above in sorted(said, key=len):
        deeper = below[above]
        apart = sum(len(said[place]) for place in deeper) == len(
            set().union(*(said[place] for place in deeper))
        )
        if apart and runs[above] == above:
            runs |= dict.fromkeys(deeper, above)
    return runs
