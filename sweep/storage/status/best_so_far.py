"""The best cell of each benchmark while a run goes on, and what is open about it."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from analysis.text import number, rate
from sweep.storage import ranking
from sweep.storage.ranking import Cell, Record, Scored
from trainers import files

Row = dict[str, str]
"""Of plan.csv."""


class Best(NamedTuple):
    """The best scored cell of a benchmark so far; with so many cells its value is optimistic."""

    stage: str
    benchmark: str
    key: str
    learning_rate: float
    batch_size: int
    value: float
    """Mean over the cell's seeds."""
    stderr: float | None
    """Standard error over items; None where there are several seeds."""
    seeds: int
    """That have a score."""
    note: str
    """Which cell without the scores of all its seeds looks better, in words; else empty."""
    arm: str = ""


class Identities:
    """The trial.json of planned trials, each read once."""

    def __init__(self, trials: Path):
        """`trials` is the folder of their folders."""
        self._trials = trials
        self._folders: dict[str, str] = {}
        self._records: dict[str, Record | None] = {}

    def follow(self, rows: Iterable[Row]) -> None:
        self._folders = {row["key"]: row["folder"] for row in rows}

    def path(self, key: str) -> Path:
        return self._trials / self._folders[key] / "trial.json"

    def record(self, key: str) -> Record | None:
        """None of one that is not planned, or not written yet."""
        if key in self._folders and not self._records.get(key):
            self._records[key] = files.read_json(self.path(key))
        return self._records.get(key)


class BestSoFar:
    """Reads what has not ended only where it has to."""

    def __init__(self, identities: Identities):
        self._identities = identities

    def of(
        self,
        rows: Sequence[Row],
        scores: Mapping[tuple[str, str], Mapping[str, Scored]],
        screens: Collection[str],
    ) -> list[Best]:
        """Of each stage with several trials, by each benchmark. `scores` are those of the trials
        that have ended, by stage and benchmark; `screens` the stages of screening runs."""
        by_stage: dict[str, dict[str, Row]] = defaultdict(dict)
        for row in rows:
            by_stage[row["stage"]][row["key"]] = row
        repeated = len({row["seed"] for row in rows if row["seed"]}) > 1
        best = []
        for (stage, benchmark), known in scores.items():
            planned = by_stage[stage]
            if len(planned) == 1 or stage in screens:
                continue
            ended = [score for key, score in known.items() if key in planned]
            to_come = planned.keys() - known.keys() if repeated else ()
            if cells := ranking.rank([*ended, *self._unscored(to_come)]):
                best.append(_best(benchmark, cells, planned))
        return best

    def _unscored(self, keys: Iterable[str]) -> Iterator[Scored]:
        for key in keys:
            if (record := self._identities.record(key)) is not None:
                with files.shaped(self._identities.path(key)):
                    trial = ranking.of_record(record, self._identities.record)
                yield trial


def _best(benchmark: str, cells: Sequence[Cell], rows: Mapping[str, Row]) -> Best:
    cell, row, note = cells[0], rows[cells[0].key], ""
    if (other := ranking.looks_better(cells)) is not None:
        learning_rate, batch_size = _setting(rows[other.key])
        note = (
            f"learning rate {rate(learning_rate)}, batch size {batch_size} looks better "
            f"({number(other.value, 4)}), but a seed of it has no score"
        )
    facts = (cell.value, cell.stderr, cell.seeds, note, row.get("arm", ""))
    return Best(row["stage"], benchmark, cell.key, *_setting(row), *facts)


def _setting(row: Row) -> tuple[float, int]:
    return float(row["learning_rate"]), int(row["batch_size"])
