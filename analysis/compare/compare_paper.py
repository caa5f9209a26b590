"""A run beside the tables of a paper: our column, the differences and their 95 % intervals.

    difference = ours - published,   interval = difference -+ t sqrt(s_ours^2 + s_published^2)

s_ours holds items and, where a cell was repeated, seeds. The paper prints no errors: s_published is
the binomial error of the whole test set (`ITEMS`), without that of a seed, and left out where the
size is not known. That both answered the same items is not used, which makes intervals wide.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.benchmarks import task
from analysis.compare.score_difference import NORMAL, reach_of
from analysis.compare.source import Source
from analysis.tables import published
from analysis.text import rate, title

BY_METRIC = "rewardbench"
"""The benchmark whose categories are metrics in a run and rows of their own in the paper."""

ITEMS: dict[str, tuple[int, ...]] = {
    "arc": (2376, 1172),
    "bbh": (6511,),
    "gsm8k": (1319,),
    "hellaswag": (10042,),
    "ifeval": (541,),
    "mmlu_pro": (12032,),
    "piqa": (1838,),
    "rewardbench_chat": (358,),
    "rewardbench_chat_hard": (456,),
    "rewardbench_safety": (740,),
    "rewardbench_reasoning": (447, 984),
}
"""Items of each test set; several where the score is the plain mean over several sets."""


class Table(NamedTuple):
    """A table of the paper: its number, what it is about, the kind of stage that ours is taken
    from ("" for the last policy of a run) and its columns by their names in data/scores.csv."""

    number: str
    about: str
    kind: str
    columns: tuple[str, ...]


SFT = ("SmolTulu SFT-1130", "SmolTulu SFT-1207")
DPO = ("SmolTulu DPO-1130", "SmolTulu DPO-1207")
OTHERS = ("SmolLM2-1.7B-Instruct", "Llama-3.2-1B-Instruct", "Qwen2.5-1.5B-Instruct")

ON_HUB = {"SmolTulu DPO-1130": "SmolTulu-1.7b-Instruct"}
"""What a published column is called on the hub, where it is called otherwise (its model card)."""

TABLES: dict[str, tuple[Table, ...]] = {
    "smoltulu": (
        Table("3", "supervised fine-tuning", "sft", (*SFT, OTHERS[0])),
        Table("6", "direct preference optimization", "dpo", (*DPO, *SFT)),
        Table(
            "8", "reward models", "reward", ("SmolTulu RM-1130", "SmolTulu RM-1207", "Tulu 3 8b RM")
        ),
        Table("9", "beside other models of this size", "", (*DPO, *SFT, *OTHERS)),
    )
}
POLICIES = ("sft", "dpo", "rlvr")
"""Kinds of stage that leave a policy, in the order of the recipe."""


class Score(NamedTuple):
    """A fraction, its standard error, and the part of that which is between so many `runs`."""

    value: float
    stderr: float | None
    seeds: float
    runs: int


class Ours(NamedTuple):
    """One of our columns, its scores by benchmark. `beside` are the published columns that it is
    compared with."""

    name: str
    note: str
    scores: dict[str, Score]
    beside: tuple[str, ...]


class Difference(NamedTuple):
    """ours minus published, percentage points, with its 95 % interval; None where neither error is
    known."""

    benchmark: str
    ours: str
    published: str
    points: float
    low: float | None
    high: float | None


class Beside(NamedTuple):
    """One table: `rows` of (benchmark, published column -> percent), our columns, differences;
    `left_out` says what has none though both have scores."""

    table: Table
    heading: str
    rows: list[tuple[str, dict[str, float]]]
    ours: list[Ours]
    differences: list[Difference]
    left_out: str


def tables(source: Source, name: str) -> list[Beside]:
    """Every table of a published source with what the run has for it; a table for which it has
    nothing stands without our column.

    Raises:
        ResultsError: nothing is published under this name.
    """
    theirs = published.table(name)
    frame = source.frame
    primary, category = frame.primary.fillna(False).astype(bool), frame.benchmark == BY_METRIC
    named = frame.benchmark.where(primary | ~category, f"{BY_METRIC}_" + frame.metric)
    good = frame.assign(benchmark=named).loc[(primary | category) & (frame.status == "ok")]
    return [_beside(table, theirs, good, source.kinds) for table in TABLES[name]]


def _beside(
    table: Table, theirs: pd.DataFrame, good: pd.DataFrame, kinds: Mapping[str, str]
) -> Beside:
    printed = theirs.loc[theirs.key.isin(table.columns)]
    rows = [
        (str(benchmark), dict(zip(part.key, 100 * part.value, strict=True)))
        for benchmark, part in printed.groupby("benchmark", sort=False)
    ]
    benchmarks = [benchmark for benchmark, _ in rows]
    ours = _ours(table, good.loc[good.benchmark.isin(benchmarks)], kinds)
    differences = [
        _difference(benchmark, row, name, scores[name])
        for row in ours
        for benchmark, scores in rows
        for name in row.beside
        if benchmark in row.scores and name in scores and benchmark != BY_METRIC
    ]
    left_out = _average(dict(rows)) if any(BY_METRIC in row.scores for row in ours) else ""
    heading = f"Table {table.number}, {table.about}"
    return Beside(table, heading, rows, ours, differences, left_out)


def _average(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Why the averages over RewardBench's categories are not held against each other."""
    name, printed = next(iter(rows[BY_METRIC].items()))
    mean = np.mean([rows[one][name] for one in rows if one.startswith(f"{BY_METRIC}_")])
    return (
        f"{task(BY_METRIC).label} has no difference: ours is the mean of the four categories, the "
        f"paper's is another average. For {name} it prints {printed:.1f}, and its categories have "
        f"a mean of {mean:.1f}."
    )


