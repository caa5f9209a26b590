"""Rows and columns of any table by the names on the command line: `--where` and `--by`."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.tables.errors import ResultsError
from analysis.tables.external.names.columns import plain
from analysis.tables.numbers import numbers


def resolve(frame: pd.DataFrame, names: Iterable[str], option: str, source: str) -> list[str]:
    """The columns of the table that an option names, several of them separated by commas.

    Raises:
        ResultsError: there is no such column.
    """
    named: list[str] = []
    spelled = {plain(column): str(column) for column in reversed(list(frame.columns))}
    for given in names:
        for name in [given] if given in frame else given.split(","):
            column = name.strip() if name.strip() in frame else spelled.get(plain(name))
            if column is None:
                raise ResultsError(
                    f"{source}: {option} {given}: no column {name}; the table has: "
                    f"{', '.join(map(str, frame.columns))}"
                )
            named.append(column)
    return named


def selected(frame: pd.DataFrame, where: Mapping[str, str], source: str) -> pd.DataFrame:
    """The rows whose columns have the given values, compared as numbers where both are.

    Raises:
        ResultsError: no such column, or no row has the value.
    """
    for name, value in where.items():
        option = f"--where {name}={value}"
        column = frame[resolve(frame, [name], "--where", source)[0]]
        cells = numbers(column).values
        number = numbers(pd.Series([value])).values.iloc[0]
        same: Any = column.astype("str") == value
        if np.isfinite(number):
            same |= np.isclose(cells.to_numpy(), number, rtol=1e-9, atol=0)
        if not same.any():
            values = ", ".join(map(str, column.drop_duplicates().head(20)))
            raise ResultsError(f"{source}: {option}: no such row; {name}: {values}")
        frame = frame.loc[same]
    return frame


def arms(raw: pd.DataFrame, start: pd.Series, by: list[str]) -> pd.Series:
    """The arm of each row, with the row's values of the columns `by`."""
    for column in by:
        values = raw[column].astype("str").replace(["", "nan", "<NA>", "None"], "none")
        start = (start + ", " + f"{plain(column)}=" + values).str.removeprefix(", ")
    return start
