"""Rows that repeat a cell: seeds, or something else that nobody may average.

A repeated row is a seed only if nothing else differs. What does is named, and has a surface of its
own (`--by`), is left out (`--where`), or is the history of a run (`--last`).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.tables.errors import ResultsError
from analysis.tables.external.names import columns
from analysis.tables.numbers import numbers
from analysis.text import counted, listed

CELL = ["stage", "arm", "learning_rate", "batch_size"]
SHOWN_VALUES = 4
REPEATS = re.compile(r"(trial|reps?|replicas?|replication|try|attempt)(_?(no|num|number|index))?")
MODEL = "model"


def last_rows(
    rows: pd.DataFrame, raw: pd.DataFrame, column: str, kept: Sequence[str], source: str
) -> pd.Series:
    """Whether each row is the last of its run by the numbers (or dates) of `column`.

    A run is a cell with its seed, its name and the values of the columns `kept`. Rows without any
    result are older than those with one.

    Raises:
        ResultsError: the column holds words.
    """
    order = numbers(raw[column])
    position = order.values
    if order.share < 1:
        dates = pd.to_datetime(raw[column], errors="coerce", format="mixed", utc=True)
        if dates.notna().sum() <= len(raw) / 2:
            raise ResultsError(
                f"{source}: --last {column}: neither numbers nor dates, such as "
                f"'{raw[column].iloc[0]}'; name the column that counts steps or epochs"
            )
        position = dates.map(lambda date: date.timestamp(), na_action="ignore").astype("float64")
    names = [name for name in columns.run_names(raw) if raw[name].duplicated().any()]
    if (unique := columns.name_of_each_row(raw, column)) is not None:
        names = [unique]
    keys = [rows[name] for name in [*CELL, "seed", "benchmark", "metric"] if name in rows]
    keys += [raw[name].astype("str") for name in [*names[:1], *kept]]
    group = pd.concat(keys, axis=1).fillna(-1).apply(tuple, axis=1)
    ranked = pd.DataFrame({"group": group, "result": rows.result, "position": position})
    final = ranked.sort_values(["result", "position"], kind="stable", na_position="first")
    return pd.Series(rows.index.isin(final.drop_duplicates("group", keep="last").index), rows.index)


def split_models(rows: pd.DataFrame, notes: list[str]) -> pd.Series:
    """The arms, with the model's name where one stage and arm has several.

    A model in a single cell is a run with a name.
    """
    arms = rows.arm.copy()
    if MODEL not in rows:
        return arms
    groups: Any = rows[rows.learning_rate.notna()].groupby(["stage", "arm"], sort=False)
    for (_, arm), part in groups:
        cells = part.groupby(["learning_rate", "batch_size"], dropna=False).ngroup()
        if part.model.nunique() < 2:
            continue
        if cells.groupby(part.model).nunique().max() < 2:
            notes.append("not used: model (another in every cell: a name of the run)")
        else:
            names = part.model.replace("", "no model")
            arms[part.index] = f"{arm}, " + names if arm else names
            values = listed([str(name) for name in names.drop_duplicates()])
            notes.append(f"model: a surface for each of {values}")
    return arms


def refuse_conditions(
    rows: pd.DataFrame,
    raw: pd.DataFrame,
    candidates: Sequence[str],
    ways_of: Mapping[str, str],
    source: str,
    notes: list[str],
) -> None:
    """Refuse settings that differ between the rows of a cell, which would pass for seeds. How far
    the rows have come is no such thing where each row is a run by its name.

    `rows` has `CELL`, perhaps benchmark, metric and seed, and `result` (whether the row has one);
    `candidates` are the columns of `raw` that are no axis, fact or score; `ways_of` maps some to a
    way out of their own.

    Raises:
        ResultsError: naming the columns, their values and the ways out.
    """
    here = rows.result & rows.learning_rate.notna()
    part = rows[here]
    scored = [name for name in ("benchmark", "metric") if name in rows]
    cell = part.groupby([*CELL, *scored], dropna=False).ngroup()
    repeated = cell.duplicated(keep=False)
    if not repeated.any():
        return
    places = part.groupby(["learning_rate", "batch_size"], dropna=False).ngroup()
    run = cell if "seed" not in part else part.groupby(["seed", cell], dropna=False).ngroup()
    different: dict[str, pd.Series] = {}
    for column in candidates:
        values = raw.loc[part.index, column].astype("str")
        progress = columns.is_progress(column)
        setting = columns.is_setting(column, values, places)
        if not (progress or setting):
            continue
        if not _several(raw[column], values, run if progress else cell):
            continue
        budget = setting and columns.is_amount(column)
        name = columns.name_of_each_row(raw, column) if progress and not budget else None
        if name is None:
            different[column] = values
        else:
            notes.append(
                f"every row is a run of its own by {name}, so rows of a cell are repeats, though "
                f"{column} differs ({_values(values)}); leave rows out with --where"
            )
    if not different:
        return
    progress = [
        name for name in different if columns.is_progress(name) and (different[name] != "").all()
    ]
    chosen = _smallest(different, cell)
    values = "; ".join(f"{name}: {_values(different[name])}" for name in different)
    first = {name: different[name].iloc[0] for name in chosen}
    ways = [
        f"a surface for each: --by {','.join(chosen)}",
        f"one of them: {' '.join(f'--where {name}={value}' for name, value in first.items())}",
    ]
    if sizes := [name for name in different if "batch" in name.lower()]:
        ways.insert(0, f"the batch size: --columns batch_size={sizes[0]}")
    if len(different) == 1 and REPEATS.fullmatch(columns.plain(*different)):
        ways.insert(0, f"seeds, if they are repeats: --columns seed={next(iter(different))}")
    ways = [ways_of[name] for name in different if name in ways_of] + ways
    if progress:
        ways.insert(0, f"the last row of each run: --last {progress[0]}")
    raise ResultsError(
        f"{source}: {int(repeated.sum())} of {len(part)} rows repeat a learning rate and batch "
        f"size, and are not seeds: {listed(list(different))} "
        f"{'differs' if len(different) == 1 else 'differ'} within a cell ({values}). They are not "
        f"averaged; choose {'; or '.join(ways)}"
    )


def _several(column: Any, values: pd.Series, groups: pd.Series) -> bool:
    """Whether a group has several values of a column; of tokens and examples, unlike amounts."""
    read = numbers(column[values.index])
    if columns.is_amount(str(column.name)) and read.share == 1:
        amounts: Any = read.values.groupby(groups)
        return bool((amounts.max() > columns.SAME_AMOUNT * amounts.min()).any())
    return bool((values.groupby(groups).nunique() > 1).any())


def stopped_early(rows: pd.DataFrame, raw: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Notes on columns by which some of the runs at one batch size went further than others;
    between batch sizes equal steps are unlike epochs."""
    notes = []
    for name in names:
        if not re.fullmatch(r"(.*_)?(training_iteration|epoch)", columns.plain(name)):
            continue
        scored = rows.loc[rows.result & rows.learning_rate.notna()]
        came = numbers(raw.loc[scored.index, name]).values
        groups: Any = came.groupby([scored.arm, scored.batch_size], dropna=False)
        furthest = groups.max()
        if (furthest > columns.SAME_AMOUNT * groups.min()).any():
            keep = f"; keep the whole ones with --where {name}={came.max():g}"
            notes.append(
                f"{name} from {came.min():g} to {came.max():g}: runs that were stopped early are "
                f"scored as they stood{keep if furthest.nunique() == 1 else ''}"
            )
    return notes


