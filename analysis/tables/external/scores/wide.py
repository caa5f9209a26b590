"""Which columns of a wide table are scores: a row per run, a column per score.

A column is a score where its name says which value is best (`names.directions`) and its cells are
numbers. The training loss is one only where the table has nothing else.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.tables.errors import ResultsError
from analysis.tables.external.names import columns
from analysis.tables.external.names.benchmarks import named
from analysis.tables.external.names.directions import higher_is_better
from analysis.tables.external.scores.seeds_across import (
    OfSeed,
    computed,
    perhaps_seeds,
    seeds_across,
)
from analysis.tables.numbers import numbers
from analysis.text import listed

ROOMS = ("scores", "score", "results", "benchmarks", "benchmark", "summary", "user_attrs")
ROOMS += ("metrics", "hparam", "final", "best")
"""First parts of names that say nothing of what is scored: MLflow's metrics.loss."""

PREFIXES = (*ROOMS, "eval", "test", "val", "valid", "validation", "dev")
TRAINING = re.compile(r"(train|training)[/._ ].*|train(ing)?loss")
MOSTLY = 0.5
"""Share of the cells that are not empty which are numbers, in a column of numbers."""

ERROR_SUFFIXES = ("_err", " err", "_error", " error")
KNOWN_SUFFIXES = ("_stderr", " stderr", "_std_err", "_standard_error", "_se", *ERROR_SUFFIXES)


class Score(NamedTuple):
    """A column of a wide table and what it scores; `stderr` and `n` name columns, or are "", as is
    `seed` where the column is of no one seed."""

    column: str
    benchmark: str
    metric: str
    higher_is_better: bool
    stderr: str = ""
    n: str = ""
    seed: str = ""


SETTING, NO_NUMBERS = "a setting", "no numbers"
"""Reasons that a column is no score."""


@dataclass(frozen=True)
class Columns:
    """`unknown` are columns of numbers whose best value their name does not say; `unused` maps
    columns to the reason."""

    scores: list[Score]
    unknown: list[str]
    unused: dict[str, str]
    notes: list[str] = field(default_factory=list)

    @property
    def used(self) -> list[str]:
        return [name for score in self.scores for name in (score.column, score.stderr, score.n)]


def find(
    frame: pd.DataFrame,
    candidates: Sequence[str],
    rows: pd.DataFrame,
    directions: Mapping[str, str],
    source: str,
) -> Columns:
    """The scores among the candidates, columns that have no role. `rows` has the axes and the state
    of each row; `directions` maps columns, benchmarks or metrics to "min" or "max".

    Raises:
        ResultsError: there are none, none of which the direction is known, or `directions` names
            another.
    """
    cells = rows.groupby(["learning_rate", "batch_size"], dropna=False).ngroup()
    across = {} if "seed" in rows else seeds_across(candidates)
    kinds = _sorted(frame, candidates, cells, directions, across)
    notes = []
    if not kinds.scores and (score := _objective(frame, rows, kinds.unknown)):
        unknown = [name for name in kinds.unknown if name != score.column]
        kinds = Columns([score], unknown, kinds.unused)
        worse = "lower" if score.higher_is_better else "higher"
        notes.append(
            f"{score.column}: the trials that were pruned as the worse have {worse} values; if "
            f"that is an accident, say --direction {score.column}=min or max"
        )
    _require_scores(frame, kinds, source)
    _refuse_strangers(directions, kinds.scores, source)
    notes += dict.fromkeys(_note(score, across) for score in kinds.scores)
    notes += [
        f"{listed(names)}: scores of their own; if they are one score of several seeds, call them "
        f"{re.sub(r'[_ -]?[0-9]+$', '_seed', names[0])}1 and so on"
        for names in perhaps_seeds(score.column for score in kinds.scores)
    ]
    return replace(kinds, notes=notes)


def _note(score: Score, across: Mapping[str, OfSeed]) -> str:
    called = "" if score.benchmark in score.column else f", read as {score.benchmark}"
    name = score.column
    if score.seed:
        name = across[score.column].score
        columns_ = listed([column for column in across if across[column].score == name])
        called = f" from {columns_}, a seed each"
    better = "higher" if score.higher_is_better else "lower"
    return f"score {name}{called}: {better} is better"


def _sorted(
    frame: pd.DataFrame,
    candidates: Sequence[str],
    cells: pd.Series,
    directions: Mapping[str, str],
    across: Mapping[str, OfSeed],
) -> Columns:
    scores: list[Score] = []
    training: list[Score] = []
    unknown: list[str] = []
    unused: dict[str, str] = {}
    errors = _errors_of(frame, candidates)
    items = {f"{column}_n" for column in candidates}
    for column in candidates:
        if column in errors.values() or column in items:
            continue
        name, seed = across.get(column, OfSeed(column))
        benchmark, metric = split(name)
        direction = stated(directions, column, benchmark, metric)
        if not seed and computed(column, across.values()):
            unused[column] = "computed from the seeds beside it"
            continue
        if direction is None:
            reason = columns.unused_reason(name)
            if reason or columns.is_progress(column):
                unused[column] = reason or "how far the run has come"
                continue
            if columns.in_config(column):
                unused[column] = SETTING
                continue
        parsed = numbers(frame[column])
        if not (parsed.values.notna() | (parsed.words != "")).any():
            unused[column] = "empty"
            continue
        if parsed.share <= MOSTLY:
            unused[column] = NO_NUMBERS
            continue
        if direction is None:
            direction = higher_is_better(benchmark, metric)
            setting = columns.is_setting(column, frame[column].astype("str"), cells)
            if direction is None and setting:
                unused[column] = SETTING
                continue
        if direction is None:
            unknown.append(column)
            continue
        score = Score(column, benchmark, metric or "value", direction, errors.get(column, ""))
        score = score._replace(seed=seed, n=column + "_n" if column + "_n" in candidates else "")
        (training if TRAINING.fullmatch(_measured(column)) else scores).append(score)
    if any(_is_evaluated_loss(score.column) for score in scores):
        training += [score for score in scores if _measured(score.column) == "loss"]
    if training and any(score not in training for score in scores):
        unused |= {score.column: "of the training, not of an evaluation" for score in training}
        scores = [score for score in scores if score not in training]
    else:
        scores += [score for score in training if score not in scores]
    return Columns(_apart(scores), unknown, unused)


