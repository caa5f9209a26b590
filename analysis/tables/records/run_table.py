"""The records of a run folder -> its table, its two files, and the items behind its scores."""

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.tables import atomic
from analysis.tables.errors import ResultsError
from analysis.tables.records import one_column
from analysis.tables.records.run_folder import (
    scored_stages,
    trial_rows,
    trials,
    wanted,
)
from analysis.tables.records.score_files import score_records
from analysis.tables.records.screening import SCREENS, screened_stages
from analysis.tables.schema import COLUMNS, Table, named_metrics, validated
from analysis.tables.settings import with_settings

ITEM_COLUMNS = ("key", "benchmark", "metric", "item", "value")


def read(run_dir: Path | str) -> Table:
    """The table of a run folder with its screening runs, in the column `screens`; sorted: stages
    and benchmarks as the manifest has them, then the axes.

    Raises:
        ResultsError: not a run folder, or impossible values.
    """
    run_dir = Path(run_dir)
    stages = scored_stages(run_dir)
    rows, settings = [], {}
    for folder, trial in with_settings(list(trials(run_dir))):
        rows += trial_rows(folder, trial, wanted(stages, trial["stage"]))
        settings |= dict.fromkeys(name for name in trial["settings"] if name not in COLUMNS)
    one_column.refuse_mixtures(rows)
    columns = [*COLUMNS, *settings]
    frame = pd.DataFrame(rows, columns=columns)
    if screened := screened_stages(stages):
        frame[SCREENS] = frame.stage.map(screened).fillna("")
        columns.append(SCREENS)
    order = {stage: rank for rank, stage in enumerate(stages)}
    benchmarks = {
        (stage, evaluation["benchmark"]): rank
        for stage in stages
        for rank, evaluation in enumerate(wanted(stages, stage))
    }
    ranked = frame.assign(
        stage_rank=[order.get(stage, len(order)) for stage in frame.stage],
        rank=[benchmarks.get(pair, 0) for pair in zip(frame.stage, frame.benchmark, strict=True)],
        arm_rank=frame.arm.map(_in_order(frame.arm)),
        secondary=~frame.primary.astype(bool),
    ).sort_values(
        [
            *("stage_rank", "stage", "arm_rank", "learning_rate", "batch_size", "seed", "key"),
            *("rank", "benchmark", "secondary", "metric"),
        ],
        kind="stable",
        na_position="first",
    )
    frame = validated(named_metrics(ranked.loc[:, columns]), str(run_dir))
    return Table(frame, one_column.notes(rows))


def _in_order(arms: pd.Series) -> dict[str, int]:
    """Arms by name, numbers in them by size: rank 4 before rank 16."""

    def parts(arm: str) -> list[tuple[bool, float, str]]:
        words = re.split(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)", arm)
        return [(odd := place % 2 == 1, float(word) if odd else 0.0, word)
                for place, word in enumerate(words)]  # fmt: skip

    return {arm: rank for rank, arm in enumerate(sorted(set(arms), key=parts))}


def write(run_dir: Path | str) -> Table:
    """Rebuild results.csv and results.parquet of a run folder, which list its screening runs too:
    same records, same bytes."""
    run_dir = Path(run_dir)
    run = read(run_dir)
    frame = run.frame
    atomic.replace(run_dir / "results.csv", lambda aside: frame.to_csv(aside, index=False))
    atomic.replace(run_dir / "results.parquet", lambda aside: frame.to_parquet(aside, index=False))
    return run


def items(run_dir: Path | str, frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per trial x benchmark x metric x item (`ITEM_COLUMNS`), of the wanted evaluations;
    of the primary metrics alone of the table `frame` where it is given.

    Empty where no trial kept its items.

    Raises:
        ResultsError: a file of items is damaged.
    """
    run_dir = Path(run_dir)
    primary = None if frame is None else _primary(frame)
    tables = []
    for key, benchmark, record, _ in score_records(run_dir):
        path = record.with_suffix(".parquet")
        if not path.exists():
            continue
        table = _items_of(path)
        if primary is not None:
            metrics = pa.array(primary.get(benchmark, []), table["metric"].type)
            table = table.filter(pc.field("metric").isin(metrics))
        for name, text in (("key", key), ("benchmark", benchmark)):
            table = table.append_column(name, pa.repeat(pa.scalar(text), len(table)))
        tables.append(_in_categories(table.select(list(ITEM_COLUMNS))))
    if not tables:
        return pd.DataFrame(columns=list(ITEM_COLUMNS))
    whole = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
    return whole.to_pandas()


def _primary(frame: pd.DataFrame) -> dict[str, list[str]]:
    """Benchmark -> its primary metrics."""
    pairs = frame.loc[frame.primary.fillna(False).astype(bool), ["benchmark", "metric"]]
    metrics: dict[str, list[str]] = {}
    for benchmark, metric in pairs.drop_duplicates().itertuples(index=False):
        metrics.setdefault(benchmark, []).append(metric)
    return metrics


def _in_categories(table: pa.Table) -> pa.Table:
    """With the names that repeat in every row held once."""
    for place, name in enumerate(table.column_names):
        if name in ("key", "benchmark", "metric"):
            table = table.set_column(place, name, table[name].dictionary_encode())
    return table


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
