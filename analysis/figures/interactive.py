"""The records behind the page's interactive figures, one per surface; `interactive.js` draws them.

A record holds the charts of a surface, what is said of each cell where it is pointed at, and the
cells as a table to show and to download.
"""

from typing import Any

from analysis.figures import contour, scores
from analysis.figures.chart import Chart, plain
from analysis.figures.surface_view import SurfaceView
from analysis.figures.training_curves import cell_name

COLUMNS = (
    "learning_rate", "batch_size", "value", "stderr", "n", "seeds", "status", "reason", "fit",
    "fit_sd", "probability",
)  # fmt: skip


def charts(view: SurfaceView) -> dict[str, Chart]:
    """A contour and scores against the ratio need two axes; scores against the rate always are."""
    charts = {"rate": scores.against_rate(view)}
    if view.cells.x.nunique() > 1 and view.cells.y.nunique() > 1:
        charts = {"contour": contour.contour(view)} | charts
        charts["ratio"] = scores.against_ratio(view)
    return charts


def record(
    view: SurfaceView, charts: dict[str, Chart], sentence: str, figures: str = ""
) -> dict[str, Any]:
    """`charts` by the name that a reader chooses them by; `figures` is the name of the files that
    hold the same charts, "" where there are none."""
    table = view.cells
    numeric = {
        name: table[name].astype("float64")
        for name in COLUMNS
        if name in table and name not in ("status", "reason", "batch_size", "seeds")
    }
    cells = plain(numeric)
    axes = zip(table.learning_rate, table.batch_size, strict=True)
    whole = ("batch_size", "seeds") if view.sized else ("seeds",)
    cells |= {name: [int(value) for value in table[name]] for name in whole}
    cells |= {name: table[name].astype(str).tolist() for name in ("status", "reason")}
    return {
        "benchmark": view.benchmark,
        "label": view.label,
        "metric": view.metric,
        "fitted": view.fit is not None,
        "sentence": sentence,
        "figures": figures,
        "charts": plain(charts),
        "about": view.descriptions(),
        "names": [cell_name(learning_rate, int(size)) for learning_rate, size in axes],
        "cells": {name: cells[name] for name in COLUMNS if name in cells},
    }
