"""The one table every analysis reads: a row per trial x benchmark x metric.

`read` takes a run folder, our own results.csv or results.parquet, or any CSV that has at least
learning_rate, batch_size, benchmark and value. `write` rebuilds both files of a run folder.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.records import (
    ResultsError,
    manifest,
    refuse_mixtures,
    trial_rows,
    trials,
    wanted,
)
from analysis.tasks import task

COLUMNS: dict[str, str] = {
    "key": "str",
    "parent": "str",
    "stage": "str",
    "arm": "str",
    "model": "str",
    "model_parameters": "Int64",
    "learning_rate": "float64",
    "batch_size": "Int64",
    "lr_bs_ratio": "float64",
    "seed": "Int64",
    "status": "str",
    "reason": "str",
    "steps": "Int64",
    "examples": "Int64",
    "tokens": "Int64",
    "epochs": "float64",
    "warmup_steps": "Int64",
    "adam_beta2": "float64",
    "learning_rate_sum": "float64",
    "train_seconds": "float64",
    "eval_seconds": "float64",
    "benchmark": "str",
    "metric": "str",
    "primary": "boolean",
    "higher_is_better": "boolean",
    "task_type": "str",
    "value": "float64",
    "stderr": "float64",
    "n": "Int64",
}
STATUSES = ("ok", "diverged", "failed")
FOREIGN_COLUMNS = ("learning_rate", "batch_size", "benchmark", "value")
ITEM_COLUMNS = ("key", "benchmark", "metric", "item", "value")
EMPTY = ["", "nan", "NaN", "NA", "null", "None"]


def read(path: Path | str) -> pd.DataFrame:
    """The validated table of a run folder, a .csv or a .parquet file, in the order of `COLUMNS`.

    Rows come sorted: stages and benchmarks as the manifest has them, then the axes.

    Raises:
        ResultsError: nothing there, not a run folder, missing columns or impossible values.
    """
    path = Path(path)
    if path.is_dir():
        return _read_run(path)
    if not path.exists():
        raise ResultsError(f"{path}: no such file or folder")
    match path.suffix:
        case ".csv":
            return _read_csv(path)
        case ".parquet":
            return validated(pd.read_parquet(path), str(path))
        case suffix:
            raise ResultsError(
                f"{path}: '{suffix}' is not read; give a run folder, a .csv or a .parquet"
            )


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
    """
    run_dir = Path(run_dir)
    stages = manifest(run_dir).get("stages", {})
    tables = []
    for folder, trial in trials(run_dir):
        for evaluation in wanted(stages, trial["stage"]):
            path = folder / "scores" / f"{evaluation['fingerprint']}.parquet"
            if not path.exists():
                continue
            table = pq.ParquetFile(path).read(columns=["item", "metric", "value"])
            for name in ("key", "benchmark"):
                text = trial["key"] if name == "key" else evaluation["benchmark"]
                table = table.append_column(name, pa.repeat(pa.scalar(text), len(table)))
            tables.append(table.select(list(ITEM_COLUMNS)))
    if not tables:
        return pd.DataFrame(columns=list(ITEM_COLUMNS))
    return pa.concat_tables(tables, promote_options="permissive").to_pandas()


def validated(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """The table with exactly `COLUMNS`, in order and typed.

    Raises:
        ResultsError: naming the source, the column and the first offending row.
    """
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise ResultsError(f"{source}: missing columns: {', '.join(missing)}")
    columns = {}
    for name, dtype in COLUMNS.items():
        try:
            column = frame[name].fillna("") if dtype == "str" else frame[name]
            columns[name] = column.astype(dtype)  # type: ignore[call-overload]
        except (TypeError, ValueError) as error:
            raise ResultsError(f"{source}: column {name} is not {dtype}: {error}") from error
    table = pd.DataFrame(columns).reset_index(drop=True)
    wrong = {
        f"status is none of {', '.join(STATUSES)}": ~table.status.isin(STATUSES),
        "status is ok but value is empty": (table.status == "ok") & ~np.isfinite(table.value),
        "learning_rate is not above 0": table.learning_rate <= 0,
        "batch_size is not above 0": table.batch_size.fillna(1) <= 0,
        "key, benchmark and metric occur twice": table.duplicated(["key", "benchmark", "metric"]),
    }
    for problem, rows in wrong.items():
        if rows.any():
            raise ResultsError(f"{source}: row {int(np.argmax(rows)) + 1}: {problem}")
    return table


def _read_csv(path: Path) -> pd.DataFrame:
    numeric = {name: EMPTY for name, dtype in COLUMNS.items() if dtype != "str"}
    dtypes: dict[Any, Any] = {
        name: dtype for name, dtype in COLUMNS.items() if dtype in ("str", "boolean")
    }
    try:
        frame = pd.read_csv(
            path,
            dtype=dtypes,
            keep_default_na=False,
            na_values=numeric,
        )
    except (ValueError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path}: not a readable CSV: {error}") from error
    return validated(frame, str(path)) if set(COLUMNS) <= set(frame) else adopted(frame, str(path))


def adopted(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """A table from elsewhere, with what it lacks filled in by the plainest reading, validated.

    Repeated rows of a cell without a seed are taken for seeds 0, 1, ...; a metric or benchmark
    with "loss" or "perplexity" in its name is better when lower; an empty value is a failed cell.

    Raises:
        ResultsError: a column of `FOREIGN_COLUMNS` is missing, or a value is impossible.
    """
    missing = [name for name in FOREIGN_COLUMNS if name not in frame]
    if missing:
        raise ResultsError(
            f"{source}: missing columns: {', '.join(missing)}; a table needs at least "
            f"{', '.join(FOREIGN_COLUMNS)}; found: {', '.join(map(str, frame.columns))}"
        )
    table = frame.copy()
    text = dict.fromkeys(("parent", "arm", "model", "reason"), "") | {
        "stage": "all",
        "metric": "value",
    }
    for name, default in text.items():
        table[name] = table.get(name, default)
    for name in ("learning_rate", "batch_size", "value"):
        table[name] = pd.to_numeric(table[name], errors="coerce")
    cell = ["stage", "arm", "learning_rate", "batch_size"]
    scored = [*cell, "benchmark", "metric"]
    if "seed" not in table:
        table["seed"] = table.groupby(scored).cumcount()
    if "status" not in table:
        finite = np.isfinite(table["value"])
        table["status"] = np.where(finite, "ok", "failed")
        table["reason"] = table["reason"].where(finite, "the table has no finite value here")
    table["key"] = "row-" + table.groupby([*cell, "seed"]).ngroup().astype(str)
    table["primary"] = table.get("primary", True)
    if "higher_is_better" not in table:
        names = table["benchmark"] + " " + table["metric"]
        table["higher_is_better"] = ~names.str.lower().str.contains("loss|perplexity")
    blank = table[["learning_rate", "batch_size"]].isna().any(axis=1)
    if np.any(blank):
        row = int(np.argmax(blank)) + 1
        raise ResultsError(f"{source}: row {row}: learning_rate and batch_size must be numbers")
    table["lr_bs_ratio"] = table["learning_rate"] / table["batch_size"]
    table["task_type"] = [task(name).task_type for name in table["benchmark"]]
    return validated(table.reindex(columns=list(COLUMNS)), source)


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
