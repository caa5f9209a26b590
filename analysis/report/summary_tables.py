"""The tables of the report as plain rows: every trial with its scores, progress."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.tables.plan_file import read_plan


class Progress(NamedTuple):
    """Planned trials, and how many of them ended (ok or diverged, every score in) or failed."""

    planned: int
    done: int
    failed: int


def scores(rows: pd.DataFrame) -> tuple[list[str], list[dict[str, object]]]:
    """Benchmarks, and a record per trial of the grid: its columns, and per benchmark value, stderr
    and status. Reasons of a trial that did not end well are under "reason".
    """
    rows = rows.loc[rows.primary.fillna(False).astype(bool) & rows.learning_rate.notna()]
    benchmarks = list(dict.fromkeys(rows.benchmark))
    by_key: dict[str, list[dict[str, Any]]] = {}
    for row in rows.to_dict("records"):  # ten thousand groups of pandas take a minute
        by_key.setdefault(row["key"], []).append(row)
    records = []
    for trial in by_key.values():
        first = trial[0]
        records.append(
            {name: _none(first[name]) for name in ("learning_rate", "batch_size", "seed", "steps")}
            | {
                "ratio": _none(first["lr_bs_ratio"]),
                "status": _worst({row["status"] for row in trial}),
                "reason": next((row["reason"] for row in trial if row["reason"]), ""),
                "stage": first["stage"],
                "model": first["model"],
                "scores": {
                    row["benchmark"]: (_none(row["value"]), _none(row["stderr"]), row["status"])
                    for row in trial
                },
            }
        )
    return benchmarks, records


def progress(
    run_dir: Path, frame: pd.DataFrame, wanted: dict[str, int], left_out: Collection[str] = ()
) -> Progress | None:
    """From plan.csv; `wanted` counts each stage's benchmarks. Stages of which no benchmark is
    wanted, and those that are `left_out` of the `frame`, do not count. None without a plan.

    Raises:
        ResultsError: it is no plan.
    """
    plan = read_plan(run_dir)
    if plan is None:
        return None
    plan = plan.loc[[bool(wanted.get(one)) and one not in left_out for one in plan.stage]]
    ended = {"ok", "diverged"}
    failed = set(frame.key[frame.status == "failed"])
    rows = frame[frame.status.isin(ended)].groupby("key").benchmark.nunique()
    done = [
        key
        for key, stage in zip(plan.key, plan.stage, strict=True)
        if key not in failed and rows.get(key, 0) >= wanted[stage]
    ]
    return Progress(len(plan), len(done), int(plan.key.isin(failed).sum()))


def _worst(statuses: set[str]) -> str:
    return next(status for status in ("diverged", "failed", "ok") if status in statuses)


def _none(value: object) -> object:
    return None if pd.isna(value) else value  # type: ignore[call-overload]