def _smallest(different: dict[str, pd.Series], cell: pd.Series) -> list[str]:
    """Few columns that tell apart what all of them do: several may change together."""
    everything = _groups(list(different.values()), cell)
    chosen: list[str] = []
    while _groups([different[name] for name in chosen], cell) < everything:
        rest = [name for name in different if name not in chosen]
        chosen.append(
            max(rest, key=lambda name: _groups([different[n] for n in [*chosen, name]], cell))
        )
    return chosen


def _groups(values: Sequence[pd.Series], cell: pd.Series) -> int:
    return int(
        pd.concat([cell, *values], axis=1).T.reset_index(drop=True).T.drop_duplicates().shape[0]
    )


def _values(values: pd.Series) -> str:
    distinct = [value or "empty" for value in values.drop_duplicates()]
    more = f" and {len(distinct) - SHOWN_VALUES} more" if len(distinct) > SHOWN_VALUES else ""
    return ", ".join(distinct[:SHOWN_VALUES]) + more


class Seeds(NamedTuple):
    """`runs` numbers the rows of a cell: by its seed where it has one, else by the next free
    numbers; `seeds` are the given ones as whole numbers, empty where none is."""

    runs: pd.Series
    seeds: pd.Series


def seeds(rows: pd.DataFrame) -> Seeds:
    """Rows without a seed share none: the first rows of two cells are not of one run."""
    scored = [name for name in ("benchmark", "metric") if name in rows]
    cell = [*CELL, MODEL, *scored] if MODEL in rows else [*CELL, *scored]
    if "seed" not in rows:
        runs = rows.groupby(cell, dropna=False).cumcount()
        return Seeds(runs, pd.Series(np.nan, rows.index))
    given = numbers(rows.seed)
    whole = given.values.notna() & (given.values == given.values.round())
    named = whole | (given.words != "")
    if not (named == whole).all():
        codes = pd.Series(pd.factorize(rows.seed.where(named))[0], rows.index, dtype="float64")
        numbered = codes.where(named)
    else:
        numbered = given.values.where(whole)
    keys = [rows[name] for name in cell]
    highest: Any = numbered.groupby(keys, dropna=False).transform("max")
    free = highest.fillna(-1) + 1
    missing = numbered.isna().astype(int)
    order = missing.groupby(keys, dropna=False).cumsum() - 1
    return Seeds(numbered.where(numbered.notna(), free + order), numbered)


