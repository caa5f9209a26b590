"""The one table every analysis reads: a row per trial x benchmark x metric.

`read` takes a run folder, our own results.csv or results.parquet, a table from elsewhere that has
learning rates, batch sizes and scores (`analysis.tables.external`), or a published table by name.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from analysis.tables import published
from analysis.tables.errors import ResultsError
from analysis.tables.external.adopt import adopt
from analysis.tables.external.scores.wide import split, stated
from analysis.tables.external.tool_outputs import runs_of_tools
from analysis.tables.files import read_file
from analysis.tables.merged import apart
from analysis.tables.options import ReadOptions
from analysis.tables.records import run_table
from analysis.tables.records.run_folder import is_run
from analysis.tables.records.screening import without
from analysis.tables.schema import COLUMNS, OPTIONAL, Table, named_metrics, validated
from analysis.tables.selection import arms, resolve, selected
from analysis.tables.settings import column


def read(path: Path | str, where: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The table that `read_table` returns, without its notes."""
    return read_table(path, ReadOptions(where=where or {})).frame


def read_table(path: Path | str, options: ReadOptions | None = None) -> Table:
    """The validated table of a run folder, a file or a published table ("published:smoltulu"), in
    the order of `COLUMNS`, then settings that differ, with notes on how another's table was read.
    Of another's folder the runs below it are the rows.

    Rows of a run folder come sorted: stages and benchmarks as the manifest has them, then the axes.

    Raises:
        ResultsError: nothing there, not a run folder, missing columns or impossible values.
    """
    options = options or ReadOptions()
    source = str(path)
    if source.startswith(published.PREFIX):
        return ours(published.table(source.removeprefix(published.PREFIX)), source, options)
    path = Path(path)
    if path.is_dir() and not is_run(path):
        return _of_tools(path, options)
    if path.is_dir():
        run = run_table.read(path)
        return ours(run.frame, source, options)._replace(notes=run.notes)
    frame = read_file(path)
    if set(COLUMNS) - set(OPTIONAL) <= set(frame):
        return apart(ours(validated(named_metrics(frame), source), source, options), source)
    return adopt(frame, source, options)


def _of_tools(folder: Path, options: ReadOptions) -> Table:
    """The runs that other tools left below a folder; what `--direction` says goes before theirs."""
    runs = runs_of_tools(folder, options.columns)
    given = options.directions
    theirs = {
        column: best
        for column, best in runs.directions.items()
        if stated(given, column, *split(column)) is None
    }
    table = adopt(
        runs.frame, str(folder), dataclasses.replace(options, directions=theirs | {**given})
    )
    return table._replace(notes=(*runs.notes, *table.notes))


def ours(frame: pd.DataFrame, source: str, options: ReadOptions) -> Table:
    """A table in the schema, without screening runs: its rows by `where`, an arm for each value of
    the columns `by`, and directions as given.

    Raises:
        ResultsError: an option names a column, value or score that is not there, or is for other
            tables only.
    """
    if options.columns or options.last:
        option = "--columns" if options.columns else "--last"
        raise ResultsError(f"{source}: {option} is for tables from elsewhere; leave it out")
    frame = selected(without(frame), options.where, source).reset_index(drop=True)
    by = resolve(frame, options.by, "--by", source)
    settings = {column(name): frame[name] for name in by}
    frame = frame.assign(arm=arms(frame, frame.arm, by), **settings)
    for name, best in options.directions.items():
        here = (frame.metric == name) | (frame.benchmark == name)
        here |= frame.benchmark + "/" + frame.metric == name
        if not here.any():
            names = ", ".join(frame.benchmark.drop_duplicates())
            raise ResultsError(f"{source}: --direction {name}={best}: no such score; {names}")
        frame.loc[here, "higher_is_better"] = best == "max"
    return Table(frame)
