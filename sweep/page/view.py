"""What the page of a run shows now, and what it showed last."""

import json
import time
from pathlib import Path
from typing import Any

from analysis.report import render
from sweep.page.curves import LossCurve
from sweep.page.state import CURVES, state
from sweep.page.surfaces import Surfaces
from sweep.schedule import spending
from sweep.storage.status import time_left
from sweep.storage.status.reader import Reader, RunStatus

SIGN_SECONDS = 20.0
"""After so long the data is written though nothing has changed: the page shows that it lives."""


class View:
    """Reads a run folder again and again, and writes the text of the page's files."""

    def __init__(self, run_dir: Path):
        self._run_dir = run_dir
        self._reader: Reader | None = None
        self._read_plan: Any = None
        self._curves: dict[str, LossCurve] = {}
        self._running: set[str] = set()
        self._surfaces = Surfaces(run_dir)
        self._attempts = spending.Attempts(run_dir)
        self._versions = 0
        self._shown: Any = None
        self._text = "{}"
        self._written = 0.0
        self._drawn: dict[str, Any] = {}

    def read(self, plan: str | None) -> RunStatus:
        """The run as it stands; its plan is read anew where it has changed, as for a new wave."""
        seen = plan or (self._run_dir / "plan.csv").stat().st_mtime_ns
        if self._reader is None or seen != self._read_plan:
            self._reader, self._read_plan = Reader(self._run_dir, plan), seen
        run = self._reader.read()
        self._read_curves(run)
        return run

    def _read_curves(self, run: RunStatus) -> None:
        """Of what runs, once more when it has ended, and of what had ended before."""
        few = len(run.trials) <= CURVES
        running = {trial.key for trial in run.trials if trial.state == "running"}
        for trial in run.trials:
            if trial.state == "planned" or not (few or trial.key in running | self._running):
                continue
            if trial.key in running | self._running or trial.key not in self._curves:
                path = self._run_dir / "trials" / trial.folder / "metrics.jsonl"
                self._curves.setdefault(trial.key, LossCurve(path)).read()
        self._running = running

    def page(self, run: RunStatus, mark: str, data: str) -> str:
        """The page itself, which asks for the file `data` again and again."""
        return render.render("live", {"name": run.name, "mark": mark, "data": data})

    def contours(self, run: RunStatus) -> str | None:
        """The file of the contours where a trial has ended and they have changed, else None."""
        if not self._surfaces.fresh(run):
            return None
        records = self._surfaces.records(run)
        if records == self._drawn:
            return None
        self._drawn = records
        self._versions += 1
        return f"sweepSurfaces({render.data(records)});\n"

    def text(self, run: RunStatus, note: str, stopped: bool) -> str | None:
        """The content of live.js; None where the page shows it already and has a recent sign."""
        spent = self._spent(run)
        shown = state(run, self._curves, note, spent) | {
            "surfaces": self._versions,
            "stopped": stopped,
        }
        now = time.time()
        lasting = {name: part for name, part in shown.items() if name != "lines"}  # clocks tick
        if lasting == self._shown and now - self._written < SIGN_SECONDS:
            return None
        self._shown, self._written = lasting, now
        self._text = json.dumps(render.finite(shown), separators=(",", ":"), allow_nan=False)
        return self.sign()

    def sign(self) -> str:
        """The content of live.js as it was last, written now: a sign that the run goes on."""
        return f"sweepState({{...{self._text},written:{int(time.time() * 1000)}}});\n"

    def _spent(self, run: RunStatus) -> spending.Spent:
        """Trials of the plan are read already."""
        planned = time_left.spent(run.trials)
        others = self._attempts.seconds(but={trial.folder for trial in run.trials})
        sums = map(sum, zip(planned, others, strict=True))
        return spending.at_price_of(self._run_dir, *sums)

    def at_rest(self, run: RunStatus) -> RunStatus:
        """The run when its driver leaves it: what runs now is planned again."""
        trials = [t._replace(state="planned") if t.state == "running" else t for t in run.trials]
        return run._replace(trials=trials, left=None)

    def ended(self, run: RunStatus) -> int:
        """Trials that have a result."""
        return sum(trial.state in ("ok", "diverged") for trial in run.trials)
