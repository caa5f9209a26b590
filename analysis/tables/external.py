"""Tables from elsewhere -> the one schema: other spellings, one column per score, W&B exports.

Long tables have a row per cell, seed and benchmark; wide ones, as W&B exports them, a row per run
and a column per score (`scores/arc/acc_norm`, `eval/loss`). What a table lacks is filled in by the
plainest reading; what cannot be read is refused with file, column and what is allowed.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.benchmarks import TASKS, task
from analysis.tables.run_folder import ResultsError
from analysis.tables.schema import COLUMNS, validated

FOREIGN_COLUMNS = ("learning_rate", "batch_size", "benchmark", "value")
EMPTY = ["", "nan", "NaN", "NA", "null", "None"]
SPELLINGS = {
    "learning_rate": ("lr", "peak_lr", "max_lr", "peak_learning_rate"),
    "batch_size": (
        *("bs", "effective_batch_size", "global_batch_size", "total_batch_size"),
        *("total_train_batch_size", "train_batch_size"),
    ),
    "seed": ("random_seed",),
    "benchmark": ("task",),
    "value": ("score",),
    "stderr": ("std_err", "standard_error"),
    "status": ("state",),
}
PER_DEVICE = ("per_device_train_batch_size", "per_device_batch_size", "micro_batch_size")
SCORE_PREFIXES = ("scores", "score", "eval", "test", "benchmarks", "benchmark")
SCORE_WORDS = re.compile(r"(^|[ _/])(loss|perplexity|acc|accuracy|acc_norm|exact_match)$")
NO_SCORES = ("train", "config", "system", "epoch", "step", "global_step", "runtime", "created")
PREFERRED_METRICS = ("acc_norm", "exact_match", "acc", "mean", "smoothed", "loss")
SAME_RATE = 0.01
"""In octaves: learning rates this near are one rate, rounded differently."""
STATES = {"finished": "ok", "ok": "ok", "diverged": "diverged"} | dict.fromkeys(
    ("failed", "crashed", "killed", "preempted", "running", "pending", "interrupted"), "failed"
)


class Score(NamedTuple):
    """A column of a wide table, and what it scores."""

    column: str
    benchmark: str
    metric: str


def adopted(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """A table from elsewhere, with what it lacks filled in by the plainest reading, validated.

    Repeated rows of a cell without a seed are taken for seeds 0, 1, ...; a metric or benchmark
    with "loss" or "perplexity" in its name is better when lower; an empty value is a failed cell;
    rows with neither learning rate nor batch size are models outside the grid.

    Raises:
        ResultsError: a column of `FOREIGN_COLUMNS` is missing, or a value is impossible.
    """
    table = _renamed(_step_law(frame))
    if "value" not in table:
        table = _long(table, source)
    missing = [name for name in FOREIGN_COLUMNS if name not in table]
    if missing:
        raise ResultsError(
            f"{source}: missing columns: {', '.join(missing)}; a table needs at least "
            f"{', '.join(FOREIGN_COLUMNS)}, or a column per score in place of the last two "
            f"(scores/arc/acc_norm, eval/loss){_per_device(frame)}; found: "
            f"{', '.join(map(str, frame.columns))}"
        )
    defaults = dict.fromkeys(("parent", "arm", "model", "reason"), "")
    for name, default in (defaults | {"stage": "all", "metric": "value"}).items():
        table[name] = table[name].fillna(default).astype(str) if name in table else default
    for name in ("learning_rate", "batch_size", "value"):
        table[name] = _numbers(table, name, source)
    _check_axes(table, source)
    table["learning_rate"] = _snapped(table.learning_rate)
    cell = ["stage", "arm", "learning_rate", "batch_size"]
    scored = [*cell, "benchmark", "metric"]
    if "seed" not in table:
        table["seed"] = table.groupby(scored, dropna=False).cumcount()
    table["status"], table["reason"] = _statuses(table, source)
    table.loc[table["status"] != "ok", "value"] = np.nan
    keyed = ["model", *cell, "seed"]
    table["key"] = "row-" + table.groupby(keyed, dropna=False).ngroup().astype(str)
    if "primary" not in table:
        table["primary"] = table["metric"] == _primary_metrics(table)
    if "higher_is_better" not in table:
        names = table["benchmark"] + " " + table["metric"]
        table["higher_is_better"] = ~names.str.lower().str.contains("loss|perplexity")
    table["lr_bs_ratio"] = table["learning_rate"] / table["batch_size"]
    table["task_type"] = [task(name).task_type for name in table["benchmark"]]
    return validated(table.reindex(columns=list(COLUMNS)), source)


def selected(frame: pd.DataFrame, where: Mapping[str, str], source: str) -> pd.DataFrame:
    """The rows whose columns have the given values, compared as numbers where both are.

    Raises:
        ResultsError: no such column, or no row has the value.
    """
    for name, wanted in where.items():
        if name not in frame:
            raise ResultsError(
                f"{source}: --where {name}={wanted}: no column {name}; found: "
                f"{', '.join(map(str, frame.columns))}"
            )
        column = frame[name]
        numbers: Any = pd.to_numeric(column, errors="coerce")
        try:
            same = np.isclose(numbers.astype("float64"), float(wanted), rtol=1e-9, atol=0)
        except ValueError:
            same = (column.astype(str) == wanted).to_numpy()
        if not same.any():
            values = ", ".join(map(str, column.drop_duplicates().head(20)))
            raise ResultsError(f"{source}: --where {name}={wanted}: no such row; {name}: {values}")
        frame = frame.loc[same]
    return frame


def _renamed(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns by their names in the schema; a name that is already there is never overwritten."""
    plain = {}
    for column in frame.columns:
        name = re.sub(r"^config[./_]", "", str(column).strip())
        plain.setdefault(re.sub(r"[-. ]", "_", name.lower()), column)
    names = {}
    for wanted in COLUMNS:
        if wanted in frame:
            continue
        found = next((one for one in (wanted, *SPELLINGS.get(wanted, ())) if one in plain), None)
        if found is not None and plain[found] not in names:
            names[plain[found]] = wanted
    return frame.rename(columns=names).copy()


