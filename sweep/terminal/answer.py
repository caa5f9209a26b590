"""The answer that a run has: at its end that of its report, before that of the scores so far."""

from pathlib import Path
from typing import Any

from rich.console import Console

from analysis.report import terminal
from sweep.storage.status.reader import RunStatus, TrialStatus
from trainers.files import read_json

RECOMMENDATIONS = Path("report") / terminal.RECOMMENDATIONS


def show(console: Console, run_dir: Path) -> None:
    """Print the answer of a run folder; nothing where it has no report yet."""
    record = read_json(run_dir / RECOMMENDATIONS)
    if record is not None:
        console.print(terminal.answer(record, console.width))


def as_it_stands(run_dir: Path, run: RunStatus) -> dict[str, Any] | None:
    """The answer of all scores there are: the report's, where no trial has ended since it was
    written, else computed anew, in seconds. None before there is anything to go by."""
    ended = [trial for trial in run.trials if trial.state in ("ok", "diverged")]
    path = run_dir / RECOMMENDATIONS
    if path.exists() and not any(_is_newer(run_dir, trial, path) for trial in ended):
        return read_json(path)
    if not any(len(scores) > 1 for scores in run.scores.values()):
        return None
    from analysis.report import build

    return build.answers_so_far(run_dir)


def _is_newer(run_dir: Path, trial: TrialStatus, than: Path) -> bool:
    attempts = run_dir / "trials" / trial.folder / "attempts.jsonl"
    return attempts.exists() and attempts.stat().st_mtime > than.stat().st_mtime
