"""The contours of a running sweep, drawn from the cells that have their scores so far.

No fit stands behind them: that takes seconds of a core, and the report at the end has it.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.figures import interactive, surface_view
from analysis.figures.surface_view import SurfaceView
from analysis.tables.records import run_folder
from analysis.tables.schema import COLUMNS
from analysis.text import counted, number, rate
from sweep.storage.status.reader import RunStatus

FEWEST = 4
"""Scored cells that a contour needs: fewer span hardly any area."""


class Surfaces:
    """Reads the scores of each trial once, when it has ended."""

    def __init__(self, run_dir: Path):
        self._run_dir = run_dir
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def fresh(self, run: RunStatus) -> bool:
        """Whether a trial has ended since the last look."""
        return any(t.state in ("ok", "diverged") and t.key not in self._rows for t in run.trials)

    def records(self, run: RunStatus) -> dict[str, list[dict[str, Any]]]:
        """Of each map of the page (stage/arm) a record per benchmark with enough cells."""
        self._read(run)
        arms: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for trial in run.trials:
            arms[trial.stage, trial.arm] += self._rows.get(trial.key, [])
        records = {}
        for (stage, arm), rows in arms.items():
            frame = pd.DataFrame(rows, columns=list(COLUMNS))
            frame = frame.loc[frame.primary.fillna(False).astype(bool)]
            views = [view for view in surface_view.measured(frame) if _is_enough(view)]
            if views:
                records[f"{stage}/{arm}"] = [_record(view) for view in views]
        return records

    def _read(self, run: RunStatus) -> None:
        stages = run_folder.manifest(self._run_dir).get("stages", {})
        ended = {t.key: t for t in run.trials if t.state in ("ok", "diverged")}
        for key, trial in ended.items():
            if key not in self._rows:
                folder = self._run_dir / "trials" / trial.folder
                identity = run_folder.load(folder / "trial.json") | {"arm": trial.arm}
                wanted = run_folder.wanted(stages, trial.stage)
                self._rows[key] = run_folder.trial_rows(folder, identity, wanted)


def _is_enough(view: SurfaceView) -> bool:
    ok = view.cells.loc[view.cells.status == "ok"]
    return len(ok) >= FEWEST and ok.x.nunique() > 1 and ok.y.nunique() > 1


def _record(view: SurfaceView) -> dict[str, Any]:
    return interactive.record(view, interactive.charts(view), _sentence(view))


def _sentence(view: SurfaceView) -> str:
    best, scored = view.best, len(view.rows("ok"))
    assert best is not None
    cell = view.cells.iloc[best]
    return (
        f"{view.label}, best of {counted(scored, 'scored cell')} so far: learning rate "
        f"{rate(cell.learning_rate)} with batch size {cell.batch_size} "
        f"({number(cell.value, 3)}). The report at the end says how sure that is."
    )