def without_reruns(
    rows: pd.DataFrame, raw: pd.DataFrame, source: str, notes: list[str]
) -> pd.DataFrame:
    """The rows without runs that ended early where the same run also finished, without exact
    repeats of a seed, and of `raw` rows without a seed once where each stands there several times.

    Raises:
        ResultsError: a cell and seed has two different results.
    """
    scored = ("benchmark", "metric")
    cell = [name for name in [*CELL, "seed", MODEL, *scored] if name in rows]
    here: Any = rows[rows.learning_rate.notna()]
    finished = here.result.groupby([here[name] for name in cell], dropna=False).transform("any")
    early = here.index[finished & ~here.result & (here.status != "diverged")]
    if len(early):
        states = listed(sorted(set(here.stated[early]) - {""}) or ["no result"])
        notes.append(
            f"{counted(len(early), 'row')} ({states}) beside a finished run of the same cell and "
            f"seed: the finished one counts (row {_numbers(early)} is left out)"
        )
        rows = rows.drop(early)
    rows = _once(rows, raw, notes)
    if "seed" not in rows:
        return rows
    here = rows[rows.learning_rate.notna() & rows.result & rows.seed.notna() & (rows.seed != "")]
    same = here.index[here.duplicated([*cell, "results"])]
    if len(same):
        notes.append(f"{counted(len(same), 'row')} repeated with the same results: left out")
        rows, here = rows.drop(same), here.drop(same)
    twice = here[here.duplicated(cell, keep=False)]
    if len(twice):
        first = twice[cell].fillna(-1).iloc[0]
        pair = twice.index[(twice[cell].fillna(-1) == first).all(axis=1)]
        raise ResultsError(
            f"{source}: rows {_numbers(pair)} have the same learning rate, batch size and seed "
            f"({twice.seed.iloc[0]}) and different results, and no setting that differs; leave one "
            "out (--where, or --last COLUMN with a date or a step), or say --columns seed= if they "
            "are repeats of which the seed was not noted"
        )
    return rows


def _once(rows: pd.DataFrame, raw: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """A table pasted twice is no table of two seeds; single runs may agree by rounding."""
    here: Any = rows[rows.learning_rate.notna() & rows.result]
    if "seed" in rows:
        here = here[here.seed.isna() | (here.seed == "")]
    written = raw.loc[here.index].astype("str")
    if here.empty or not written.duplicated(keep=False).all():
        return rows
    again = here.index[written.duplicated()]
    notes.append(
        f"every row stands there several times and no seed tells them apart: "
        f"{counted(len(again), 'row')} left out"
    )
    return rows.drop(again)


def _numbers(index: pd.Index) -> str:
    numbers_ = [str(int(place) + 1) for place in np.sort(index.to_numpy())]
    return ", ".join(numbers_[:6]) + (" ..." if len(numbers_) > 6 else "")
