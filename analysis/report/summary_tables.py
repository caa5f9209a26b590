"""The tables of the report as plain rows: every trial with its scores, progress."""

from collections import Counter
from collections.abc import Collection
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.tables.records.plan_file import never_scored, read_plan

OF_A_TRIAL = ("learning_rate", "batch_size", "seed", "steps", "stage", "model")
STATUSES = ("diverged", "failed", "ok")
"""The worst first."""

MOST_TRIALS = 2_000
"""Rows of a page's table, a megabyte with ten benchmarks."""


class Progress(NamedTuple):
    """Planned trials, and how many of them ended (ok or diverged, every score in) or failed."""

    planned: int
    done: int
    failed: int


def scores(rows: pd.DataFrame) -> tuple[list[str], list[dict[str, Any]]]:
    """Benchmarks, and one record per trial: its columns, and per benchmark (value, stderr, status).

    Reasons of a trial that did not end well are under "reason".
    """
    rows = rows.loc[rows.primary.fillna(False).astype(bool)]
    columns = (
        "key",
        *OF_A_TRIAL,
        "lr_bs_ratio",
        "benchmark",
        "value",
        "stderr",
        "status",
        "reason",
    )
    cells = {name: rows[name].astype("object").where(rows[name].notna(), None) for name in columns}
    trials: dict[str, dict[str, Any]] = {}
    for row in zip(*(column.tolist() for column in cells.values()), strict=True):
        cell = dict(zip(columns, row, strict=True))
        trial = trials.setdefault(
            cell["key"],
            {name: cell[name] for name in OF_A_TRIAL}
            | {"ratio": cell["lr_bs_ratio"], "status": "ok", "reason": "", "scores": {}},
        )
        trial["status"] = min(trial["status"], cell["status"], key=STATUSES.index)
        trial["reason"] = trial["reason"] or cell["reason"] or ""
        trial["scores"][cell["benchmark"]] = (cell["value"], cell["stderr"], cell["status"])
    return list(dict.fromkeys(rows.benchmark)), list(trials.values())


def shown(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The trials that a page lists: all, or of more than `MOST_TRIALS` those that did not end well
    and then one in so many, in their order."""
    if len(trials) <= MOST_TRIALS:
        return trials
    bad = [place for place, trial in enumerate(trials) if trial["status"] != "ok"][:MOST_TRIALS]
    rest = sorted(set(range(len(trials))) - set(bad))
    left = MOST_TRIALS - len(bad)
    some = [rest[place * len(rest) // left] for place in range(left)]
    return [trials[place] for place in sorted([*bad, *some])]


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
    empty = Counter(chain(*never_scored(run_dir).values()))
    done = [
        key
        for key, stage in zip(plan.key, plan.stage, strict=True)
        if key not in failed and rows.get(key, 0) + empty[key] >= wanted[stage]
    ]
    return Progress(len(plan), len(done), int(plan.key.isin(failed).sum()))
