"""The tables of the report as plain rows: scores, ends of the learning-rate axis, progress."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.benchmarks import ON_DATA_OF, task
from analysis.fit.cells import Cells


class End(NamedTuple):
    """The best cell at one end of the learning-rate axis against the best cell of all.

    difference is end minus best, in the metric's units; `errors` is |difference| / stderr, None
    where nothing can be compared (`note` says why).
    """

    benchmark: str
    end: str
    learning_rate: float
    batch_size: int | None
    difference: float | None
    stderr: float | None
    errors: float | None
    note: str


class Progress(NamedTuple):
    """Planned trials, and how many of them ended (ok or diverged, every score in) or failed."""

    planned: int
    done: int
    failed: int


def ends(cells: Cells) -> list[End]:
    """Both ends of the axis, each by its best batch size: the comparison kindest to the end."""
    label = task(cells.benchmark).label
    table = cells.table
    rates = sorted(table.learning_rate.unique())
    found = []
    for name, rate in (("lowest", rates[0]), ("highest", rates[-1])):
        here = np.flatnonzero((table.learning_rate == rate).to_numpy() & cells.ok)
        if cells.best is None or not len(here):
            statuses = table.status[table.learning_rate == rate].unique()
            note = "all " + " or ".join(sorted(statuses))
            found.append(End(label, name, rate, None, None, None, None, note))
            continue
        row = int(here[np.argmax(cells.sign * table.value.to_numpy()[here])])
        size = int(table.batch_size[row])
        if row == cells.best:
            found.append(End(label, name, rate, size, None, None, None, "is the best cell"))
            continue
        difference, stderr = cells.difference(row, cells.best)
        note = "paired over items" if cells.paired else "cells taken for independent"
        errors = abs(difference) / stderr if stderr > 0 else None
        known = stderr if stderr > 0 else None
        note = note if known else "no standard error known"
        found.append(End(label, name, rate, size, difference, known, errors, note))
    return found


def before_training(frame: pd.DataFrame, stage: str) -> dict[str, float]:
    """Primary score per benchmark of what a stage starts from: its one parent, else the base.

    Empty where the stage's trials start from several parents. The loss that counts is the one on
    this stage's data (`heldout_loss@sft`), not on the data that the parent was trained on: where it
    was not measured, as for pairs, there is none.
    """
    scored = frame.loc[frame.primary.fillna(False).astype(bool) & (frame.status == "ok")]
    parents = [key for key in frame.parent[frame.stage == stage].unique() if key]
    if len(parents) > 1:
        return {}
    rows = scored.loc[scored.key.isin(parents)]
    if rows.empty:
        rows = scored.loc[scored.stage == "base"]
    found = dict(zip(rows.benchmark, rows.value, strict=True))
    here = {name: value for name, value in found.items() if name.endswith(f"{ON_DATA_OF}{stage}")}
    others = {
        name: value
        for name, value in found.items()
        if ON_DATA_OF not in name and task(name).task_type != "loss"
    }
    return others | {name.partition(ON_DATA_OF)[0]: value for name, value in here.items()}


def scores(rows: pd.DataFrame) -> tuple[list[str], list[dict[str, object]]]:
    """Benchmarks, and one record per trial: its columns, and per benchmark (value, stderr, status).

    Reasons of a trial that did not end well are under "reason".
    """
    rows = rows.loc[rows.primary.fillna(False).astype(bool)]
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


def progress(run_dir: Path, frame: pd.DataFrame, wanted: dict[str, int]) -> Progress | None:
    """From plan.csv; `wanted` counts each stage's benchmarks. None without a plan."""
    path = run_dir / "plan.csv"
    if not path.exists():
        return None
    plan = pd.read_csv(path, dtype="str", keep_default_na=False)
    ended = {"ok", "diverged"}
    failed = set(frame.key[frame.status == "failed"])
    rows = frame[frame.status.isin(ended)].groupby("key").benchmark.nunique()
    done = [
        key
        for key, stage in zip(plan.key, plan.stage, strict=True)
        if key not in failed and rows.get(key, 0) >= max(wanted.get(stage, 0), 1)
    ]
    return Progress(len(plan), len(done), int(plan.key.isin(failed).sum()))


def _worst(statuses: set[str]) -> str:
    return next(status for status in ("diverged", "failed", "ok") if status in statuses)


def _none(value: object) -> object:
    return None if pd.isna(value) else value  # type: ignore[call-overload]
