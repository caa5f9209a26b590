"""A table from elsewhere -> the one schema.

Long tables have a row per cell, seed and benchmark; wide ones, as W&B exports them, a row per run
and a column per score (`scores/arc/acc_norm`, `eval/loss`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.tables.errors import ResultsError
from analysis.tables.external import conditions
from analysis.tables.external.names import columns
from analysis.tables.external.names.columns import filled
from analysis.tables.external.runs import runs
from analysis.tables.external.scores import wide
from analysis.tables.external.scores.long import benchmarks_notes, errors_beside, scores_of_long
from analysis.tables.external.shape import rows_of_runs
from analysis.tables.external.spellings import united
from analysis.tables.external.values import in_schema
from analysis.tables.numbers import numbers
from analysis.tables.options import ReadOptions
from analysis.tables.schema import Table
from analysis.tables.selection import arms, resolve, selected
from analysis.tables.settings import SET
from analysis.text import counted

OF_A_SCORE = ("benchmark", "metric", "value", "stderr", "n")


def adopt(frame: pd.DataFrame, source: str, options: ReadOptions | None = None) -> Table:
    """A table from elsewhere in the schema, validated.

    A row of learning rate 0, or without axes, is a model outside the grid. A word where a score
    should stand is a failed cell. Repeated rows of a cell without a seed are runs with
    seeds of their own if no setting differs between them.

    Raises:
        ResultsError: a column is missing or may mean two things, rows repeat a cell and are no
            seeds, or a value is impossible.
    """
    options = options or ReadOptions()
    if frame.empty:
        raise ResultsError(f"{source}: the table has no rows")
    frame, shape = rows_of_runs(frame, options.columns, source)
    raw: Any = selected(frame, options.where, source)
    mapping = columns.roles(raw, options.columns, source)
    raw, same, notes = united(raw, mapping, options.columns)
    raw, mapping, of_step_law = _step_law(raw, mapping)
    notes = shape + notes + of_step_law
    long = "value" in mapping and ("benchmark" in mapping or "metric" in mapping)
    tasks = "" if long else mapping.get("benchmark", "")
    if not long:
        kept = [role for role in mapping if role not in OF_A_SCORE or role in options.columns]
        mapping = {role: mapping[role] for role in kept}
    elif "stderr" not in mapping and mapping.get("metric") in raw:
        raw, mapping, of_errors = errors_beside(raw, mapping)
        notes += of_errors
    notes += _names_notes(mapping)
    rows: Any = runs(raw, mapping, options.columns, source, notes)
    rest = [name for name in raw.columns if name not in [*mapping.values(), *same]]
    kinds = wide.Columns([], [], {})
    if long:
        scores_of_rows = scores_of_long(raw, mapping)
        rows = rows.join(scores_of_rows)
        notes += benchmarks_notes(raw, mapping, scores_of_rows)
    else:
        kinds = wide.find(raw, rest, rows, options.directions, source)
    notes += kinds.notes
    columns_of_values = [score.column for score in kinds.scores] or [mapping["value"]]
    rows["result"], rows["results"] = _results(raw, rows, columns_of_values)
    by = resolve(raw, options.by, "--by", source)
    rows["arm"] = arms(raw, rows.arm, by)
    rows = rows.assign(**{f"{SET}{name}": raw[name] for name in by})
    if options.last:
        last = resolve(raw, [options.last], "--last", source)[0]
        final = conditions.last_rows(rows, raw, last, by, source)
        notes.append(f"--last {last}: {int(final.sum())} of {len(rows)} rows are kept")
        rows, raw = rows[final].copy(), raw[final]
    if mapping.get("model") not in by:
        rows["arm"] = conditions.split_models(rows, notes)
    unscored = [name for name in rest if name not in [*kinds.used, *by]]
    settings = [mapping[role] for role in columns.SETTINGS_ROLES if mapping.get(role) in raw]
    candidates = [name for name in [*unscored, *settings] if name not in by]
    ways = {tasks: _way_of_tasks(kinds.scores[0])} if tasks and kinds.scores else {}
    conditions.refuse_conditions(rows, raw, candidates, ways, source, notes)
    rows = conditions.without_reruns(rows, raw, source, notes)
    rows["run"], rows["seed"] = conditions.seeds(rows)
    raw = raw.loc[rows.index]
    notes += conditions.stopped_early(rows, raw, unscored)
    notes += _unused_notes(raw, unscored, kinds) + _failed_notes(rows)
    table = rows if long else _melted(raw, rows, kinds.scores)
    frame = in_schema(_marked_everywhere(table), options, source, notes, reported=not long)
    return Table(frame, tuple(dict.fromkeys(notes)))


def _step_law(
    raw: pd.DataFrame, mapping: dict[str, str]
) -> tuple[pd.DataFrame, dict[str, str], list[str]]:
    """The published grids of step-law/steplaw: an arm per model size N and token count D."""
    if not {"N", "D", "smooth loss", "loss"} <= set(raw):
        return raw, mapping, []
    sizes, tokens = numbers(raw["N"]).values, numbers(raw["D"]).values
    names = [f"{n / 1e6:.0f}M, {d / 1e9:.3g}B tokens" for n, d in zip(sizes, tokens, strict=True)]
    losses = {"smooth loss": "eval/pretraining_loss/smoothed", "loss": "eval/pretraining_loss/last"}
    raw = raw.assign(arm=names, stage="pretraining").rename(columns=losses)
    raw = raw.drop(columns=["D", "D/N", "ti"], errors="ignore")
    mapping |= {"arm": "arm", "stage": "stage", "model_parameters": "N"}
    return raw, mapping, ["N, D: a surface for each model size and token count (Step Law)"]


def _results(
    raw: pd.DataFrame, rows: pd.DataFrame, names: Sequence[str]
) -> tuple[pd.Series, pd.Series]:
    """Whether each row has a result that counts, and all its results as one text."""
    finite = np.column_stack([np.isfinite(numbers(raw[name]).values) for name in names])
    texts = [" ".join(map(str, cells)) for cells in raw[list(names)].itertuples(index=False)]
    return finite.any(axis=1) & (rows.status == "ok"), pd.Series(texts, raw.index)


def _melted(raw: pd.DataFrame, rows: pd.DataFrame, columns: list[wide.Score]) -> pd.DataFrame:
    """A wide table's scores as rows; without the row of a sweep's summary, which has neither axes
    nor scores."""
    parts = []
    for score in columns:
        part = rows.assign(
            benchmark=score.benchmark,
            metric=score.metric,
            higher_is_better=score.higher_is_better,
            value=raw[score.column],
        )
        for name, column in (("stderr", score.stderr), ("n", score.n)):
            part[name] = raw[column] if column else np.nan
        parts.append(_of_seed(part, raw, score, columns))
    table: Any = pd.concat(parts)
    return table.loc[table.learning_rate.notna() | numbers(table["value"]).values.notna()]


def _of_seed(
    part: pd.DataFrame, raw: pd.DataFrame, score: wide.Score, columns: list[wide.Score]
) -> pd.DataFrame:
    """The rows of a score as runs of its seed, where its column is of one: an empty cell is no run
    where another seed has a value. Beside those, a score of no one seed is of runs of its own."""
    seeds = sorted({int(other.seed) for other in columns if other.seed})
    if not score.seed:
        return part.assign(run=-1 - part.run) if seeds else part
    alike = [
        other
        for other in columns
        if other.seed and (other.benchmark, other.metric) == (score.benchmark, score.metric)
    ]
    here = filled(raw[score.column])
    if score == alike[0]:
        here |= ~np.column_stack([filled(raw[other.column]) for other in alike]).any(axis=1)
    run = part.run * len(seeds) + seeds.index(int(score.seed))
    rows: Any = part.assign(seed=float(score.seed), run=run)[here]
    return rows


def _marked_everywhere(table: pd.DataFrame) -> pd.DataFrame:
    """Failed and diverged rows that name no benchmark stand for those of all the others."""
    scored: Any = table[(table.benchmark != "") & (table.status == "ok")]
    pairs: Any = scored[["benchmark", "metric"]].drop_duplicates()
    nameless = (table.benchmark == "") & (table.status != "ok")
    if not nameless.any() or pairs.empty:
        return table
    rows: Any = table[nameless].drop(columns=["benchmark", "metric"])
    marked = rows.merge(pairs, how="cross").set_axis(np.repeat(rows.index, len(pairs)))
    named: Any = table[~nameless]
    return pd.concat([named, marked])


def _way_of_tasks(score: wide.Score) -> str:
    stderr = f",stderr={score.stderr}" if score.stderr else ""
    return f"a score of each: --columns value={score.column}{stderr}"


def _names_notes(mapping: Mapping[str, str]) -> list[str]:
    """Which columns the schema's are, where their names differ."""
    names = [f"{role} from {name}" for role, name in mapping.items() if role != name]
    return [f"read: {', '.join(names)}"] if names else []


def _failed_notes(rows: pd.DataFrame) -> list[str]:
    """Runs that did not finish, by the table's own word."""
    states = rows.stated[rows.status != "ok"].value_counts()
    return [f"{counted(int(n), 'run')} {state or 'without a state'}" for state, n in states.items()]


def _unused_notes(raw: pd.DataFrame, unscored: list[str], kinds: wide.Columns) -> list[str]:
    """The columns that are not used, by reason."""
    reasons: dict[str, list[str]] = {}
    for column in unscored:
        reason = kinds.unused.get(column) or columns.unused_reason(column) or wide.SETTING
        if column in kinds.unknown:
            reason = "no known score; if it is one, say --direction COLUMN=max or min"
        elif reason in (wide.SETTING, wide.NO_NUMBERS):
            several = len(set(raw[column].astype("str"))) > 1
            reason = (
                "differs between cells, so what it does is part of what the axes seem to do; keep "
                "one value with --where or split with --by"
                if several
                else "the same everywhere"
            )
        reasons.setdefault(reason, []).append(column)
    return [f"not used: {', '.join(names)} ({reason})" for reason, names in reasons.items()]
