"""The scores of all trials of a run, as their files have them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from analysis.tables.records.run_folder import load, scored_stages, shaped, trials, wanted
from analysis.tables.records.score_record import recorded_as


class ScoreRecord(NamedTuple):
    """What one trial scored on a benchmark, as the table names it: its record, and where it is."""

    key: str
    benchmark: str
    path: Path
    record: dict[str, Any]


def score_records(run_dir: Path) -> Iterator[ScoreRecord]:
    """Those of all trials and wanted evaluations that have one.

    Raises:
        ResultsError: a record holds what was never written there.
    """
    stages = scored_stages(run_dir)
    for folder, trial in trials(run_dir):
        for evaluation in wanted(stages, trial["stage"]):
            path = folder / "scores" / f"{evaluation['fingerprint']}.json"
            if path.exists():
                with shaped(path):
                    record = load(path)
                    name = recorded_as(record, evaluation)
                yield ScoreRecord(trial["key"], name, path, record)
