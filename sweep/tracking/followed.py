"""One trial in the trackers: its records as they grow, from the first attempt to its scores."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from analysis.tables.records.training_log import Reading, objects
from sweep.gridfile.keys.trackers import Tracking
from sweep.storage.run_folder import TrialFolder
from sweep.tracking.trackers import Ended, Sink
from trainers import files


class FollowedRun(Protocol):
    """What a trial asks of its run (`follow.Follower`)."""

    tracking: Tracking
    unanswered: str | None

    def evaluations(self, stage: str) -> list[dict[str, Any]]: ...

    def openers(self, trial: dict[str, Any], folder: str) -> dict[str, Callable[[], Sink]]: ...


class FollowedTrial:
    """The records of one trial as they grow, and its open trackers while it runs."""

    def __init__(self, run: FollowedRun, folder: Path, trial: dict[str, Any]):
        self._run = run
        self._folder = TrialFolder(folder)
        self._trial = trial
        self._sinks: dict[str, Sink] = {}
        self._errors: dict[str, str] = {}
        self._record = folder / "tracking.json"
        self._attempt = -1
        self._reading = Reading()
        self._seen: list[tuple[int, int]] = []

    def update(self, *, last: bool) -> None:
        """Log what is new. At the `last` update a trial that has not ended is closed too."""
        seen = self._stamps()
        if seen == self._seen and not (last and self._sinks):
            return
        self._update(last=last)
        self._seen = seen

    def _update(self, *, last: bool) -> None:
        events = [event["event"] for event in self._folder.attempts()]
        if not events:
            return
        over = last or events[-1] in ("done", "failed")
        mark = self._mark()
        if over and files.read_json(self._record) == {"mark": mark, "errors": {}}:
            return
        if events.count("started") != self._attempt:
            self._begin(events.count("started"))
        self._log_rows()
        if over:
            ended = Ended(self._folder, self._run.evaluations(self._trial["stage"]))
            self._each(lambda sink: sink.close(ended))
            self._sinks = {}
            files.write_json(self._record, {"mark": mark, "errors": self._errors})

    def _begin(self, attempt: int) -> None:
        """Start again from the first row under the same id: a new attempt replaces the last."""
        ended = Ended(self._folder, [])
        self._each(lambda sink: sink.close(ended))
        self._attempt, self._reading = attempt, Reading()
        self._errors, self._sinks = {}, {}
        for tracker, opened in self._run.openers(self._trial, self._folder.path.name).items():
            try:
                self._sinks[tracker] = opened()
            except Exception as error:
                self._note_error(tracker, error)
        if self._run.unanswered and "wandb" in self._sinks:
            self._errors["wandb"] = f"{self._trial['key']}: {self._run.unanswered}"

    def _each(self, act: Callable[[Sink], None]) -> None:
        for tracker, sink in list(self._sinks.items()):
            try:
                act(sink)
            except Exception as error:
                del self._sinks[tracker]
                self._note_error(tracker, error)

    def _note_error(self, tracker: str, error: Exception) -> None:
        """Errors of trackers go to tracking.json, and at the end of the run to the terminal."""
        self._errors[tracker] = f"{self._trial['key']}: {type(error).__name__}: {error}"

    def _log_rows(self) -> None:
        """New lines of metrics.jsonl; all of them where the attempt has replaced the file."""
        path = self._folder.path / "metrics.jsonl"
        if not path.is_file():
            return
        with open(path, "rb") as file:
            if not self._reading.stands(file):
                self._begin(self._attempt)
            for row in objects(self._reading.lines(file)):
                self._each(lambda sink, row=row: sink.log(row))

    def _stamps(self) -> list[tuple[int, int]]:
        names = ("attempts.jsonl", "metrics.jsonl", "train.json", "scores")
        paths = [self._folder.path / name for name in names]
        stats = [path.stat() for path in paths if path.exists()]
        return [(stat.st_mtime_ns, stat.st_size) for stat in stats]

    def _mark(self) -> str:
        """Hash of everything that the trackers receive."""
        evaluations = self._run.evaluations(self._trial["stage"])
        ended = Ended(self._folder, evaluations)
        return files.short_hash(ended.figures, ended.last, self._run.tracking.model_dump())
