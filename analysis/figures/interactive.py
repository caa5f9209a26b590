"""The plain data behind the page's interactive figures; explorer.js draws it with plotly.

One record per surface: those that were fitted with all that `plots` shows, every other metric with
its cells and their fill alone. Lengths and units as in `plots`; numbers have five digits.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.benchmarks import task
from analysis.figures.data import Axis, ContourInfo, RatioInfo, axis_of, ratio_lines
from analysis.figures.interpolate import colour_range, interpolated
from analysis.figures.scaling_rules import Line, Point
from analysis.fit.surface import Fit
from analysis.text import rate

SPARSE = 2
"""Every second point of the figure's mesh is enough on a screen."""

COARSE = 31
CELL_COLUMNS = ("x", "y", "learning_rate", "batch_size", "value", "stderr", "n", "seeds")
FIT_COLUMNS = ("fit", "fit_sd", "probability", "residual")
TEXT_COLUMNS = ("status", "reason")


def fitted(
    fit: Fit, contour: ContourInfo, ratio: RatioInfo, sentence: str, figures: str
) -> dict[str, Any]:
    """A surface with its fit; `figures` is the name of its files, "" where none were written."""
    cells = fit.cells
    table = contour.cells.assign(residual=ratio.points.residual)
    sparse = None if contour.mesh is None else contour.mesh[::SPARSE, ::SPARSE]
    interval = contour.log2_ratio_interval
    return _common(cells.benchmark, cells.metric, cells.higher_is_better, table) | {
        "sentence": sentence,
        "figures": figures,
        "mesh": _mesh(contour.mesh_x[::SPARSE], contour.mesh_y[::SPARSE], sparse),
        "range": [_plain(contour.vmin), _plain(contour.vmax)],
        "best": contour.best,
        "optimum": None if contour.optimum is None else _numbers(contour.optimum),
        "interval": None if interval is None else _numbers(interval),
        "region": [{"x": _numbers(one[:, 0]), "y": _numbers(one[:, 1])} for one in contour.region],
        "path": _path(contour.path),
        "points": [_point(point) for point in contour.points],
        "lines": [_line(line) for line in contour.lines],
        "curve": None
        if ratio.curve is None
        else {
            "x": _numbers(ratio.curve.log2_ratio),
            "y": _numbers(ratio.curve.score),
            "r2": _plain(ratio.r2),
        },
        "chance": ratio.chance,
        "before": _plain(ratio.before),
        "xAxis": _axis(contour.x_axis),
        "yAxis": _axis(contour.y_axis),
        "ratioTicks": _ratio_ticks(ratio.points.log2_ratio.to_numpy()),
        "ratioLines": _ratio_ticks(contour.log2_ratios),
    }


def measured(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The surfaces of one grid's metrics that are not primary: cells and fill, no fit."""
    scored = rows.loc[~rows.primary.fillna(False).astype(bool)]
    scored = scored.loc[scored.learning_rate.notna() & scored.batch_size.notna()]
    for (benchmark, metric), part in scored.groupby(["benchmark", "metric"], sort=False):
        table = _cell_means(part)
        if len(table) < 2:
            continue
        higher = part.higher_is_better.dropna()
        better = bool(higher.iloc[0]) if len(higher) else True
        x, y = table.x.to_numpy(), table.y.to_numpy()
        mesh_x, mesh_y = (np.linspace(axis.min(), axis.max(), COARSE) for axis in (x, y))
        ok = table.value[table.status == "ok"].to_numpy()
        best = None
        if len(ok):
            best = int(table.value.argmax() if better else table.value.argmin())
        yield _common(str(benchmark), str(metric), better, table) | {
            "sentence": "Cells only: this metric was not fitted (--all-metrics fits every one).",
            "figures": "",
            "mesh": _mesh(mesh_x, mesh_y, interpolated(table, mesh_x, mesh_y)),
            "range": list(_numbers(colour_range(ok, better))),
            "best": best,
            "xAxis": _axis(axis_of(table.x, table.learning_rate, "learning rate")),
            "yAxis": _axis(axis_of(table.y, table.batch_size, "batch size (examples per step)")),
            "ratioTicks": _ratio_ticks(x - y),
            "ratioLines": _ratio_ticks(ratio_lines(x, y)),
        }


def _cell_means(rows: pd.DataFrame) -> pd.DataFrame:
    """As `Cells.table`, without what only a fit needs."""
    good = rows.status == "ok"
    kept = rows.assign(
        value=rows.value.where(good),
        stderr=rows.stderr.where(good),
        seeds=good.astype(int),
        diverged=(rows.status == "diverged").astype(int),
    )
    table = (
        kept.groupby(["learning_rate", "batch_size"], sort=True)
        .agg(
            value=("value", "mean"),
            stderr=("stderr", "mean"),
            n=("n", "max"),
            seeds=("seeds", "sum"),
            diverged=("diverged", "sum"),
            reason=("reason", "max"),
        )
        .reset_index()
    )
    status = np.where(table.diverged > 0, "diverged", np.where(table.seeds > 0, "ok", "failed"))
    table["value"] = table.value.where(status == "ok")
    table["x"] = np.log2(table.learning_rate)
    table["y"] = np.log2(table.batch_size.astype(float))
    return table.assign(status=status)


def _common(
    benchmark: str, metric: str, higher_is_better: bool, table: pd.DataFrame
) -> dict[str, Any]:
    names = [name for name in (*CELL_COLUMNS, *FIT_COLUMNS) if name in table]
    cells: dict[str, Any] = {name: _numbers(table[name]) for name in names}
    cells |= {name: table[name].astype(str).tolist() for name in TEXT_COLUMNS}
    return {
        "benchmark": benchmark,
        "label": task(benchmark).label,
        "metric": metric,
        "better": "higher" if higher_is_better else "lower",
        "cells": cells,
    }


def _mesh(x: np.ndarray, y: np.ndarray, mesh: np.ndarray | None) -> dict[str, Any] | None:
    if mesh is None:
        return None
    return {"x": _numbers(x), "y": _numbers(y), "z": [_numbers(row) for row in mesh]}


def _path(table: pd.DataFrame | None) -> dict[str, Any] | None:
    if table is None:
        return None
    return {name: _numbers(table[name]) for name in ("batch_size", "y", "x", "low", "high")}


def _point(point: Point) -> dict[str, Any]:
    return point._asdict() | {"x": _plain(point.x), "y": _plain(point.y)}


def _line(line: Line) -> dict[str, Any]:
    return line._asdict() | {"x": _numbers(line.x), "y": _numbers(line.y)}


def _axis(axis: Axis) -> dict[str, Any]:
    return axis._asdict() | {"places": _numbers(axis.places), "limits": _numbers(axis.limits)}


def _ratio_ticks(ratios: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Whole powers of two, as places and labels."""
    lines = ratios if isinstance(ratios, tuple) else ratio_lines(np.asarray(ratios), np.zeros(1))
    return {"places": list(lines), "labels": [rate(2**line) for line in lines]}


def _numbers(values: Any) -> list[float | None]:
    array = np.asarray(pd.array(values, dtype="Float64").to_numpy(float, na_value=np.nan))
    return [_plain(value) for value in array]


def _plain(value: float | None) -> float | None:
    """Five digits; None where there is none."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.5g}")
