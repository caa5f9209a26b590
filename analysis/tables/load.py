"""The one table every analysis reads: a row per trial x benchmark x metric.

`read` takes a run folder, our own results.csv or results.parquet, any CSV or parquet that has at
least learning_rate, batch_size and scores (`analysis.tables.external` says which spellings), or a
published table by name. `write` rebuilds both files of a run folder.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.tables import published
from analysis.tables.external import EMPTY, adopted, selected
from analysis.tables.run_folder import (
    ResultsError,
    manifest,
    refuse_mixtures,
    trial_rows,
    trials,
    wanted,
)
from analysis.tables.schema import COLUMNS, OPTIONAL, validated

ITEM_COLUMNS = ("key", "benchmark", "metric", "item", "value")


def read(path: Path | str, where: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The validated table of a run folder, a .csv or .parquet file or a published table
    ("published:smoltulu"), in the order of `COLUMNS`; of the rows in which the columns of `where`
    have the values given.

    Rows of a run folder come sorted: stages and benchmarks as the manifest has them, then the axes.

    Raises:
        ResultsError: nothing there, not a run folder, missing columns or impossible values.
    """
    source = str(path)
    if source.startswith(published.PREFIX):
        frame = published.table(source.removeprefix(published.PREFIX))
        return selected(frame, where or {}, source).reset_index(drop=True)
    path = Path(path)
    if path.is_dir():
        return selected(_read_run(path), where or {}, source).reset_index(drop=True)
    if not path.exists():
        raise ResultsError(f"{path}: no such file or folder")
    match path.suffix:
        case ".csv":
            frame = _read_csv(path)
        case ".parquet":
            frame = _read_parquet(path)
        case suffix:
            raise ResultsError(
                f"{path}: '{suffix}' is not read; give a run folder, a .csv or a .parquet, or "
                f"{', '.join(published.PREFIX + name for name in published.NAMES)}"
            )
    frame = selected(frame, where or {}, source)
    if set(COLUMNS) - set(OPTIONAL) <= set(frame):
        return validated(frame, source)
    return adopted(frame, source)


def write(run_dir: Path | str) -> pd.DataFrame:
    """Rebuild results.csv and results.parquet of a run folder: same records, same bytes."""
    run_dir = Path(run_dir)
    frame = _read_run(run_dir)
    replace(run_dir / "results.csv", lambda aside: frame.to_csv(aside, index=False))
    replace(run_dir / "results.parquet", lambda aside: frame.to_parquet(aside, index=False))
    return frame


def items(run_dir: Path | str) -> pd.DataFrame:
    """One row per trial x benchmark x metric x item (`ITEM_COLUMNS`), of the wanted evaluations.

    Empty where no trial kept its items.

    Raises:
        ResultsError: a file of items is damaged.
    """
    run_dir = Path(run_dir)
    stages = manifest(run_dir).get("stages", {})
    tables = []
    for folder, trial in trials(run_dir):
        for evaluation in wanted(stages, trial["stage"]):
            path = folder / "scores" / f"{evaluation['fingerprint']}.parquet"
            if not path.exists():
                continue
            table = _items_of(path)
            for name in ("key", "benchmark"):
                text = trial["key"] if name == "key" else evaluation["benchmark"]
                table = table.append_column(name, pa.repeat(pa.scalar(text), len(table)))
            tables.append(table.select(list(ITEM_COLUMNS)))
    if not tables:
        return pd.DataFrame(columns=list(ITEM_COLUMNS))
    return pa.concat_tables(tables, promote_options="permissive").to_pandas()


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


def _read_csv(path: Path) -> pd.DataFrame:
    numeric = {name: EMPTY for name, dtype in COLUMNS.items() if dtype != "str"}
    dtypes: dict[Any, Any] = {
        name: dtype for name, dtype in COLUMNS.items() if dtype in ("str", "boolean")
    }
    try:
        named = set(pd.read_csv(path, nrows=0).columns)
        ours = set(COLUMNS) - set(OPTIONAL) <= named
        # another's table may have empty cells in any column
        return pd.read_csv(
            path, dtype=dtypes, keep_default_na=not ours, na_values=numeric if ours else EMPTY
        )
    except (ValueError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path}: not a readable CSV: {error}") from error


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ResultsError(f"{path}: not a readable parquet file: {error}") from error


def _read_run(run_dir: Path) -> pd.DataFrame:
    stages = manifest(run_dir).get("stages", {})
    rows = []
    for folder, trial in trials(run_dir):
        rows += trial_rows(folder, trial, wanted(stages, trial["stage"]))
    refuse_mixtures(rows)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    order = {stage: rank for rank, stage in enumerate(stages)}
    benchmarks = {
        (stage, evaluation["benchmark"]): rank
        for stage in stages
        for rank, evaluation in enumerate(wanted(stages, stage))
    }
    ranked = frame.assign(
        stage_rank=[order.get(stage, len(order)) for stage in frame.stage],
        rank=[benchmarks.get(pair, 0) for pair in zip(frame.stage, frame.benchmark, strict=True)],
        secondary=~frame.primary.astype(bool),
    ).sort_values(
        [
            *("stage_rank", "stage", "arm", "learning_rate", "batch_size", "seed", "key"),
            *("rank", "benchmark", "secondary", "metric"),
        ],
        kind="stable",
        na_position="first",
    )
    return validated(ranked.loc[:, list(COLUMNS)], str(run_dir))


def replace(path: Path, save: Callable[[Path], object]) -> None:
    """Write aside and rename, so that no reader sees half a file."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    save(aside)
    os.replace(aside, path)
