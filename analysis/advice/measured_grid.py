"""One grid as it stands: its cells, its axes, and where its grid file has them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis.advice import grid_file
from analysis.advice.grid_file import GridFile
from analysis.advice.product_axes import in_ratios, rate_axis
from analysis.fit.surface import Fit
from analysis.posterior.cells import Cells


class MeasuredGrid(NamedTuple):
    """`axis` is that of the rates: `learning_rate`, `ratio` (whose values then stand as learning
    rates in `cells`, `rows` and `rates`), or "" where cells are no product of axes. `seeds` are
    those of all cells, with which a new one is run, beside `seeds_of_some`."""

    cells: list[Cells]
    rows: pd.DataFrame
    written: GridFile
    axis: str
    rates: list[float]
    sizes: list[int]
    seeds: list[int]
    seeds_of_some: list[int]


def measured_grid(fits: Sequence[Fit], rows: pd.DataFrame, file: Path | None) -> MeasuredGrid:
    """`rows` are all results of the grid, `file` is the run's grid.yaml.

    Raises:
        ResultsError: the file is not a grid.
    """
    cells = [fit.cells for fit in fits]
    rows = _numbered(rows.loc[rows.learning_rate.notna()])
    written = grid_file.read(cells[0].stage, cells[0].arm, file)
    axis = rate_axis(rows, written, file is not None)
    if axis == "ratio":
        known = written.values(axis)
        cells = [replace(one, table=in_ratios(one.table, known)) for one in cells]
        rows = in_ratios(rows, known)
    rates = sorted({float(r) for grid_cells in cells for r in grid_cells.table.learning_rate})
    sizes = sorted({int(size) for grid_cells in cells for size in grid_cells.table.batch_size})
    return MeasuredGrid(cells, rows, written, axis, rates, sizes, *_seeds(rows))


def _seeds(rows: pd.DataFrame) -> tuple[list[int], list[int]]:
    """Those of all cells, with which a new one is run, and those of some."""
    cells = rows.groupby(["learning_rate", "batch_size"], dropna=False).seed
    each = [{int(seed) for seed in seeds.dropna()} for _, seeds in cells]
    of_all = set.intersection(*each)
    return sorted(of_all), sorted(set.union(*each) - of_all)


def _numbered(rows: pd.DataFrame) -> pd.DataFrame:
    """With the seeds 0, 1, ... in each cell, where the table names none or none is of all cells."""
    if _seeds(rows)[0]:
        return rows
    trials = rows.drop_duplicates("key")
    seeds = trials.groupby(["learning_rate", "batch_size"], dropna=False).cumcount()
    return rows.assign(seed=rows.key.map(dict(zip(trials.key, seeds, strict=True))))
