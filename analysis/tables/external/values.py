"""The cells of a long table -> values, statuses and directions, in the schema."""

import re
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.benchmarks import TASKS, task
from analysis.tables.errors import ResultsError
from analysis.tables.external.names.directions import higher_is_better
from analysis.tables.external.runs import STATES
from analysis.tables.external.scores import wide
from analysis.tables.numbers import numbers
from analysis.tables.options import ReadOptions
from analysis.tables.schema import COLUMNS, booleans, named_metrics, validated
from analysis.tables.settings import SET
from analysis.text import counted

PREFERRED_METRICS = ("acc_norm", "exact_match", "acc", "mean", "smoothed", "loss")
FRACTION = re.compile(
    r"(^|[_ ])(acc|accuracy|accuracies|acc_norm|exact_match|em|f1|recall|precision"
    r"|strict[_-]match|flexible[_-]extract)$"
)
"""Names of metrics that lie between 0 and 1."""

EXAMPLES = re.compile(r" ?\d+-shot$")
"""In a metric, the examples in the prompt (`names.benchmarks`)."""

FRACTION_OF_ERROR = 0.05
"""In percent, the error of a score of a million items: no larger ones are read as fractions."""

MARK, TIMES_USUAL = 1e6, 1000
"""A value as large as the mark, and so many times the lower quartile of its score, is no measure:
objectives return 1e9 where a training diverged."""

FRACTIONS_AND_PERCENT = 20
"""Between the largest value up to 1 and the smallest above it: a wider gap is two units."""


def in_schema(
    table: pd.DataFrame, options: ReadOptions, source: str, notes: list[str], reported: bool
) -> pd.DataFrame:
    """The long table in the schema: values, statuses, directions and keys."""
    table = table.copy()
    table["row"] = table.index
    table = table.reset_index(drop=True)
    table["value"], words, percent, diverged = _values(table, source, notes)
    for name in ("stderr", "n"):
        if name not in table:
            table[name] = np.nan
    table["stderr"] = _errors(table, percent, notes)
    counts = numbers(table.n).values
    table["n"] = counts.where(counts == counts.round())
    table["status"], table["reason"] = _statuses(table, words, diverged)
    _refuse_nameless(table, source)
    table.loc[table.status != "ok", "value"] = np.nan
    table = named_metrics(table)
    table["metric"] = table.metric.replace("", "value")
    table["higher_is_better"] = _directions(table, options, source, [] if reported else notes)
    cell = ["model", "stage", "arm", "learning_rate", "batch_size", "run"]
    table["key"] = "row-" + table.groupby(cell, dropna=False).ngroup().astype("str")
    if "primary" not in table:
        table["primary"] = table["metric"] == _primary_metrics(table)
    table["task_type"] = [task(name).task_type for name in table["benchmark"]]
    table["parent"] = ""
    settings = [name for name in table if str(name).startswith(SET)]
    return validated(table.reindex(columns=[*COLUMNS, *settings]), source)


def _refuse_nameless(table: pd.DataFrame, source: str) -> None:
    """
    Raises:
        ResultsError: a row has a score of no benchmark, where others name one.
    """
    nameless = table.benchmark.astype("str").str.strip() == ""
    scored: Any = table.row[nameless & (table.status == "ok")]
    if len(scored) and not nameless.all():
        raise ResultsError(
            f"{source}: row {scored.iloc[0] + 1}: the benchmark is empty; write its name, or leave "
            "out the row with --where"
        )


class Values(NamedTuple):
    """`words` stand where a value should be; `percent` values were written as percentages;
    `diverged` are marks of it, such as 1e9."""

    values: pd.Series
    words: pd.Series
    percent: pd.Series
    diverged: pd.Series


