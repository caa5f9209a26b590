"""A row for each run of a table from elsewhere: its axes, names, facts and how it ended."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.tables.errors import ResultsError
from analysis.tables.external.batch_size import axis, effective_batch_size
from analysis.tables.external.names.columns import filled
from analysis.tables.external.spellings import elsewhere
from analysis.tables.numbers import numbers
from analysis.tables.recipe import adapter_named, optimizer_named
from analysis.tables.schema import COLUMNS, booleans
from analysis.text import counted, listed

SAME_RATE = 0.01
"""In octaves: learning rates this near are one rate, rounded differently."""

STATES = dict.fromkeys(
    ("ok", "finished", "complete", "completed", "success", "succeeded", "terminated", "done"), "ok"
)
STATES |= {"diverged": "diverged"} | dict.fromkeys(
    (
        *("failed", "fail", "error", "crashed", "killed", "preempted", "preempting", "pruned"),
        *("running", "pending", "waiting", "paused", "interrupted", "stopped", "cancelled"),
        *("canceled", "timeout", "oom", "out of memory"),
    ),
    "failed",
)
"""What trackers and schedulers call the end of a run: W&B, Ray Tune, Optuna, SLURM."""


def runs(
    raw: pd.DataFrame,
    mapping: Mapping[str, str],
    given: Mapping[str, str],
    source: str,
    notes: list[str],
) -> pd.DataFrame:
    """A row of the schema's facts per row of the table: axes, names, seed, status, and `stated`,
    the table's own word for the status. `given` are the columns named by hand.

    Raises:
        ResultsError: no learning rate, or an axis or a status is impossible; names the row.
    """
    if "learning_rate" not in mapping:
        raise ResultsError(
            f"{source}: no column for the learning rate; name it with --columns "
            f"learning_rate=COLUMN. A table has a row for each run, with its learning rate, its "
            f"batch size and its scores; this one has: {', '.join(raw.columns)}"
        )
    rows = pd.DataFrame(index=raw.index)
    rows["learning_rate"] = axis(raw, "learning_rate", mapping["learning_rate"], source)
    if (large := rows.learning_rate[rows.learning_rate >= 1]).any():
        notes.append(
            f"learning rates up to {large.max():g} (row {large.idxmax() + 1}): taken as written; "
            "if they are in another unit, or exponents, write the rates themselves"
        )
    sizes, size_notes = effective_batch_size(raw, mapping, given, source)
    sized = bool({"batch_size", "per_device_batch_size"} & set(mapping))
    if not sized:
        sizes = sizes.where(rows.learning_rate.notna())
    rows["batch_size"] = sizes
    notes += size_notes
    for name in ("stage", "arm", "model", "reason", "optimizer", "adapter"):
        text = raw[mapping[name]] if mapping.get(name) in raw else pd.Series("", raw.index)
        rows[name] = text.fillna("").astype("str")
    rows["optimizer"] = rows.optimizer.map(optimizer_named)
    rows["adapter"] = rows.adapter.map(adapter_named)
    rows["stage"] = rows.stage.replace("", "all")
    if mapping.get("seed") in raw:
        rows["seed"] = raw[mapping["seed"]]
    rows["status"], rows["stated"] = _stated(raw, mapping, source)
    _refuse_merged(rows, raw, source)
    rows = _without_training(rows, notes)
    _check_axes(rows, raw, source)
    rows["learning_rate"] = _snapped(rows.learning_rate, notes)
    rows["lr_bs_ratio"] = rows.learning_rate / rows.batch_size if sized else np.nan
    if mapping.get("diverged") in raw:
        diverged = booleans(raw[mapping["diverged"]]).fillna(False).astype(bool)
        rows.loc[diverged, ["status", "stated"]] = "diverged"
    for name in ("epochs", "steps", "tokens", "examples", "warmup_steps", "adam_beta2"):
        rows[name] = _fact(raw, mapping.get(name), COLUMNS[name])
    rows["model_parameters"] = _fact(raw, mapping.get("model_parameters"), "Int64")
    return rows


def _fact(raw: pd.DataFrame, column: str | None, dtype: str) -> Any:
    """A fact that the schema has room for; empty where it is no (whole) number."""
    if column not in raw:
        return pd.Series(np.nan, raw.index)
    values = numbers(raw[column]).values
    return values if dtype == "float64" else values.where(values == values.round())


def _refuse_merged(rows: pd.DataFrame, raw: pd.DataFrame, source: str) -> None:
    """Merged cells of a spreadsheet stand in the first of their rows alone: again and again, rows
    without axes follow one that has them, under no other name.

    Raises:
        ResultsError: there are at least as many of them as of rows with axes.
    """
    outside = rows.learning_rate.isna() & rows.batch_size.isna()
    names = rows.stage + "\n" + rows.arm + "\n" + rows.model
    written = filled(raw).any(axis=1) & (rows.status == "ok")
    merged = outside & written & names.isin(names[~outside].unique())
    blocks = merged & ~outside.shift(fill_value=True)
    if blocks.sum() > 1 and merged.sum() >= (~outside).sum():
        places = [str(place + 1) for place in rows.index[merged]]
        raise ResultsError(
            f"{source}: {counted(len(places), 'row')} (row {', '.join(places[:6])}) have no "
            "learning rate and batch size; where a spreadsheet merged cells, write the value into "
            "each of their rows; other models need a name of their own in a column model"
        )


def _without_training(rows: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Rows of learning rate 0 are the model before training: outside the grid, without axes. Rows
    without axes are of a model outside the grid too."""
    before: Any = rows.learning_rate == 0
    outside = rows.learning_rate.isna() & rows.batch_size.isna()
    rows.loc[outside & (rows.stage == "all"), "stage"] = "base"
    if 0 < outside.sum() < len(rows):
        notes.append(
            f"{counted(int(outside.sum()), 'row')} without learning rate and batch size: models "
            "outside the grid"
        )
    if before.any():
        rows.loc[before, ["learning_rate", "batch_size"]] = np.nan
        rows.loc[before & (rows.stage == "all"), "stage"] = "base"
        notes.append(
            f"{counted(int(before.sum()), 'row')} of learning rate 0: the model before training, "
            "no cell of the grid"
        )
    return rows


