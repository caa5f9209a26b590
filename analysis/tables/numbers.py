"""Cells as people write them -> numbers, with what is not a number kept for the message."""

import re
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

EMPTY = ("", "na", "n/a", "null", "none", "<na>", "-", "--")
SUFFIXES = {"k": 1e3, "m": 1e6}
"""Thousands and millions: 8k is 8,000."""

NUMBER = re.compile(r"([-+]?[\d.,_]+(?:e[-+]?\d+)?)\s*(%|[km])?", re.IGNORECASE)
GROUPED = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
"""With commas between thousands; 0,001 is none, and no number either."""


class Numbers(NamedTuple):
    """Four series: `values` in float64, NaN where there is none; `words`, what stands in the cells
    that are not finite numbers and not empty, "" elsewhere; `percent` and `suffix`, which cells
    have the sign."""

    values: Any
    words: Any
    percent: Any
    suffix: Any

    @property
    def share(self) -> float:
        """Of the cells that are not empty, those that are numbers, infinities among them."""
        written = self.values.notna() | (self.words != "")
        return float(self.values.notna().sum() / max(written.sum(), 1))


def numbers(column: Any) -> Numbers:
    """A column as numbers. "69.5%" is 0.695, "1,024" is 1024, "8k" is 8000; true and false are
    words."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        values = pd.Series(column.to_numpy(dtype=float, na_value=np.nan), column.index)
        words = pd.Series(np.where(np.isinf(values), "infinite", ""), column.index)
        nothing = pd.Series(False, column.index)
        return Numbers(values, words, nothing, nothing)
    if (plain := _plain(column)) is not None:
        nothing = pd.Series(False, column.index)
        return Numbers(plain, pd.Series("", column.index, dtype="str"), nothing, nothing)
    parsed = [_number(cell) for cell in column]
    types = ("float64", "str", bool, bool)
    columns = zip(*parsed, strict=True) if parsed else [[], [], [], []]
    return Numbers(
        *(pd.Series(c, column.index, dtype=t) for c, t in zip(columns, types, strict=True))
    )


def _plain(column: Any) -> pd.Series | None:
    """A column of text that is finite numbers and empty cells only, all at once."""
    if column.dtype != "str":
        return None
    empty = (column == "").to_numpy()
    try:
        values = pd.Series(column.mask(empty, "nan").to_numpy(dtype="float64"), column.index)
    except (TypeError, ValueError):
        return None
    return values if bool((np.isfinite(values) | empty).all()) else None


def _number(cell: Any) -> tuple[float, str, bool, bool]:
    if isinstance(cell, bool | np.bool_):
        return np.nan, str(cell), False, False
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return np.nan, "", False, False
    if isinstance(cell, int | float | np.number):
        try:
            value = float(cell)
        except OverflowError:  # a whole number beyond all floats
            value = np.inf
        return value, "" if np.isfinite(value) or np.isnan(value) else "infinite", False, False
    text = str(cell).strip().replace("\N{MINUS SIGN}", "-").replace("\N{NO-BREAK SPACE}", "")
    if text.lower() in EMPTY:
        return np.nan, "", False, False
    parts = NUMBER.fullmatch(text)
    digits, sign = (parts[1], (parts[2] or "").lower()) if parts else (text, "")
    if GROUPED.fullmatch(digits):
        digits = digits.replace(",", "")
    try:
        value = float(digits)
    except ValueError:
        return np.nan, text, False, False
    if not np.isfinite(value):
        return value, text, False, False
    value = value / 100 if sign == "%" else value * SUFFIXES.get(sign, 1)
    return value, "", sign == "%", sign in SUFFIXES
