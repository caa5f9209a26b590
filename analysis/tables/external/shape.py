"""Tables in other shapes -> a row for each run: settings in one cell, or in the runs' names; batch
sizes or learning rates across the columns; scores with their error behind a ±."""

import ast
import json
import re
from collections.abc import Collection
from typing import Any

import pandas as pd

from analysis.tables.external.columns import CONFIG, SPELLINGS, plain, roles, run_names
from analysis.tables.numbers import EMPTY

RATE = r"(?:lr|learning[ _-]?rate)"
SIZE = r"(?:g?bsz?|(?:global[ _-]?)?batch(?:[ _-]?size)?)"
NUMBER = r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)"

IN_NAMES = {
    "learning_rate": re.compile(rf"(?:^|[^a-z]){RATE}[=_: -]?{NUMBER}", re.IGNORECASE),
    "batch_size": re.compile(rf"(?:^|[^a-z]){SIZE}[=_: -]?(\d+)(?![\d.])", re.IGNORECASE),
    "seed": re.compile(r"(?:^|[^a-z])seed[=_: -]?(\d+)", re.IGNORECASE),
}
"""Role -> how the name of a run says it: sft_lr1e-5_bs32_seed0."""

ACROSS = {
    "learning_rate": re.compile(rf"(?:{RATE}[=_: ]?)?{NUMBER}", re.IGNORECASE),
    "batch_size": re.compile(rf"(?:{SIZE}[=_: ]?)?(\d+)", re.IGNORECASE),
}
"""Role -> the header of a column of scores of that value: "bs=8", or 8 alone."""

COUNTED = re.compile(
    r"(?:^|(?<=[^a-z]))(?:runs?|try|trial|attempt|rep(?:eat)?|job|part|no|id|v|version)"
    r"[=_: -]?\d+|\d{4}-?\d\d-?\d\d\S*|[0-9a-f]{8,}",
    re.IGNORECASE,
)
"""What a name counts: it sets nothing."""

SETTING = re.compile(rf"([A-Za-z]+(?:_[A-Za-z]+)*)[=:_-]?{NUMBER}(?![A-Za-z0-9])")
WORD = re.compile(r"[A-Za-z]{2,}|(?<![\w.])\d+(?:\.\d+)?[kKmMbB](?![A-Za-z0-9])")
"""Or the size of a model: 135M."""

PLUS_MINUS = re.compile(r"\s*(?:±|\+/-|\+-)\s*[\d.,]+(?:e[-+]?\d+)?", re.IGNORECASE)

SCORE = "score"
"""The name of the scores of a table that has an axis across its columns."""


def rows_of_runs(
    frame: pd.DataFrame, given: Collection[str], source: str
) -> tuple[pd.DataFrame, list[str]]:
    """The table with a row for each run and a column for each setting, with notes on how it was
    read. `given` are the roles whose columns the caller names."""
    notes: list[str] = []
    frame = _opened(frame.rename(columns=str), notes)
    frame = _long(frame, notes)
    frame = _with_settings_of_names(frame, given, source, notes)
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


def _with_settings_of_names(
    frame: pd.DataFrame, given: Collection[str], source: str, notes: list[str]
) -> pd.DataFrame:
    """Learning rate, batch size and seed from the runs' names, where no column has them and each
    name does."""
    known = {*roles(frame, {}, source), *given}
    if "per_device_batch_size" in known:
        known.add("batch_size")
    if {"learning_rate", "batch_size"} <= known:
        return frame
    for column in run_names(frame):
        names: Any = frame[column].astype("str")
        read = {
            role: names.str.extract(pattern, expand=False)
            for role, pattern in IN_NAMES.items()
            if role not in known
        }
        said = {role: cells for role, cells in read.items() if cells.notna().all()}
        if {"learning_rate", "batch_size"} <= known | set(said):
            notes.append(f"{', '.join(said)} from the names in {column}")
            others = _other_settings(names)
            if others:
                notes.append(
                    f"{', '.join(others)} from the names in {column}: settings that differ"
                )
            return frame.assign(**said, **{f"config/{name}": others[name] for name in others})
    return frame


def _other_settings(names: pd.Series) -> dict[str, pd.Series]:
    """What else the names say and differ in: `wd` of sft_lr1e-5_bs32_wd0.1, `words` of adamw and
    lion. What differs in every name, or only counts (run2, try_3, dates), is no setting."""
    rest = names
    for pattern in IN_NAMES.values():
        rest = rest.str.replace(pattern, " ", regex=True)
    parts = [COUNTED.sub(" ", name) for name in rest]
    numbers = pd.DataFrame([dict(SETTING.findall(name)) for name in parts], names.index)
    words = [" ".join(WORD.findall(SETTING.sub(" ", name))) for name in parts]
    several = numbers.loc[:, numbers.notna().sum() > 1].fillna("")
    parts_of_names = several.assign(words=words)
    return {
        str(part): values
        for part, values in parts_of_names.items()
        if 1 < values.nunique() < len(values)
    }


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
