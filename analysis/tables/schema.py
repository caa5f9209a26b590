"""The columns of the one table, their types, and the check that every table passes.

learning_rate is the peak; batch_size the effective number of examples per optimizer step;
lr_bs_ratio is empty where that is not known, and 1 stands for it;
optimizer is "" where nothing is trained, adapter is lora, dora, qlora, qdora or "";
noise_scale the gradient noise scale in examples (McCandlish et al., arXiv 1812.06162), empty where
it was not measured; value and stderr are in the metric's own units; n counts its items. Settings
that differ between the trials of a stage follow in columns of their own (`adapter.rank`).
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.tables.errors import ResultsError
from analysis.tables.numbers import numbers

COLUMNS: dict[str, str] = {
    "key": "str",
    "parent": "str",
    "stage": "str",
    "arm": "str",
    "model": "str",
    "model_parameters": "Int64",
    "trained_parameters": "Int64",
    "optimizer": "str",
    "adapter": "str",
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
    "noise_scale": "float64",
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
OPTIONAL = ("noise_scale", "trained_parameters", "optimizer", "adapter")
"""Columns that older tables do not have; empty there."""


class Table(NamedTuple):
    """A table in the schema, and how the file's columns and rows were read."""

    frame: pd.DataFrame
    notes: tuple[str, ...] = ()


MOST = 2.0**53
"""Beyond it a float does not tell one whole number from the next."""

TRUTHS = {"true": True, "1": True, "1.0": True, "yes": True}
TRUTHS |= {"false": False, "0": False, "0.0": False, "no": False}


def validated(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """The table with `COLUMNS`, in order and typed, and then its settings; cells may be text.

    Raises:
        ResultsError: naming the source, the column and the first offending row.
    """
    frame = frame.assign(**{name: np.nan for name in OPTIONAL if name not in frame})
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise ResultsError(f"{source}: missing columns: {', '.join(missing)}")
    columns = {name: _typed(frame[name], dtype, source) for name, dtype in COLUMNS.items()}
    columns |= {name: setting(frame[name]) for name in settings_of(frame)}
    table = pd.DataFrame(columns).reset_index(drop=True)
    wrong = {
        f"status is none of {', '.join(STATUSES)}": ~table.status.isin(STATUSES),
        "status is ok but value is empty": (table.status == "ok") & ~np.isfinite(table.value),
        "learning_rate is not above 0": table.learning_rate <= 0,
        "batch_size is not above 0": table.batch_size.fillna(1) <= 0,
    }
    for problem, rows in wrong.items():
        if rows.any():
            raise ResultsError(f"{source}: row {int(np.argmax(rows)) + 1}: {problem}")
    _refuse_repeats(table, source)
    return table


def _refuse_repeats(table: pd.DataFrame, source: str) -> None:
    """
    Raises:
        ResultsError: two rows are of one trial and score.
    """
    row = ["key", "benchmark", "metric"]
    if not (again := table.duplicated(row)).any():
        return
    place = int(np.argmax(again))
    names = table.loc[place, row]
    first = int(np.argmax((table[row] == names).all(axis=1)))
    raise ResultsError(
        f"{source}: rows {first + 1} and {place + 1}: key, benchmark and metric occur twice "
        f"({', '.join(names)}); leave one of them out"
    )


def settings_of(frame: pd.DataFrame) -> list[str]:
    """Columns beyond the schema's: settings that differ between trials."""
    return [str(name) for name in frame if name not in COLUMNS]


def setting(column: Any) -> Any:
    """Numbers where all that stands in the column is one, else text; empty where there is none."""
    truths = column.map(lambda value: isinstance(value, bool | np.bool_))
    parsed: Any = pd.to_numeric(column.where(~truths, np.nan), errors="coerce")
    words = column.notna() & (column.astype("str") != "") & parsed.isna()
    if not words.any():
        return parsed.astype("float64")
    return column.astype("object").where(column.notna(), "").astype("str")


def _typed(column: Any, dtype: str, source: str) -> Any:
    """
    Raises:
        ResultsError: a cell is of another type; names the row.
    """
    if dtype == "str":
        return column.astype("object").where(column.notna(), "").astype("str")
    if dtype == "boolean":
        return booleans(column)
    if pd.api.types.is_numeric_dtype(column):
        values, wrong = column, pd.Series(False, column.index)
    else:
        parsed = numbers(column)
        values, wrong = parsed.values, (parsed.words != "") & (parsed.words.str.lower() != "nan")
    floats = values.astype("float64")
    if column.name != "value":  # that of a run that diverged may be infinite
        wrong |= np.isinf(floats)
    if dtype == "Int64":
        wrong |= floats.notna() & ((floats != floats.round()) | (floats.abs() > MOST))
    if wrong.any():
        place = int(np.argmax(wrong.to_numpy()))
        kind = "a whole number" if dtype == "Int64" else "a number"
        cell = column.iloc[place]
        raise ResultsError(
            f"{source}: row {place + 1}: column {column.name}: '{cell}' is not {kind}"
        )
    return values.astype(dtype)


def booleans(column: Any) -> Any:
    """True, False or empty, also from text."""
    if pd.api.types.is_bool_dtype(column) or column.dtype == "boolean":
        return column.astype("boolean")
    return column.astype("str").str.lower().map(TRUTHS).astype("boolean")


def named_metrics(table: pd.DataFrame) -> pd.DataFrame:
    """Rows that failed or diverged and name no metric have that of their benchmark's scores."""
    nameless: Any = (table.metric.fillna("") == "") & (table.status != "ok")
    scored: Any = table[(table.status == "ok") & (table.metric.fillna("") != "")]
    if "primary" in scored:
        primary = booleans(scored.primary).fillna(False)
        scored = scored[primary] if primary.any() else scored
    if not nameless.any() or scored.empty:
        return table
    metrics = scored.drop_duplicates("benchmark").set_index("benchmark").metric
    own = scored.drop_duplicates(["stage", "arm", "benchmark"]).set_index(
        ["stage", "arm", "benchmark"]
    )
    failed: Any = table[nameless]
    names = [
        own.metric.get((stage, arm, benchmark), metrics.get(benchmark, ""))
        for stage, arm, benchmark in zip(failed.stage, failed.arm, failed.benchmark, strict=True)
    ]
    table = table.copy()
    table.loc[nameless, "metric"] = names
    return table
