"""The best cell of one run against the best cell of another, on each benchmark that both have.

Both bests are chosen on the scores that are compared, which flatters each; runs with more cells are
flattered a little more.
"""

from itertools import combinations
from typing import Any, NamedTuple

from analysis.benchmarks import task
from analysis.compare.asked import asked_differently
from analysis.compare.score_difference import (
    Scored,
    ScoreDifference,
    best_keys,
    score_difference,
)
from analysis.compare.source import Source
from analysis.fit.unit import unit_of
from analysis.posterior.cells import Cells
from analysis.text import Unit, title


class BestScores(NamedTuple):
    """`difference` is second minus first, positive where the second is better; the cells are
    learning rate x batch size. `apart`: its 95 % interval leaves out 0. `several`: one of the runs
    has more grids than this. `unlike`: in what they were asked differently."""

    first: str
    second: str
    stage: str
    arm: str
    several: bool
    benchmark: str
    label: str
    metric: str
    first_cell: str
    second_cell: str
    difference: ScoreDifference
    apart: bool
    sentence: str
    unlike: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The benchmark, with its stage and arm where there are several, and whether the two were
        asked alike."""
        name = _name(self.label, self.stage, self.arm, self.several)
        return f"{name} (asked differently)" if self.unlike else name

    @property
    def where(self) -> str:
        return title(self.stage, self.arm)

    @property
    def unknown(self) -> bool:
        """Whether no standard error says how far chance alone would set the two apart."""
        return self.difference.interval is None and self.difference.gain != 0


def compare_scores(runs: dict[str, tuple[Source, list[Cells]]]) -> list[BestScores]:
    """Every pair of runs on every benchmark and metric that both have; `runs` by name."""
    rows = []
    for (first, (source, grids)), (second, (other_source, others)) in combinations(runs.items(), 2):
        for cells in grids:
            other = counterpart(cells, grids, others)
            if other is None:
                continue
            several = len({(grid.stage, grid.arm) for run in (grids, others) for grid in run}) > 1
            row = compare_best(first, source, cells, second, other_source, other, several)
            if row is not None:
                rows.append(row)
    return rows


def counterpart(cells: Cells, grids: list[Cells], others: list[Cells]) -> Cells | None:
    """The other run's surface of the same benchmark and metric: of the same stage and arm, or of
    the only ones that each has."""
    same = [
        other
        for other in others
        if (other.benchmark, other.metric) == (cells.benchmark, cells.metric)
    ]
    exact = [other for other in same if (other.stage, other.arm) == (cells.stage, cells.arm)]
    if exact:
        return exact[0]
    alone = len({(grid.stage, grid.arm) for grid in grids}) == 1
    return same[0] if alone and len(same) == 1 else None


def without_counterpart(runs: dict[str, list[Cells]]) -> list[tuple[str, str]]:
    """Run and grid of those of which no surface has a counterpart in another run, though another
    has the benchmark and metric."""
    every = {(run, cells.stage, cells.arm) for run, grids in runs.items() for cells in grids}
    matched, shared = set(), set()
    for (first, grids), (second, others) in combinations(runs.items(), 2):
        for cells in grids:
            for other in others:
                if (cells.benchmark, cells.metric) == (other.benchmark, other.metric):
                    shared |= {(first, cells.stage, cells.arm), (second, other.stage, other.arm)}
            if other := counterpart(cells, grids, others):
                matched |= {(first, cells.stage, cells.arm), (second, other.stage, other.arm)}
    return [(run, title(stage, arm)) for run, stage, arm in sorted(every & shared - matched)]


def compare_best(
    first: str,
    source: Source,
    cells: Cells,
    second: str,
    other_source: Source,
    other: Cells,
    several: bool = False,
) -> BestScores | None:
    """The best cells of two surfaces, by names for both; None where either has no score. `several`
    where the sentence has to say of which stage and arm they are."""
    if cells.best is None or other.best is None:
        return None
    scored, places = [], []
    for one, grid in ((source, cells), (other_source, other)):
        assert grid.best is not None, "looked at above"
        best = grid.table.iloc[grid.best]
        rows = one.frame.loc[(one.frame.stage == grid.stage) & (one.frame.arm == grid.arm)]
        keys = best_keys(rows, best.learning_rate, int(best.batch_size))
        scored.append(Scored(rows, one.items, keys, grid.seeds))
        places.append(grid.cell_name(best.learning_rate, int(best.batch_size)))
    difference = score_difference(
        scored[0], scored[1], cells.benchmark, cells.metric, cells.higher_is_better
    )
    if difference is None:
        return None
    interval = difference.interval
    apart = interval is not None and not interval[0] <= 0 <= interval[1]
    label = task(cells.benchmark).label
    # points only where both are shares
    unit = min(unit_of(cells), unit_of(other), key=lambda unit: unit.points)
    unlike = asked_differently(
        source, scored[0].keys, other_source, scored[1].keys, cells.benchmark
    )
    sentence = _sentence(
        _name(label, cells.stage, cells.arm, several), first, second, difference, apart, unit
    )
    if unlike:
        sentence += (
            f" They were asked differently ({', '.join(unlike)}), which may be the difference."
        )
    return BestScores(
        first=first,
        second=second,
        stage=cells.stage,
        arm=cells.arm,
        several=several,
        benchmark=cells.benchmark,
        label=label,
        metric=cells.metric,
        first_cell=places[0],
        second_cell=places[1],
        difference=difference,
        apart=apart,
        sentence=sentence,
        unlike=unlike,
    )


def _name(label: str, stage: str, arm: str, several: bool) -> str:
    return f"{label} in {title(stage, arm)}" if several else label


def _sentence(
    label: str, first: str, second: str, difference: ScoreDifference, apart: bool, unit: Unit
) -> str:
    better, worse = (second, first) if difference.gain >= 0 else (first, second)
    scores = " against ".join(difference.texts)
    if difference.interval is None and difference.gain == 0:
        how = f"; {_how(difference)}" if difference.items else ""
        return f"{label}: the best of {first} and of {second} score alike ({scores}{how})."
    if difference.interval is None:
        return (
            f"{label}: the best of {better} is {unit.amount(difference.gain)} better than that of "
            f"{worse} ({scores}); no standard error is known."
        )
    low, high = sorted(abs(end) for end in difference.interval)
    how = _how(difference)
    if not apart:
        return (
            f"{label}: no difference beyond noise between the best of {first} and of {second} "
            f"({scores}; {how})."
        )
    return (
        f"{label}: the best of {better} is {unit.amount(difference.gain)} better than that of "
        f"{worse} (95 % interval {unit.amount(low)} to {unit.amount(high)}; {scores}; {how})."
    )


def _how(difference: ScoreDifference) -> str:
    """By what the two are told apart."""
    if difference.by_seeds:
        return "by the noise between seeds alone"
    if not difference.items:
        return "taken as independent"
    if difference.items == max(difference.answered):
        return f"paired over {difference.items} items"
    first, second = difference.answered
    return f"on the {difference.items} items that both answered, of {first} and {second}"


def as_json(rows: list[BestScores]) -> list[dict[str, Any]]:
    """For recommendations.json."""
    return [
        row._asdict()
        | {"difference": row.difference._asdict() | {"interval": row.difference.interval}}
        for row in rows
    ]
