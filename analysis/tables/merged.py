"""Tables in our own columns that somebody has put together from several runs.

A run has columns for what differs within it alone, so that what differs between two runs may have
none. Rows of one cell are seeds only where nothing is known to differ.
"""

from typing import Any

import pandas as pd

from analysis.tables.errors import ResultsError
from analysis.tables.schema import Table
from analysis.tables.selection import arms
from analysis.text import counted, listed

ARMS = ("model", "optimizer", "adapter")
"""Columns of every table that part surfaces."""

SURFACE = ["stage", "arm"]
CELL = [*SURFACE, "learning_rate", "batch_size"]
SCORE = ["benchmark", "metric"]
BUDGET = ("steps", "warmup_steps", "adam_beta2")
"""What seeds of a cell have in common, where they were trained to the end."""

WAYS = (
    "give the results.csv or the folder of each run (python -m analysis.report A B), or leave one "
    "out with --where"
)


def apart(table: Table, source: str) -> Table:
    """The table with an arm for each model, optimizer and adapter of a stage and arm, and a note
    where scores of one benchmark are of different numbers of items.

    Raises:
        ResultsError: several trials have one cell and seed, or seeds of a cell differ in steps.
    """
    frame, notes = _with_arms(table.frame), list(table.notes)
    rows: Any = frame[frame.learning_rate.notna()]
    _refuse_one_seed(rows, source)
    ended = rows[rows.status == "ok"]
    _refuse_other_steps(ended, source)
    counts = ended[ended.primary.fillna(False)].groupby([*SURFACE, *SCORE]).n
    for (_, _, benchmark, metric), sizes in counts.unique().items():
        if len(known := sorted(size for size in sizes if pd.notna(size))) > 1:
            notes.append(
                f"{benchmark} ({metric}): scores of {listed([f'{size:,}' for size in known])} "
                "items in one surface; scores of different items are not comparable, keep one with "
                f"--where n={known[-1]}"
            )
    return Table(frame, tuple(dict.fromkeys(notes)))


def _with_arms(frame: pd.DataFrame) -> pd.DataFrame:
    named = frame.arm.copy()
    trained: Any = frame[frame.learning_rate.notna()]
    for _, part in trained.groupby(SURFACE, sort=False):
        names = [name for name in ARMS if part[name].nunique() > 1]
        named[part.index] = arms(part, part.arm, names)
    return frame.assign(arm=named)


def _refuse_one_seed(rows: pd.DataFrame, source: str) -> None:
    cell = [*CELL, "parent", "seed", *SCORE]
    twice: Any = rows[rows.seed.notna() & rows.duplicated(cell, keep=False)]
    if twice.empty:
        return
    first = twice.iloc[0]
    same: Any = twice[(twice[cell].fillna(-1) == first[cell].fillna(-1)).all(axis=1)]
    raise ResultsError(
        f"{source}: {_where(first)}, seed {first.seed}: {counted(len(same), 'trial')} "
        f"({listed(list(same.key))}) have it, and no column tells them apart, so they are not "
        f"averaged; of tables of several runs put together, {WAYS}"
    )


def _refuse_other_steps(rows: pd.DataFrame, source: str) -> None:
    cells: Any = rows.groupby([*CELL, *SCORE], dropna=False)
    for name in BUDGET:
        several: Any = rows[cells[name].transform("nunique") > 1]
        if several.empty:
            continue
        first = several.iloc[0]
        same: Any = several[(several[CELL].fillna(-1) == first[CELL].fillna(-1)).all(axis=1)]
        values = listed([f"{value:g}" for value in sorted(same[name].dropna().unique())])
        raise ResultsError(
            f"{source}: {_where(first)}: {name} differs between its seeds ({values}), so they are "
            f"not averaged; have a surface for each with --by {name}, or, of tables of several "
            f"runs put together, {WAYS}"
        )


def _where(row: pd.Series) -> str:
    arm = f" ({row.arm})" if row.arm else ""
    return f"{row.stage}{arm}, learning rate {row.learning_rate:g}, batch size {row.batch_size}"
