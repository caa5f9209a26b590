"""A file of rows -> a data frame, cell by cell as written.

Delimited text (comma, semicolon, tab, bar or spaces; also with decimal commas, a byte order mark or
as a Markdown table), JSON, JSON lines and parquet, each also as .gz.
"""

import gzip
import io
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from analysis.tables.errors import ResultsError
from analysis.tables.external.names.columns import spelled
from analysis.tables.external.names.directions import higher_is_better
from analysis.tables.external.run_names import IN_NAMES
from analysis.tables.nearby import hint

SEPARATORS = (",", ";", "\t", "|")

EUROPEAN = re.compile(r"[-+]?(\d{1,3}(\.\d{3})+|\d+),\d+([eE][-+]?\d+)?\s*%?")
"""A number with a decimal comma, and perhaps dots between thousands."""

DOTTED = re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3})+")
"""Points of thousands in a column where commas are decimal."""

POINTED = re.compile(r"[-+]?[\d,]*\.\d*([eE][-+]?\d+)?\s*%?")
"""A number with a decimal point, unless it is `DOTTED`."""

THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+")
"""A number that a decimal comma or commas between thousands would explain: 1,024."""


def read_file(path: Path) -> pd.DataFrame:
    """The rows of a file; the cells of text files are strings, empty where nothing is written.

    Raises:
        ResultsError: no such file, a form that is not read, or a damaged file; names the line.
    """
    if not path.exists():
        raise ResultsError(f"{path}: no such file or folder{hint(path)}")
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix.lower() not in READERS:
        raise ResultsError(
            f"{path}: '{suffix}' is not read; give a run folder or a table that ends in "
            f"{', '.join(READERS)} (save a spreadsheet as .csv)"
        )
    return READERS[suffix.lower()](path)


def _parquet(path: Path) -> pd.DataFrame:
    """With the levels of a pandas index as columns, first as in its CSV, and rows from 0 on."""
    try:
        frame = pd.read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise ResultsError(f"{path}: not a readable parquet file; write it again") from error
    levels = {
        str(name): frame.index.get_level_values(place)
        for place, name in enumerate(frame.index.names)
        if name is not None and name not in frame
    }
    whole: Any = frame.reset_index(drop=True).assign(**levels)
    return whole[[*levels, *frame]]


