"""What events.jsonl of a run folder says of its choices: how many cells were chosen, why no further
one is, and what the screening runs say."""

from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from analysis.tables.records.run_folder import json_lines

StoppedBy = Literal["answered", "budget", "no_cell"]
"""Every question is decided; the budget of trials is spent; no cell is left that would train."""


class Stop(NamedTuple):
    """Why a run with `decide` chooses no further cell; `reason` in words."""

    by: StoppedBy
    reason: str


class Decided(NamedTuple):
    """`chosen` counts the cells that were chosen, `screened` has what the screening runs say.

    `last_stop` is the last one, None where there was none; the run `goes_on` where it has chosen a
    cell since.
    """

    chosen: int
    screened: list[str]
    last_stop: Stop | None
    goes_on: bool

    @property
    def stop(self) -> Stop | None:
        """Why it chooses no further cell; None while it does."""
        return None if self.goes_on else self.last_stop


def read_decided(run_dir: Path) -> Decided:
    """From the events of all starts; a run that does not decide has none of these."""
    path = run_dir / "events.jsonl"
    chosen, goes_on = 0, False
    screened = list[str]()
    last_stop = None
    for event in json_lines(path) if path.exists() else []:
        match event:
            case {"event": "chosen"}:
                chosen, goes_on = chosen + 1, True
            case {"event": "screened", "reason": str(sentence)}:
                screened.append(sentence)
            case {"event": "decided", "reason": str()}:
                last_stop, goes_on = recorded_stop(event), False
    return Decided(chosen, screened, last_stop, goes_on)


def recorded_stop(record: dict[str, Any]) -> Stop:
    """Of a record with `reason` and `stopped_by`; the latter follows from the words where an older
    version wrote the record, without it."""
    reason = str(record["reason"]).removeprefix("decide: ")
    by = record.get("stopped_by")
    return Stop(by if by in get_args(StoppedBy) else _in_words(reason), reason)


def _in_words(reason: str) -> StoppedBy:
    if reason.startswith("the budget of "):
        return "budget"
    return "no_cell" if reason.startswith("no cell is left") else "answered"
