"""What events.jsonl of a run folder says of its choices: how many cells were chosen, why no further
one is, and what the screening runs say."""

from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from analysis.tables.records.plan_file import read_plan
from analysis.tables.records.run_folder import json_lines

StoppedBy = Literal["answered", "budget", "no_cell"]
"""Every question is decided; the budget of trials is spent; no cell is left that would train."""


class Stop(NamedTuple):
    """Why a run with `decide` chooses no further cell; `reason` in words."""

    by: StoppedBy
    reason: str


class Decided(NamedTuple):
    """`chosen` counts cells of the plan that were chosen, `screened` has what screening runs say.

    `last_stop` is the last one, None where there was none, and `trials` the budget that the file
    had then, where that is recorded; the run `goes_on` where it has chosen a cell since.
    """

    chosen: int
    screened: list[str]
    last_stop: Stop | None
    goes_on: bool
    trials: int | None = None

    @property
    def stop(self) -> Stop | None:
        """Why it chooses no further cell; None while it does."""
        return None if self.goes_on else self.last_stop

    def stop_within(self, trials: int) -> Stop | None:
        """The same for a file that has `trials` now; None where the budget was spent and is raised
        since."""
        raised = self.trials is not None and self.trials < trials
        return None if raised and self.stop is not None and self.stop.by == "budget" else self.stop


def read_decided(run_dir: Path) -> Decided:
    """From the events of all starts; a run that does not decide has none of these."""
    path = run_dir / "events.jsonl"
    goes_on = False
    chosen, screened = set[str](), list[str]()
    last_stop = trials = None
    for event in json_lines(path) if path.exists() else []:
        match event:
            case {"event": "chosen"}:
                chosen.add(str(event.get("key")))
                goes_on = True
            case {"event": "screened", "reason": str(sentence)}:
                screened.append(sentence)
            case {"event": "decided", "reason": str()}:
                last_stop, goes_on = recorded_stop(event), False
                trials = given if isinstance(given := event.get("trials"), int) else None
    plan = read_plan(run_dir)
    chosen = chosen if plan is None else chosen & set(plan.key)
    return Decided(len(chosen), screened, last_stop, goes_on, trials)


def recorded_stop(record: dict[str, Any]) -> Stop:
    """Of a record with `reason` and `stopped_by`; the latter follows from the words where an older
    version wrote the record, without it."""
    reason = str(record["reason"]).removeprefix("decide: ")
    by: Any = record.get("stopped_by")
    return Stop(by if by in get_args(StoppedBy) else _in_words(reason), reason)


def _in_words(reason: str) -> StoppedBy:
    if reason.startswith("the budget of "):
        return "budget"
    return "no_cell" if reason.startswith("no cell is left") else "answered"