def _values(table: pd.DataFrame, source: str, notes: list[str]) -> Values:
    """The values of each score.

    Raises:
        ResultsError: a score has values with and without a percent sign, or in two units, or
            nothing says in which.
    """
    values = pd.Series(np.nan, table.index)
    words = pd.Series("", table.index)
    percent = pd.Series(False, table.index)
    diverged = pd.Series(False, table.index)
    groups: Any = table.groupby(["benchmark", "metric"], sort=False)
    _refuse_unclear_unit(groups, source)
    for (benchmark, metric), part in groups:
        name = "/".join(text for text in (benchmark, metric) if text and text != "value")
        parsed = numbers(part["value"])
        if (marks := _marks(parsed.values)).any():
            texts = parsed.values.map("{:g}".format)
            notes.append(
                f"{name}: {', '.join(texts[marks].unique()[:3])} (row {_rows(part[marks])}), over "
                f"{TIMES_USUAL:,} times what is usual: diverged"
            )
            diverged[part.index] = marks
            parsed = parsed._replace(
                values=parsed.values.mask(marks), words=parsed.words.mask(marks, texts)
            )
        plain = parsed.values.notna() & ~parsed.percent & (parsed.values != 0)
        if parsed.percent.any() and plain.any():
            first, other = (
                part.row[part.index[mask]].iloc[0] + 1 for mask in (parsed.percent, plain)
            )
            raise ResultsError(
                f"{source}: {name}: row {first} is in percent and row {other} is not; write the "
                "column in one unit"
            )
        _refuse_two_units(name, parsed.values, part.row, source)
        if is_percent(benchmark, metric, parsed.values):
            parsed = parsed._replace(values=parsed.values / 100, percent=~plain | plain)
        if parsed.percent.any():
            percent[part.index] = True
            notes.append(f"{name}: percent, read as fractions")
        values[part.index], words[part.index] = parsed.values, parsed.words
        lost = part[(parsed.words != "") & ~marks & (part.status == "ok")]
        if len(lost):
            texts = ", ".join(
                f"'{word}'" for word in parsed.words[lost.index].drop_duplicates()[:3]
            )
            notes.append(
                f"{name}: {counted(len(lost), 'cell')} with {texts} in place of a number (row "
                f"{_rows(lost)}): failed"
            )
    return Values(values, words, percent, diverged)


def _marks(values: pd.Series) -> pd.Series:
    sizes = values.abs().where(np.isfinite(values))
    return (sizes >= MARK) & (sizes > TIMES_USUAL * sizes.quantile(0.25))


def _rows(part: pd.DataFrame) -> str:
    return ", ".join(str(row + 1) for row in part.row[:6])


def _errors(table: pd.DataFrame, percent: pd.Series, notes: list[str]) -> pd.Series:
    """Standard errors as fractions where their scores are. Beside `percent` scores an error without
    a sign is in percent too, unless all those of the score are far too small for it."""
    read = numbers(table["stderr"])
    plain = percent & ~read.percent
    errors = read.values.copy()
    groups: Any = table.groupby(["benchmark", "metric"], sort=False).groups
    for (benchmark, metric), rows in groups.items():
        own = errors[rows][plain[rows]]
        if own.max() > FRACTION_OF_ERROR:
            errors[own.index] /= 100
        elif own.notna().any():
            notes.append(f"{benchmark}/{metric}: scores in percent, their errors read as fractions")
    return errors


def is_percent(benchmark: str, metric: str, values: Any) -> bool:
    """Whether a score that is a fraction by its name is written as a number up to 100."""
    named = _metric_alone(metric)
    last = re.split(r"[/,]", named or benchmark)[-1].lower()
    share = task(benchmark).share and not named
    return bool(1 < values.max() <= 100 and (share or FRACTION.search(last)))


def _metric_alone(metric: str) -> str:
    return EXAMPLES.sub("", "" if metric == "value" else metric)


def _refuse_unclear_unit(groups: Any, source: str) -> None:
    """Beside accuracies in percent, 0.4 to 0.8 on a benchmark whose chance is 0 may be either unit;
    a percent sign, or the name of a metric, says which.

    Raises:
        ResultsError: naming such a score and one in percent.
    """
    in_percent, unclear = "", {}
    for (benchmark, metric), part in groups:
        parsed = numbers(part["value"])
        if parsed.percent.any() or not task(benchmark).share or _metric_alone(metric):
            continue
        if is_percent(benchmark, metric, parsed.values):
            in_percent = f"{benchmark} (up to {parsed.values.max():g})"
        elif 0 < parsed.values.max() <= 1 and not task(benchmark).chance:
            unclear[benchmark] = f"{parsed.values.min():g} to {parsed.values.max():g}"
    for benchmark, values in unclear.items() if in_percent else ():
        raise ResultsError(
            f"{source}: {benchmark}: {values} may be fractions, or percentages as those of "
            f"{in_percent} are; write both in one unit, or a % sign after every percentage"
        )


