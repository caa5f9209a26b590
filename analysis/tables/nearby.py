"""What somebody meant who gave a path that is no run folder, no table and no grid file."""

import difflib
import re
from pathlib import Path

URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.IGNORECASE)
"""Also as a `Path` writes it, with one stroke less."""

FILE = re.compile(r".*\.(csv|tsv|txt|md|jsonl?|ndjson|parquet|ya?ml|gz)", re.IGNORECASE)
"""A name that is a file's: that of a run may have a dot too (smollm2-1.7b)."""

RUNS = Path("runs")
MOST_NAMED = 5


def hint(path: Path) -> str:
    """What to give in its place, to stand behind a message; "" where nothing is near."""
    said = of_url(path) or _of_folder(path)
    return f"; {said}" if said else ""


def of_url(path: Path) -> str:
    """What to do with a URL in the place of a path; "" for a path."""
    if path.exists() or not (url := URL.fullmatch(str(path))):
        return ""
    scheme, rest = url.groups()
    if scheme == "file":
        return f"give the path alone: /{rest.lstrip('/')}"
    if scheme in ("http", "https", "hf") or FILE.fullmatch(rest):
        return "a URL is not read here: fetch the file, and give its path"
    here = RUNS / Path(rest).name
    return (
        "of a run in an object store bring the records with `python -m sweep.execution.remote_run "
        f"{scheme}://{rest} {here}`, and give {here}"
    )


def _of_folder(path: Path) -> str:
    for parent in path.absolute().parents if path.exists() else ():
        if is_run(parent):
            return f"its run folder is {parent}"
    if runs := _runs_in(path):
        return f"it holds runs: give {_listed(runs)}"
    if is_run(RUNS / path):
        return f"there is {RUNS / path}"
    if not path.exists() and (runs := _runs_in(RUNS)):
        near = difflib.get_close_matches(path.name, [run.name for run in runs], n=1)
        return f"there is {_listed([RUNS / name for name in near] or runs)}"
    return ""


def is_run(path: Path) -> bool:
    """Whether a folder is that of a run: it has a manifest and a plan."""
    return (path / "manifest.json").is_file() and (path / "plan.csv").is_file()


def _runs_in(folder: Path) -> list[Path]:
    return sorted(child for child in folder.glob("*/") if is_run(child)) if folder.is_dir() else []


def _listed(runs: list[Path]) -> str:
    names = [str(run) for run in runs[:MOST_NAMED]]
    if len(runs) > MOST_NAMED:
        names.append(f"one of {len(runs) - MOST_NAMED} more")
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