def _step_law(table: pd.DataFrame) -> pd.DataFrame:
    """The published grids of step-law/steplaw: an arm per model size N and token count D."""
    if not {"N", "D", "smooth loss", "loss"} <= set(table):
        return table
    sizes, tokens = table["N"].astype(float), table["D"].astype(float)
    arms = [f"{n / 1e6:.0f}M, {d / 1e9:.3g}B tokens" for n, d in zip(sizes, tokens, strict=True)]
    table = table.assign(arm=arms, stage="pretraining", model_parameters=sizes.astype("int64"))
    names = {"smooth loss": "eval/pretraining_loss/smoothed", "loss": "eval/pretraining_loss/last"}
    return table.drop(columns=["ti", "exp_name"], errors="ignore").rename(columns=names)


def _long(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """A wide table's scores as rows; unchanged where no column looks like a score."""
    scores = [score for column in table.columns if (score := _score(table, str(column)))]
    if not scores:
        return table
    shared = [name for name in COLUMNS if name in table]
    parts = []
    for score in scores:
        part = table[shared].assign(benchmark=score.benchmark, metric=score.metric)
        part["value"] = table[score.column]
        for name in ("stderr", "n"):
            if f"{score.column}_{name}" in table:
                part[name] = table[f"{score.column}_{name}"]
        parts.append(part)
    long = pd.concat(parts, ignore_index=True)
    axes = [name for name in ("learning_rate", "batch_size") if name in long]
    # the row of a sweep's summary has neither axes nor scores
    return long.loc[long[axes].notna().any(axis=1) | long["value"].notna()].reset_index(drop=True)


def _score(table: pd.DataFrame, column: str) -> Score | None:
    parts = re.split(r"[/.]", column)
    if column in COLUMNS or column.endswith(("_stderr", "_n")):
        return None
    if parts[0].lower() in NO_SCORES or not pd.api.types.is_numeric_dtype(table[column]):
        return None
    prefixed = len(parts) > 1 and parts[0].lower() in SCORE_PREFIXES
    rest = parts[1:] if prefixed else parts
    if not (prefixed or rest[0].lower() in TASKS or SCORE_WORDS.search(column.lower())):
        return None
    benchmark = rest[0].lower() if rest[0].lower() in TASKS else rest[0]
    return Score(column, benchmark, "/".join(rest[1:]) or "value")


def _primary_metrics(table: pd.DataFrame) -> pd.Series:
    """Per row the metric that stands for its benchmark: the first of `PREFERRED_METRICS` that was
    scored, or the first there is."""
    pairs = table[["benchmark", "metric"]].drop_duplicates()
    found = {}
    for benchmark, metrics in pairs.groupby("benchmark", sort=False).metric:
        names = list(metrics)
        found[benchmark] = next((one for one in PREFERRED_METRICS if one in names), names[0])
    return table.benchmark.map(found)


def _numbers(table: pd.DataFrame, name: str, source: str) -> pd.Series:
    column: Any = table[name]
    if pd.api.types.is_numeric_dtype(column):
        return column.astype("float64")
    text = column.astype("str").str.strip()
    numbers = pd.Series(pd.to_numeric(text, errors="coerce"), table.index, dtype="float64")
    wrong = (numbers.isna() & ~text.isin(EMPTY) & column.notna()).to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        allowed = "a number" if name != "value" else "a number, or empty for a failed cell"
        raise ResultsError(
            f"{source}: row {row + 1}: column {name}: '{text.iloc[row]}' is not {allowed}"
        )
    return numbers


def _check_axes(table: pd.DataFrame, source: str) -> None:
    axes: Any = table[["learning_rate", "batch_size"]]
    half = (axes.isna().any(axis=1) & axes.notna().any(axis=1)).to_numpy()
    sizes: Any = table.batch_size
    broken = (sizes.notna() & (sizes != sizes.round())).to_numpy()
    for rows, told in (
        (half, "learning_rate and batch_size must be numbers, or both empty outside the grid"),
        (broken, "column batch_size: not a whole number of examples"),
    ):
        if rows.any():
            raise ResultsError(f"{source}: row {int(np.argmax(rows)) + 1}: {told}")


def _statuses(table: pd.DataFrame, source: str) -> tuple[pd.Series, pd.Series]:
    """Status and reason of each row; one that is ok by name has no score unless it is finite."""
    finite: Any = np.isfinite(table.value)
    given: Any = table.reason
    empty = given.where(finite, "the table has no finite value here")
    if "status" not in table:
        return pd.Series(np.where(finite, "ok", "failed"), index=table.index), empty
    stated: Any = table.status.fillna("").astype(str).str.lower()
    known = stated.map(STATES)
    wrong = known.isna().to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ResultsError(
            f"{source}: row {row + 1}: column status: '{stated.iloc[row]}': status is none of "
            f"ok, diverged, failed (or W&B's {', '.join(sorted(set(STATES) - {'ok', 'diverged'}))})"
        )
    lost = (known == "ok") & ~finite
    reason = given.where(~lost, "the table has no finite value here")
    nameless = (known == "failed") & (reason == "")
    return known.mask(lost, "failed"), reason.mask(nameless, "the run is " + stated)


def _snapped(rates: pd.Series) -> pd.Series:
    """One value, the median, for learning rates within `SAME_RATE` octaves of the next."""
    distinct = np.unique(rates.to_numpy()[rates > 0])
    if len(distinct) < 2:
        return rates
    group = np.concatenate([[0], np.cumsum(np.diff(np.log2(distinct)) > SAME_RATE)])
    middle = pd.Series(distinct).groupby(group).transform("median").to_numpy()
    return rates.replace(dict(zip(distinct, middle, strict=True)))


def _per_device(frame: pd.DataFrame) -> str:
    names = {str(column).rpartition("/")[2].lower() for column in frame.columns}
    found = [name for name in PER_DEVICE if name in names]
    if not found:
        return ""
    return (
        f"; {found[0]} is not the effective batch size: multiply it by the accumulation steps and "
        "the devices"
    )