def _difference(benchmark: str, ours: Ours, name: str, percent: float) -> Difference:
    value, stderr, seeds, runs = ours.scores[benchmark]
    points = 100 * value - percent
    errors = [one for one in (stderr, binomial(benchmark, percent / 100)) if one is not None]
    reach = None
    if errors:
        error = float(np.hypot.reduce(errors))
        known = stderr is not None and seeds > 0
        wide = reach_of(error**2, [seeds**2], [runs - 1]) if known else NORMAL
        reach = wide * 100 * error
    low, high = (None, None) if reach is None else (points - reach, points + reach)
    return Difference(benchmark, ours.name, name, points, low, high)


def binomial(benchmark: str, share: float) -> float | None:
    """Standard error of a share of correct answers on the whole test set, or of the plain mean of
    several; None where its size is not known."""
    sizes = ITEMS.get(benchmark)
    if sizes is None:
        return None
    return float(np.sqrt(share * (1 - share) * sum(1 / size for size in sizes)) / len(sizes))


def _ours(table: Table, good: pd.DataFrame, kinds: Mapping[str, str]) -> list[Ours]:
    """The trials at a published setting, each beside that; else the best cell of a stage, beside
    all of its kind (in the last table the last policy); and published models that were scored as
    they are."""
    stages = list(dict.fromkeys(good.stage))
    ours = [one for name in table.columns if (one := _same_model(name, good)) is not None]
    if table.kind:
        here = [stage for stage in stages if kinds.get(stage, stage) == table.kind]
    else:
        ranked = [stage for stage in stages if kinds.get(stage, stage) in POLICIES]
        here = sorted(ranked, key=lambda stage: POLICIES.index(kinds.get(stage, stage)))[-1:]
    recipes = {
        setting.name: setting for setting in published.settings() if setting.name in table.columns
    }
    for stage in here:
        for arm, rows in good.loc[good.stage == stage].groupby("arm", sort=False):
            of_kind = [
                name for name, recipe in recipes.items() if recipe.stage == kinds.get(stage, stage)
            ]
            matched = [
                _cell(
                    rows, recipes[name].learning_rate, recipes[name].batch_size, stage, str(arm)
                )._replace(beside=(name,))
                for name in of_kind
                if _at(rows, recipes[name].learning_rate, recipes[name].batch_size).any()
            ]
            if not matched:
                best = _best(rows)
                beside = tuple(of_kind) or table.columns
                one = _cell(rows, *best, stage, str(arm))
                cells = len(rows[["learning_rate", "batch_size"]].drop_duplicates())
                if cells > 1:
                    chosen = f"the best of {cells} cells over these benchmarks, which flatters it"
                    one = one._replace(note=f"{one.note}; {chosen}")
                matched = [one._replace(beside=beside)]
            ours += matched
    return ours


def _at(rows: pd.DataFrame, learning_rate: float, batch_size: int) -> np.ndarray:
    near = np.isclose(rows.learning_rate.to_numpy(float), learning_rate, rtol=1e-6)
    return near & (rows.batch_size.fillna(0) == batch_size).to_numpy(bool)


def _same_model(name: str, good: pd.DataFrame) -> Ours | None:
    """The published model itself, where it was scored as it is."""
    on_hub = ON_HUB.get(name, name)
    same = good.model.map(lambda model: str(model).rpartition("/")[2] == on_hub).astype(bool)
    rows = good.loc[good.learning_rate.isna() & same]
    if rows.empty:
        return None
    return Ours(f"{name}, ours", "the published weights, scored here", _scores(rows), (name,))


def _best(rows: pd.DataFrame) -> tuple[float, int]:
    """The cell of least mean shortfall over the benchmarks, each as a share of its range."""
    cells = rows.groupby(["learning_rate", "batch_size", "benchmark"]).value.mean().unstack()
    span = (cells.max() - cells.min()).replace(0, 1)
    short = ((cells.max() - cells) / span).dropna()
    learning_rate, batch_size = (
        (short if len(short) else cells.fillna(np.inf)).mean(axis=1).idxmin()
    )
    return float(learning_rate), int(batch_size)


def _cell(rows: pd.DataFrame, learning_rate: float, batch_size: int, stage: str, arm: str) -> Ours:
    here = rows.loc[_at(rows, learning_rate, batch_size)]
    seeds = here.key.nunique()
    models = ", ".join(sorted({name.rpartition("/")[2] for name in here.model if name}))
    note = f"{models}, " if models else ""
    note += f"learning rate {rate(learning_rate)}, batch size {batch_size}, "
    note += f"{seeds} trial{'s' if seeds > 1 else ''}"
    return Ours(f"ours, {title(stage, arm)}", note, _scores(here), ())


def _scores(rows: pd.DataFrame) -> dict[str, Score]:
    """Mean over trials; error of the items they share and of the seeds between them."""
    scores: dict[str, Score] = {}
    for benchmark, part in rows.groupby("benchmark", sort=False):
        items, values = part.stderr.mean(), part.value.to_numpy(float)
        seeds = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
        stderr = None if pd.isna(items) else float(np.hypot(items, seeds))
        scores[str(benchmark)] = Score(float(values.mean()), stderr, float(seeds), len(values))
    return scores