def _refuse_two_units(name: str, values: Any, rows: Any, source: str) -> None:
    """Fractions and percent in one column of an accuracy, told by the gap between them.

    Raises:
        ResultsError: naming a row of each.
    """
    known = TASKS.get(name.partition("/")[0])
    if higher_is_better(name, name.rpartition("/")[2]) is not True or (known and not known.share):
        return
    small, large = values[values.between(0, 1, inclusive="right")], values[values > 1]
    if small.empty or large.empty or large.max() > 100:
        return
    alike = large.min() / 2 <= 100 * small.median() <= 2 * large.max()
    if alike and large.min() > FRACTIONS_AND_PERCENT * small.max():
        raise ResultsError(
            f"{source}: {name}: {small.iloc[0]:g} in row {rows[small.index[0]] + 1} and "
            f"{large.iloc[0]:g} in row {rows[large.index[0]] + 1} look like a fraction and a "
            "percentage; write the column in one unit, or a % sign after every percentage"
        )


def _statuses(
    table: pd.DataFrame, words: pd.Series, diverged: pd.Series
) -> tuple[pd.Series, pd.Series]:
    """Status and reason of each row; one that is ok by name has no score unless it is finite."""
    finite: Any = np.isfinite(table["value"])
    by_word = words.str.lower().map(STATES).where(words.str.lower() != "ok")
    by_word = by_word.mask(diverged, "diverged")
    status = table.status.where((table.status != "ok") | finite, by_word.fillna("failed"))
    status = status.mask((status == "ok") & ~finite, "failed")
    said = ("the table says '" + words + "'").where(words != "", "the table has no value here")
    reason = table.reason.where((table.reason != "") | (status == "ok"), said)
    by_state = (table.status != "ok") & (table.reason == "") & (table.stated != "")
    return status, reason.mask(by_state, "the run is " + table.stated)


def _directions(
    table: pd.DataFrame, options: ReadOptions, source: str, notes: list[str]
) -> pd.Series:
    """Whether higher is better, by the options, the table or the names.

    Raises:
        ResultsError: a name does not say.
    """
    given = booleans(table.higher_is_better) if "higher_is_better" in table else None
    pairs = table[["benchmark", "metric"]].drop_duplicates()
    known: dict[tuple[str, str], bool] = {}
    unknown = []
    names: set[str] = set()
    for benchmark, metric in pairs.itertuples(index=False):
        names |= {benchmark, metric, f"{benchmark}/{metric}"}
        direction = wide.stated(options.directions, "", benchmark, metric)
        if direction is None and given is not None:
            here = given[(table.benchmark == benchmark) & (table.metric == metric)].dropna()
            direction = bool(here.iloc[0]) if len(here) else None
        if direction is None:
            direction = higher_is_better(benchmark, "" if metric == "value" else metric)
        if direction is None:
            unknown.append(benchmark if metric == "value" else f"{benchmark}/{metric}")
            continue
        known[benchmark, metric] = direction
        better = "higher" if direction else "lower"
        notes.append(f"score {benchmark}, {metric}: {better} is better")
    if unknown:
        raise wide.ask(source, unknown)
    return pd.Series(
        [known[pair] for pair in zip(table.benchmark, table.metric, strict=True)], table.index
    )


def _primary_metrics(table: pd.DataFrame) -> pd.Series:
    """Per row the metric that stands for its benchmark: the first of `PREFERRED_METRICS` that was
    scored, or the first there is."""
    pairs = table[["benchmark", "metric"]].drop_duplicates()
    primary = {}
    for benchmark, metrics in pairs.groupby("benchmark", sort=False).metric:
        bare = {name.split(",")[0]: name for name in reversed(list(metrics))}
        first = next((bare[name] for name in PREFERRED_METRICS if name in bare), None)
        primary[benchmark] = first or metrics.iloc[0]
    return table.benchmark.map(primary)