def _apart(scores: Sequence[Score]) -> list[Score]:
    """Of several columns that are one metric of one benchmark (eval/loss, test/loss) the first has
    its name, and others have their column's."""
    seen: set[tuple[str, str, str]] = set()
    apart = []
    for score in scores:
        if (score.benchmark, score.metric, score.seed) in seen:
            score = score._replace(metric=score.column)
        seen.add((score.benchmark, score.metric, score.seed))
        apart.append(score)
    return apart


def split(column: str) -> tuple[str, str]:
    """Benchmark and metric of a column, the latter "" where the name is one: scores/arc/acc_norm,
    arc_easy/acc,none, gsm8k_exact_match, eval/loss."""
    parts = _parts(column, PREFIXES)
    benchmark, metric = parts[0], "/".join(parts[1:])
    benchmark, metric = benchmark.removesuffix(",none"), metric.removesuffix(",none")
    if known := named(benchmark):
        benchmark, metric = known[0], " ".join(filter(None, (metric, known[1])))
    return benchmark, metric


def _parts(column: str, prefixes: Sequence[str]) -> list[str]:
    parts = [part for part in re.split(r"[/.]", column) if part] or [column]
    while len(parts) > 1 and parts[0].lower() in prefixes:
        parts = parts[1:]
    return parts


def _measured(column: str) -> str:
    """A column's name in plain spelling, which still says whether it is of an evaluation."""
    return columns.plain("/".join(_parts(column, ROOMS)))


def stated(directions: Mapping[str, str], column: str, benchmark: str, metric: str) -> bool | None:
    """The direction that was given for a column, a benchmark's metric, a metric or a benchmark."""
    for name in (column, f"{benchmark}/{metric}", metric, benchmark):
        if name and name in directions:
            return directions[name] == "max"
    return None


def ask(source: str, names: Sequence[str]) -> ResultsError:
    """The question that a name does not answer."""
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    answers = " ".join(f"--direction '{name}=max'" for name in names[:2])
    return ResultsError(
        f"{source}: is a higher or a lower value better? The names do not say for: {shown}. "
        f"Answer for each that is a score, with min or max: {answers}"
    )


def _errors_of(frame: pd.DataFrame, candidates: Sequence[str]) -> dict[str, str]:
    """Score column -> the column of its standard error: acc,none and acc_stderr,none. acc_error may
    be 1 - acc, too: an error rate, which is a score."""
    errors = {}
    for column in candidates:
        name, comma, rest = column.partition(",")
        for suffix in KNOWN_SUFFIXES:
            if (error := f"{name}{suffix}{comma}{rest}") not in candidates:
                continue
            unsure = higher_is_better(*split(column)) is None
            if suffix in ERROR_SUFFIXES and (unsure or _complements(frame[column], frame[error])):
                continue
            errors[column] = error
    return errors


def _complements(score: Any, error: Any) -> bool:
    sums = (numbers(score).values + numbers(error).values).dropna()
    return any(np.allclose(sums, whole, rtol=0.005) for whole in (1, 100))


def _is_evaluated_loss(column: str) -> bool:
    return bool(re.fullmatch(r"(eval|val|valid|validation|test|dev)_.*loss.*", _measured(column)))


def _objective(frame: pd.DataFrame, rows: pd.DataFrame, unknown: Sequence[str]) -> Score | None:
    """Optuna's `value`, whose direction a frame does not say: pruners stop what is worse, so the
    values of pruned trials show it. None where there are none, or they lie on both sides."""
    if "value" not in unknown:
        return None
    values: Any = numbers(frame["value"]).values
    complete, pruned = (
        values[rows.status == "ok"].dropna(),
        values[rows.stated == "pruned"].dropna(),
    )
    if complete.empty or pruned.empty:
        return None
    above, below = pruned.min() > complete.median(), pruned.max() < complete.median()
    return Score("value", "value", "value", bool(below)) if above or below else None


def _require_scores(frame: pd.DataFrame, kinds: Columns, source: str) -> None:
    if kinds.scores:
        return
    if kinds.unknown:
        raise ask(source, kinds.unknown)
    unused = "; ".join(f"{name}: {reason}" for name, reason in kinds.unused.items())
    raise ResultsError(
        f"{source}: no column is a score. A table has a column for each score (eval/loss, gsm8k), "
        "or the columns benchmark, metric and value; name a score with --direction COLUMN=min or "
        f"max. Not scores: {unused or ', '.join(frame.columns)}"
    )


def _refuse_strangers(directions: Mapping[str, str], scores: Sequence[Score], source: str) -> None:
    names = [
        {score.column, score.benchmark, score.metric, f"{score.benchmark}/{score.metric}"}
        for score in scores
    ]
    strangers = [name for name in directions if not any(name in known for known in names)]
    if strangers:
        raise ResultsError(
            f"{source}: --direction {strangers[0]}={directions[strangers[0]]}: no score of that "
            f"name; scores: {', '.join(score.column for score in scores)}"
        )
