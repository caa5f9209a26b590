"""Of which axes the cells of a grid are the product: rates or ratios by batch sizes, or none."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.advice.grid_file import GridFile

FULL = 0.5
"""Share of the product that cells make up at least."""

SAME = 0.02
"""Relative difference within which a ratio is one of the grid file's: rates are rounded."""


def rate_axis(settings: pd.DataFrame, written: GridFile, from_file: bool) -> str:
    """`learning_rate` or `ratio`, or "" where cells are no product, as of a random search. The
    grid file says it, else the table's cells do."""
    if from_file:
        return "ratio" if {"ratio", "batch_size"} <= set(written.place) else "learning_rate"
    cells = settings.loc[:, ["learning_rate", "batch_size"]].drop_duplicates()
    for name, table in (("learning_rate", cells), ("ratio", in_ratios(cells, []))):
        values, sizes = table.learning_rate.nunique(), table.batch_size.nunique()
        if len(cells) >= FULL * values * sizes:
            return name
    return ""


def in_ratios(rows: pd.DataFrame, known: Sequence[float]) -> pd.DataFrame:
    """With the ratio as `learning_rate`: the nearest of those `known`, else in three digits."""
    ratios = (rows.learning_rate / rows.batch_size).to_numpy(dtype=float)
    of_file = np.array(known, dtype=float)
    shown = [float(f"{ratio:.3g}") for ratio in ratios]
    if len(of_file):
        nearest = of_file[np.abs(np.log(ratios[:, None] / of_file)).argmin(axis=1)]
        same = np.abs(nearest / ratios - 1) <= SAME
        shown = np.where(same, nearest, shown)
    return rows.assign(learning_rate=shown)
