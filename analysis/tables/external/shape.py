"""Tables in other shapes -> a row for each run: settings in one cell, or in the runs' names
(`run_names`); batch sizes or learning rates across the columns; scores with an error behind a ±."""

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.tables.external.names.columns import CONFIG, SPELLINGS, plain
from analysis.tables.external.run_names import NUMBER, RATE, SIZE, with_settings_of_names
from analysis.tables.numbers import EMPTY

ACROSS = {
    "learning_rate": re.compile(rf"(?:{RATE}[=_: ]?)?{NUMBER}", re.IGNORECASE),
    "batch_size": re.compile(rf"(?:{SIZE}[=_: ]?)?(\d+)", re.IGNORECASE),
}
"""Role -> the header of a column of scores of that value: "bs=8", or 8 alone."""

PLUS_MINUS = re.compile(r"\s*(?:±|\+/-|\+-)\s*[\d.,]+(?:e[-+]?\d+)?", re.IGNORECASE)

SCORE = "score"
"""The name of the scores of a table that has an axis across its columns."""


def rows_of_runs(
    frame: pd.DataFrame, given: Mapping[str, str], source: str
) -> tuple[pd.DataFrame, list[str]]:
    """The table with a row for each run and a column for each setting, with notes on how it was
    read. `given` maps roles to the columns that the caller names."""
    notes: list[str] = []
    frame = _opened(frame.rename(columns=str), notes)
    frame = _long(frame, notes)
    frame = with_settings_of_names(frame, given, source, notes)
    return _without_errors(frame, notes), notes


def _opened(frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Columns whose cells are objects, in JSON or as Python prints them (the `config` and `summary`
    of a loop over W&B's API), as a column for each entry."""
    for name in list(frame):
        first = next((cell for cell in frame[name] if not _empty(cell)), "")
        if _object(first) is None:
            continue
        filled = [not _empty(cell) for cell in frame[name]]
        objects = [_object(cell) for cell in frame.loc[filled, name]]
        if None in objects:
            continue
        entries = pd.json_normalize([_values(cells or {}) for cells in objects], sep="/")
        entries.index = frame.index[filled]
        if plain(name) in CONFIG:
            entries = entries.add_prefix(f"{name}/")
        clash = {entry: f"{name}/{entry}" for entry in entries if entry in frame}
        entries = entries.rename(columns=clash)
        frame = frame.drop(columns=name).join(entries)
        notes.append(f"{name}: read as {len(entries.columns)} columns")
    return frame


def _empty(cell: Any) -> bool:
    return cell is None or cell != cell or str(cell).strip().lower() in EMPTY


def _object(cell: Any) -> dict[str, Any] | None:
    text = str(cell).strip()
    if not (text.startswith("{") and text.endswith("}")):
        return None
    for read in (json.loads, _literal):
        try:
            value = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return value if isinstance(value, dict) else None
    return None


def _literal(text: str) -> Any:
    """As `repr` writes it, with its nan and inf."""
    words = {"nan": "None", "inf": "1e999", "-inf": "-1e999"}
    return ast.literal_eval(re.sub(r"(?<=[:,\[] )(-?inf|nan)\b", lambda m: words[m[1]], text))


def _values(cells: dict[str, Any]) -> dict[str, Any]:
    """W&B's own files have {"lr": {"desc": null, "value": 1e-5}}."""
    return {
        str(key): cell["value"] if isinstance(cell, dict) and "value" in cell else cell
        for key, cell in cells.items()
    }


def _long(frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """A table that has one axis down and the other across, with a row for each cell."""
    first, *others = frame.columns
    down = next((role for role in ACROSS if _starts(first, role)), None)
    if down is None or len(others) < 2:
        return frame
    across = "batch_size" if down == "learning_rate" else "learning_rate"
    parsed = [ACROSS[across].fullmatch(name.strip()) for name in others]
    values = [float(match[1]) for match in parsed if match]
    if len(values) < len(others) or _are_seeds(others):
        return frame
    notes.append(f"{across} across the columns: {', '.join(others)}")
    named = frame.rename(columns={first: down, **dict(zip(others, map(str, values), strict=True))})
    cells: Any = named.melt(id_vars=down, var_name=across, value_name=SCORE)
    return cells[~cells[SCORE].map(_empty)].reset_index(drop=True)


def _are_seeds(headers: list[str]) -> bool:
    """0, 1, 2: numbers that count are no axis."""
    numbers = sorted(int(header) for header in headers if header.strip().isdigit())
    return numbers == list(range(numbers[0], numbers[0] + len(headers))) if numbers else False


def _starts(header: str, role: str) -> bool:
    """Whether a header names this axis, alone or before the other: "lr", "lr \\ bs"."""
    word = re.split(r"\s*[\\/|]\s*", header.strip())[0]
    return plain(word) in (role, *SPELLINGS[role])


def _without_errors(frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """ "45.1 ± 0.4" is 45.1: nothing says what kind of error the second number is."""
    for name in frame:
        if frame[name].dtype.kind in "biufcM":
            continue
        texts = frame[name].map(lambda cell: cell if isinstance(cell, str) else "")
        if texts.str.contains(PLUS_MINUS).any():
            frame = frame.assign(
                **{
                    name: frame[name].where(
                        texts == "", texts.str.replace(PLUS_MINUS, "", regex=True)
                    )
                }
            )
            notes.append(
                f"{name}: what stands behind ± is left out, since it may be a standard error, a "
                f"deviation or an interval; a column {name}_stderr is used"
            )
    return frame