def _check_axes(rows: pd.DataFrame, raw: pd.DataFrame, source: str) -> None:
    rates, sizes = rows.learning_rate, rows.batch_size
    problems = {
        "learning_rate is not above 0": rates <= 0,
        "batch_size is not above 0": sizes <= 0,
        "batch_size: not a whole number of examples": sizes.notna() & (sizes != sizes.round()),
        "learning_rate and batch_size must be numbers, or both empty outside the grid": (
            rates.isna() != sizes.isna()
        ),
    }
    for problem, wrong in problems.items():
        if wrong.any():
            first = wrong.index[wrong][0]
            empty = [
                name for name in ("learning_rate", "batch_size") if pd.isna(rows.at[first, name])
            ]
            role = empty[0] if empty else ""
            others = elsewhere(raw, role, first) if role else []
            hint = (
                f"; {listed(others)} may be its {role}: write it into the column that the other "
                "rows have, or leave the row out with --where"
                if others
                else f"; write its {role.replace('_', ' ')} into the row, also where a spreadsheet "
                "merged cells"
                if role
                else ""
            )
            raise ResultsError(f"{source}: row {int(first) + 1}: {problem}{hint}")


def _snapped(rates: pd.Series, notes: list[str]) -> pd.Series:
    """One value, the median, for learning rates within `SAME_RATE` octaves of the lowest of them;
    rates that follow each other as closely as that are of a search, and stay."""
    distinct = np.unique(rates.to_numpy()[rates > 0])
    if len(distinct) < 2:
        return rates
    x = np.log2(distinct)
    group = np.cumsum(np.diff(x, prepend=x[0]) > SAME_RATE)
    spread = pd.Series(x).groupby(group).transform(np.ptp).to_numpy()
    one = spread <= SAME_RATE
    middle = np.where(one, pd.Series(distinct).groupby(group).transform("median"), distinct)
    if (left := len(np.unique(middle))) < len(distinct):
        notes.append(
            f"{len(distinct)} learning rates, some of which are one rounded differently: "
            f"{left} rates"
        )
    return rates.replace(dict(zip(distinct, middle, strict=True)))


def _stated(
    raw: pd.DataFrame, mapping: Mapping[str, str], source: str
) -> tuple[pd.Series, pd.Series]:
    """Status of each row and the table's own word for it; "ok" where the table says nothing."""
    if mapping.get("status") not in raw:
        return pd.Series("ok", raw.index), pd.Series("", raw.index)
    text: Any = raw[mapping["status"]].fillna("").astype("str").str.strip().str.lower()
    text = text.str.rpartition(".")[2]  # TrialState.COMPLETE
    known = text.map(STATES | {"": "failed"})
    wrong = known.isna()
    if wrong.any():
        row = int(wrong.index[wrong][0]) + 1
        raise ResultsError(
            f"{source}: row {row}: column {mapping['status']}: '{text[wrong].iloc[0]}': status is "
            f"none of {', '.join(STATES)}; correct it, or say --columns status= to leave the "
            "column out"
        )
    return known, text
