"""What the page of a running sweep shows, as plain data: `analysis/figures/live.js` draws it.

A map per stage and arm: learning rates down, batch sizes across, every cell with its state, its
loss curve and, once it has ended, its scores.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.benchmarks import task
from analysis.figures.interpolate import colour_range
from analysis.text import number, rate, title
from sweep.page.curves import LossCurve
from sweep.schedule.spending import Spent
from sweep.storage.ranking import Scored
from sweep.storage.status.reader import RunStatus, TrialStatus
from sweep.terminal import words

RUNNING, FAILED = 40, 20
"""Trials that are listed one by one."""

CURVES = 400
"""Cells of a map with a curve each; of more, only those that run have one."""


def state(
    run: RunStatus, curves: Mapping[str, LossCurve], note: str, spent: Spent
) -> dict[str, Any]:
    """`curves` by key of the trial; `note` says what goes on beside the trials, "" for nothing."""
    groups = words.groups(run)
    listed = words.listed(run, RUNNING, FAILED)
    return {
        "name": run.name,
        "counts": {state: count for state, count in run.counts.items() if count},
        "total": len(run.trials),
        "lines": [
            line
            for line in (note, words.time_left(run), words.cost(run, spent), *run.notes)
            if line
        ],
        "warning": run.driver,
        "maps": [_map(*group, run, curves) for group in groups if words.has_map(group.trials)],
        "single": [words.group(*group) for group in groups if not words.has_map(group.trials)],
        "running": [_listed(trial) for trial in listed.trials],
        "rest": listed.rest,
    }


def _listed(trial: TrialStatus) -> dict[str, str]:
    texts = words.trial(trial)
    return {name: texts[name] for name in texts if name not in words.CLOCKS}


def _map(
    stage: str,
    arm: str,
    trials: Sequence[TrialStatus],
    run: RunStatus,
    curves: Mapping[str, LossCurve],
) -> dict[str, Any]:
    cells = words.cells(trials)
    scored = {
        name: of_trials for (of, name), of_trials in run.scores.items() if of == stage and of_trials
    }
    higher = {
        name: next(iter(of_trials.values())).higher_is_better for name, of_trials in scored.items()
    }
    scores = {name: _scores(cells, of_trials, higher[name]) for name, of_trials in scored.items()}
    rates = sorted({learning_rate for learning_rate, _ in cells})
    sizes = sorted({size for _, size in cells})
    drawn = [curves[trial.key] for trial in trials if trial.key in curves]
    described = []
    for (learning_rate, size), here in cells.items():
        now = words.cell_state(here)
        cell = {
            "row": rates.index(learning_rate),
            "column": sizes.index(size),
            "state": now,
            "text": words.cell_word(here),
            "about": "\n".join(words.about(trial) for trial in here[:8]),
            "scores": {name: of[learning_rate, size] for name, of in scores.items()
                       if (learning_rate, size) in of},
        }  # fmt: skip
        if len(cells) <= CURVES or now == "running":
            cell |= _curve(here, curves)
        described.append(cell)
    return {
        "id": f"{stage}/{arm}",
        "title": title(stage, arm),
        "rates": [rate(one) for one in rates],
        "sizes": sizes,
        "loss": _loss_range([curve.losses for curve in drawn if curve.losses]),
        "benchmarks": [
            {"name": name, "label": task(name).label, "better": "higher" if up else "lower"}
            for name, up in higher.items()
        ],
        "cells": described,
    }


def _scores(
    cells: Mapping[tuple[float, int], Sequence[TrialStatus]],
    scored: Mapping[str, Scored],
    higher: bool,
) -> dict[tuple[float, int], tuple[str, float]]:
    """Of each cell with a score: its text, and its shade from 0 (worst) to 1 (best). A cell with a
    seed that diverged has none, as in the report: the mean of the others would flatter it."""
    values = {key: score.value for key, score in scored.items() if score.value is not None}
    means = {
        cell: float(np.mean([values[trial.key] for trial in trials if trial.key in values]))
        for cell, trials in cells.items()
        if any(trial.key in values for trial in trials)
        and not any(trial.state == "diverged" for trial in trials)
    }
    if not means:
        return {}
    low, high = colour_range(np.array(list(means.values())), higher)
    shades = {c: float(np.clip((v - low) / (high - low), 0, 1)) for c, v in means.items()}
    return {
        cell: (number(value, 3), round(shades[cell] if higher else 1 - shades[cell], 2))
        for cell, value in means.items()
    }


def _curve(trials: Sequence[TrialStatus], curves: Mapping[str, LossCurve]) -> dict[str, Any]:
    """The loss of the trial that runs, else of the first with a curve, over its share of steps."""
    ordered = sorted(trials, key=lambda one: one.state != "running")
    for trial in ordered:
        curve = curves.get(trial.key)
        if curve is not None and len(curve.steps) > 1:
            end = max(trial.steps or 0, curve.steps[-1])
            places = [round(step / end, 4) for step in curve.steps]
            return {"curve": [places, [float(f"{loss:.4g}") for loss in curve.losses]]}
    return {}


def _loss_range(curves: Sequence[Sequence[float]]) -> list[float] | None:
    """The losses that the curves of a map share as their scale. The highest leave it, so that the
    ends can be told apart: those of the first steps, and of a trial that diverges."""
    losses = np.concatenate(curves) if curves else np.array([])
    if len(losses) < 2:
        return None
    low, high = float(losses.min()), float(np.quantile(losses, 0.8))
    return [low, max(high, low + 1e-3)]