def _text(path: Path) -> str:
    """The text of a file in UTF-8, UTF-16 (Excel's "Unicode text") or Windows-1252."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise ResultsError(f"{path}: not a whole gzip file; compress it again") from error
    text = _decoded(content, path)
    if not text.strip():
        raise ResultsError(f"{path}: the file is empty")
    return text


def _decoded(content: bytes, path: Path) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    if b"\0" in content:
        raise ResultsError(f"{path}: not a text file; save the table as .csv or .parquet")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def _delimited(path: Path) -> pd.DataFrame:
    text = _text(path)
    lines = [line for line in text.splitlines() if line.strip()]
    if lines[0].startswith("|"):  # a Markdown table, as lm-eval prints it
        rows = [line for line in lines if not re.fullmatch(r"[\s|:-]+", line)]
        text = "\n".join(line.strip().strip("|") for line in rows)
    separator = None
    if marked := re.fullmatch(r"sep=(.)", lines[0].strip()):  # Excel's own first line
        separator = marked[1]
        text = text.split("\n", 1)[1]
    separator = separator or _separator(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                io.StringIO(text),
                sep=separator,
                dtype=str,
                keep_default_na=False,
                index_col=False,
                skipinitialspace=True,
            )
    except pd.errors.EmptyDataError as error:
        raise ResultsError(f"{path}: it has no columns; the first line names them") from error
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        line = re.search(r"line (\d+)", str(error))
        where = f"line {line[1]}" if line else "a row"
        raise ResultsError(
            f"{path}: {where} has more cells than the header (separator {separator!r}); put cells "
            "that hold the separator in quotes"
        ) from error
    frame = frame.fillna("").rename(columns=lambda name: str(name).strip())
    for name in frame:
        frame[name] = frame[name].str.strip()
    return _decimal_points(frame, separator)


def _separator(text: str) -> str:
    """The separator that the header and the row below it hold most often outside quotes, or the
    header alone (bars may stand in its names); runs of spaces where none."""
    header, first = (
        re.sub(r'"[^"]*"', "", line) for line in (text.lstrip() + "\n").split("\n")[:2]
    )
    separator = max(SEPARATORS, key=lambda mark: (min(header.count(mark), first.count(mark)),
                                                  header.count(mark)))  # fmt: skip
    if header.count(separator):
        return separator
    return r"\s+" if len(header.split()) > 1 else ","


def _decimal_points(frame: pd.DataFrame, separator: str) -> pd.DataFrame:
    """Numbers with a decimal comma rewritten with a point.

    A column has to show that its commas are no thousands. So do commas in scores alone where none
    separates cells and no number has a decimal point: 2,052 is a loss of 2.052.
    Points are those of thousands where no cell of the column has one elsewhere: 0.001 is no 1.
    """
    with_comma = [name for name in frame if frame[name].str.contains(",", regex=False).any()]
    in_scores = all(_is_score(frame, name) for name in with_comma) and not _pointed(frame)
    european = {name: frame[name].str.fullmatch(EUROPEAN) for name in with_comma}
    clear = [
        name
        for name, cells in european.items()
        if (cells & ~frame[name].str.fullmatch(THOUSANDS)).any() or (separator != "," and in_scores)
    ]
    for name in frame if clear and separator != "," else clear:
        pointed = frame[name].str.contains(".", regex=False)
        dotted = frame[name].str.fullmatch(DOTTED)
        dotted &= not (pointed & ~dotted & ~european.get(name, pointed & False)).any()
        plain = frame[name].str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
        frame[name] = frame[name].where(~(european.get(name, False) | dotted), plain)
    return frame


def _is_score(frame: pd.DataFrame, name: str) -> bool:
    """Whether the name says so, and no cell has more than one comma."""
    named = name.lower() in ("value", "score") or higher_is_better(name) is not None
    return named and bool((frame[name].str.count(",") < 2).all())


def _pointed(frame: pd.DataFrame) -> bool:
    """Whether a number has a decimal point."""
    return any(
        (frame[name].str.fullmatch(POINTED) & ~frame[name].str.fullmatch(DOTTED)).any()
        for name in frame
    )


def _json(path: Path) -> pd.DataFrame:
    """Also where a file of JSON lines is called .json."""
    text = _text(path)
    try:
        content = json.loads(text)
    except ValueError as error:
        if text.lstrip()[0] != "{" or "\n" not in text.strip():
            raise ResultsError(f"{path}: not JSON ({_place(error)})") from error
        content = _lines(text, path)
    return _records(content, path)


def _json_lines(path: Path) -> pd.DataFrame:
    return _records(_lines(_text(path), path), path)


def _lines(text: str, path: Path) -> list[Any]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            if line.strip():
                rows.append(json.loads(line))
        except ValueError as error:
            raise ResultsError(f"{path}: line {number} is not JSON: {line.strip()[:40]}") from error
    return rows


def _place(error: ValueError) -> str:
    return f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "no JSON text"


def _records(content: Any, path: Path) -> pd.DataFrame:
    """A list of objects, {"columns": ..., "data": ...}, an object of columns, an object of runs, or
    an object that holds one such list; nested objects become columns a/b."""
    if isinstance(content, dict):
        if isinstance(content.get("columns"), list) and isinstance(content.get("data"), list):
            return pd.DataFrame(content["data"], columns=content["columns"])
        _refuse_one_run(content, path)
        nested = [value for value in content.values() if _is_records(value)]
        if len(nested) == 1:
            content = nested[0]
        elif (runs := _by_run(content)) is not None:
            content = runs
        elif content and all(isinstance(value, list | dict) for value in content.values()):
            return pd.DataFrame({k: _cells(v) for k, v in content.items()}).reset_index(drop=True)
    if not _is_records(content):
        raise ResultsError(
            f"{path}: not a list of rows; a JSON table is a list of objects, one a row: "
            '[{"learning_rate": 1e-5, "batch_size": 8, "eval_loss": 2.1}, ...]'
        )
    frame = pd.json_normalize(content, sep="/")
    for name in frame:
        if frame[name].dtype == object:
            frame[name] = frame[name].map(_text_of_lists)
    return frame


def _by_run(content: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The rows of {"run-1": {"lr": 1e-5, ...}}: objects of which most hold a learning rate, or all
    names say it; None for other objects, those of columns among them."""
    if not content or not all(isinstance(value, dict) for value in content.values()):
        return None
    rows = [{"run_name": name} | values for name, values in content.items()]
    within = pd.json_normalize(rows, sep="/")
    if spelled(pd.DataFrame([dict.fromkeys(content, 1)]), {})["learning_rate"]:
        return None
    held = [within[name].notna().mean() > 0.5 for name in spelled(within, {})["learning_rate"]]
    named = [IN_NAMES["learning_rate"][1].search(name) for name in content]
    return rows if any(held) or all(named) else None


def _refuse_one_run(content: dict[str, Any], path: Path) -> None:
    """What tools write of a single run is no table, and its history has no learning rates to
    compare.

    Raises:
        ResultsError: the file is such a one.
    """
    results = content.get("results")
    kind = "the history of one training" if isinstance(content.get("log_history"), list) else ""
    if isinstance(results, dict) and {"config", "configs", "versions"} & content.keys():
        kind = "lm-eval's scores of one model"
    if kind:
        raise ResultsError(
            f"{path}: {kind}; give the folder that holds the folders of all runs, whose names or "
            "settings say the learning rate and the batch size (sft_lr1e-5_bs16)"
        )


def _text_of_lists(cell: Any) -> Any:
    return json.dumps(cell) if isinstance(cell, list | dict) else cell


def _is_records(content: Any) -> bool:
    return isinstance(content, list) and content != [] and all(isinstance(r, dict) for r in content)


def _cells(column: list[Any] | dict[str, Any]) -> pd.Series:
    return pd.Series(list(column.values()) if isinstance(column, dict) else column)


READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".md"), _delimited),
    ".json": _json,
    **dict.fromkeys((".jsonl", ".ndjson"), _json_lines),
    ".parquet": _parquet,
}
"""How a file is read, by its suffix."""
