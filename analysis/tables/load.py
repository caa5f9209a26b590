"""The one table every analysis reads: a row per trial x benchmark x metric.

`read` takes a run folder, our own results.csv or results.parquet, a table from elsewhere that has
learning rates, batch sizes and scores (`analysis.tables.external`), or a published table by name.
`write` rebuilds both files of a run folder.
"""

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.tables import published
from analysis.tables.errors import ResultsError
from analysis.tables.external.adopt import Table, adopt
from analysis.tables.external.adopt import adopted as adopted
from analysis.tables.external.scores.wide import split, stated
from analysis.tables.external.tool_outputs import runs_of_tools
from analysis.tables.files import read_file
from analysis.tables.merged import apart
from analysis.tables.options import ReadOptions
from analysis.tables.records import one_column
from analysis.tables.records.run_folder import (
    is_run,
    scored_stages,
    trial_rows,
    trials,
    wanted,
)
from analysis.tables.records.screening import SCREENS, screened_stages, without
from analysis.tables.schema import COLUMNS, OPTIONAL, named_metrics, validated
from analysis.tables.selection import arms, resolve, selected
from analysis.tables.settings import column, with_settings

ITEM_COLUMNS = ("key", "benchmark", "metric", "item", "value")


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
        run = _read_run(path)
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


def whole(run_dir: Path | str) -> pd.DataFrame:
    """The table of a run folder with its screening runs, in the column `screens`.

    Raises:
        ResultsError: not a run folder, or impossible values.
    """
    return _read_run(Path(run_dir)).frame


def write(run_dir: Path | str) -> Table:
    """Rebuild results.csv and results.parquet of a run folder, which list its screening runs too:
    same records, same bytes."""
    run_dir = Path(run_dir)
    run = _read_run(run_dir)
    frame = run.frame
    replace(run_dir / "results.csv", lambda aside: frame.to_csv(aside, index=False))
    replace(run_dir / "results.parquet", lambda aside: frame.to_parquet(aside, index=False))
    return run


def items(run_dir: Path | str, frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per trial x benchmark x metric x item (`ITEM_COLUMNS`), of the wanted evaluations;
    of the primary metrics alone of the table `frame` where it is given.

    Empty where no trial kept its items.

    Raises:
        ResultsError: a file of items is damaged.
    """
    run_dir = Path(run_dir)
    stages = scored_stages(run_dir)
    primary = None if frame is None else _primary(frame)
    tables = []
    for folder, trial in trials(run_dir):
        for evaluation in wanted(stages, trial["stage"]):
            path = folder / "scores" / f"{evaluation['fingerprint']}.parquet"
            benchmark = evaluation["benchmark"]
            if not path.exists():
                continue
            table = _items_of(path)
            if primary is not None:
                metrics = pa.array(primary.get(benchmark, []), table["metric"].type)
                table = table.filter(pc.field("metric").isin(metrics))
            for name, text in (("key", trial["key"]), ("benchmark", benchmark)):
                table = table.append_column(name, pa.repeat(pa.scalar(text), len(table)))
            tables.append(_in_categories(table.select(list(ITEM_COLUMNS))))
    if not tables:
        return pd.DataFrame(columns=list(ITEM_COLUMNS))
    whole = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
    return whole.to_pandas()


def _primary(frame: pd.DataFrame) -> dict[str, list[str]]:
    """Benchmark -> its primary metrics."""
    pairs = frame.loc[frame.primary.fillna(False).astype(bool), ["benchmark", "metric"]]
    metrics: dict[str, list[str]] = {}
    for benchmark, metric in pairs.drop_duplicates().itertuples(index=False):
        metrics.setdefault(benchmark, []).append(metric)
    return metrics


def _in_categories(table: pa.Table) -> pa.Table:
    """With the names that repeat in every row held once."""
    for place, name in enumerate(table.column_names):
        if name in ("key", "benchmark", "metric"):
            table = table.set_column(place, name, table[name].dictionary_encode())
    return table


def _items_of(path: Path) -> pa.Table:
    """
    Raises:
        ResultsError: the file is damaged.
    """
    try:
        return pq.ParquetFile(path).read(columns=["item", "metric", "value"])
    except (pa.ArrowException, OSError) as error:
        raise ResultsError(
            f"{path}: damaged ({error}); delete it and {path.stem}.json beside it, and the same "
            "command scores the model again"
        ) from error


def _read_run(run_dir: Path) -> Table:
    stages = scored_stages(run_dir)
    rows, settings = [], {}
    for folder, trial in with_settings(list(trials(run_dir))):
        rows += trial_rows(folder, trial, wanted(stages, trial["stage"]))
        settings |= dict.fromkeys(name for name in trial["settings"] if name not in COLUMNS)
    one_column.refuse_mixtures(rows)
    columns = [*COLUMNS, *settings]
    frame = pd.DataFrame(rows, columns=columns)
    if screened := screened_stages(stages):
        frame[SCREENS] = frame.stage.map(screened).fillna("")
        columns.append(SCREENS)
    order = {stage: rank for rank, stage in enumerate(stages)}
    benchmarks = {
        (stage, evaluation["benchmark"]): rank
        for stage in stages
        for rank, evaluation in enumerate(wanted(stages, stage))
    }
    ranked = frame.assign(
        stage_rank=[order.get(stage, len(order)) for stage in frame.stage],
        rank=[benchmarks.get(pair, 0) for pair in zip(frame.stage, frame.benchmark, strict=True)],
        arm_rank=frame.arm.map(_in_order(frame.arm)),
        secondary=~frame.primary.astype(bool),
    ).sort_values(
        [
            *("stage_rank", "stage", "arm_rank", "learning_rate", "batch_size", "seed", "key"),
            *("rank", "benchmark", "secondary", "metric"),
        ],
        kind="stable",
        na_position="first",
    )
    frame = validated(named_metrics(ranked.loc[:, columns]), str(run_dir))
    return Table(frame, one_column.notes(rows))


def _in_order(arms: pd.Series) -> dict[str, int]:
    """Arms by name, numbers in them by size: rank 4 before rank 16."""

    def parts(arm: str) -> list[tuple[bool, float, str]]:
        words = re.split(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)", arm)
        return [(odd := place % 2 == 1, float(word) if odd else 0.0, word)
                for place, word in enumerate(words)]  # fmt: skip

    return {arm: rank for rank, arm in enumerate(sorted(set(arms), key=parts))}


def replace(path: Path, save: Callable[[Path], object]) -> None:
    """Write aside, flush and rename: a reader finds the old file or the whole new one, also after a
    power cut."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save(aside)
        _flush(aside)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
