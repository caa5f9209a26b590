"""The best cell of each benchmark while a run goes on, and what is open about it."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from analysis.text import number, rate
from sweep.storage import ranking
from sweep.storage.ranking import Cell, Scored
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


class BestSoFar:
    """Reads what has not ended once, and only where it has to."""

    def __init__(self, trials: Path):
        """`trials` is the folder of their folders."""
        self._trials = trials
        self._unended: dict[str, Scored] = {}

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
        best = []
        for (stage, benchmark), known in scores.items():
            planned = by_stage[stage]
            if len(planned) == 1 or stage in screens:
                continue
            ended = [score for key, score in known.items() if key in planned]
            to_come = {key: row for key, row in planned.items() if key not in known}
            if cells := ranking.rank([*ended, *self._unscored(to_come, planned)]):
                best.append(_best(benchmark, cells, planned))
        return best

    def _unscored(self, rows: Mapping[str, Row], planned: Mapping[str, Row]) -> Iterator[Scored]:
        """Trials that have not ended, where the cells of the stage have several seeds."""
        if len({row["seed"] for row in planned.values()}) < 2:
            return
        for key, row in rows.items():
            path = self._trials / row["folder"] / "trial.json"
            if key not in self._unended and (record := files.read_json(path)) is not None:
                with files.shaped(path):
                    self._unended[key] = ranking.of_record(record)
            if key in self._unended:
                yield self._unended[key]


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
