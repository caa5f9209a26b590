"""The plan of a run in the terminal: a table of cells per stage, then the sums."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from sweep.gridfile.schema import EACH, Grid, Stage
from sweep.plan import money, sight
from sweep.plan.cost import Calibration, Price, places, price, total, wall_hours
from sweep.plan.disk import disk, running_at_once
from sweep.plan.trials import Cost, Trial, cost
from sweep.terminal import memory
from trainers.data import row_counts as counts
from trainers.data.row_counts import Preparation
from trainers.specs.training import TrainingSpec

LEGEND = "Each cell: LR/BS and #start order. Below: cost of one trial at that batch size"


def show_plan(
    console: Console,
    grid: Grid,
    planned: list[Trial],
    measured: Calibration | None = None,
    data: Path | None = None,
) -> None:
    """Print one LR x BS table per stage and arm: ratios, order, cost of a cell; then the sums.

    Row counts that an earlier start left in `data` replace estimates.
    """
    prepared = _prepared(planned, data)
    counted = {key: preparation.total for key, preparation in prepared.items()}
    costs = {trial.key: cost(trial, counted.get(trial.key)) for trial in planned}
    prices = {trial.key: price(grid, trial, measured, counted.get(trial.key)) for trial in planned}
    rank = {trial.key: number + 1 for number, trial in enumerate(planned)}
    for name in grid.stages:
        of_stage = [trial for trial in planned if trial.stage == name]
        for label in dict.fromkeys(trial.label for trial in of_stage):
            cells = [
                _PlannedCell(t, t.spec, costs[t.key], prices[t.key], rank[t.key])
                for t in of_stage
                if t.label == label and t.spec is not None
            ]
            console.print(_stage(name, label, _start(grid.stages[name], cells), cells))
    if grid.references:
        untrained = [trial for trial in planned if trial.spec is None]
        console.print(_untrained([(t, prices[t.key], rank[t.key]) for t in untrained]))
    for line in dict.fromkeys(line for p in prepared.values() for line in p.lines()):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for line in _sums(grid, planned, list(costs.values()), list(prices.values()), measured):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for line in sight.lines(grid):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _prepared(planned: list[Trial], data: Path | None) -> dict[str, Preparation]:
    """Preparations by key of the trial; each kind of spec is looked up once."""
    specs = {trial.key: trial.spec for trial in planned if trial.spec is not None}
    kinds = {str(counts.asked(spec)): spec for spec in specs.values()}
    known = {kind: counts.find(data, spec) if data else None for kind, spec in kinds.items()}
    by_trial = {key: known[str(counts.asked(spec))] for key, spec in specs.items()}
    return {key: preparation for key, preparation in by_trial.items() if preparation is not None}


def _start(stage: Stage, cells: "list[_PlannedCell]") -> str:
    """What the cells of a stage start from, in words."""
    if any(cell.trial.waits for cell in cells):
        return f"{cells[0].trial.waits}, chosen once all candidates have their scores"
    if stage.parent == EACH:
        return stage.start_from
    return f"{stage.start_from} {cells[0].trial.parent}"


class _PlannedCell(NamedTuple):
    trial: Trial
    spec: TrainingSpec
    cost: Cost
    price: Price
    rank: int


def _stage(name: str, arm: str, start: str, cells: list[_PlannedCell]) -> Group:
    batches = sorted({cell.spec.batch_size for cell in cells})
    title = f"{name}{f' / {arm}' if arm else ''}: {_plural(len(cells), 'trial')}, from {start}"
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("LR / BS", justify="right", no_wrap=True)
    for size in batches:
        table.add_column(f"BS {size}", justify="right", overflow="fold")
    for rate in sorted({cell.spec.learning_rate for cell in cells}):
        row = [c for c in cells if c.spec.learning_rate == rate]
        table.add_row(
            f"{rate:.3g}", *(_ratio([c for c in row if c.spec.batch_size == b]) for b in batches)
        )
    table.add_section()
    for label, value, shown in PLAN_ROWS:
        columns = []
        for size in batches:
            values = {value(cell) for cell in cells if cell.spec.batch_size == size}
            ends = sorted(values, key=lambda v: v or 0)[:: max(len(values) - 1, 1)]
            columns.append(" to ".join(map(shown, ends)))
        if any(column != UNKNOWN for column in columns):
            table.add_row(cells[0].spec.UNIT if label == "examples" else label, *columns)
    return Group(
        Text(title),
        Text("Each cell: LR/BS and #start order. Below: cost of one trial at that batch size"),
        table,
        "",
    )


def _untrained(models: list[tuple[Trial, Price, int]]) -> Group:
    """The models that are scored and not trained."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for column in ("model", "order", "score FLOPs", "score time"):
        table.add_column(column, justify="left" if column == "model" else "right", overflow="fold")
    for trial, trial_price, rank in models:
        model = trial.model
        name = f"{model.name} at {model.revision}" if model.revision else model.name
        table.add_row(
            name, f"#{rank}", _short(trial_price.eval_flops), _hours(trial_price.eval_hours)
        )
    return Group(Text(f"scored without training: {_plural(len(models), 'model')}"), table, "")


def _ratio(cells: list[_PlannedCell]) -> str:
    if not cells:
        return "-"
    ratio = cells[0].spec.learning_rate / cells[0].spec.batch_size
    ranks = ",".join(str(cell.rank) for cell in cells[:3]) + (",..." if len(cells) > 3 else "")
    return f"{ratio:.3g} #{ranks}"


def _sums(
    grid: Grid,
    planned: list[Trial],
    costs: list[Cost],
    prices: list[Price],
    measured: Calibration | None,
) -> Iterator[str]:
    trained = sum(trial.spec is not None for trial in planned)
    untrained = len(planned) - trained
    steps = _total(cost.steps for cost in costs)
    yield (
        f"{_plural(trained, 'trial')}, {_count(steps)} optimizer steps; "
        f"{_plural(len(planned), 'model')} to score ({trained} trained, {untrained} untrained) "
        f"on {', '.join(grid.evaluate.benchmarks) or 'held-out data'}"
    )
    if trained:
        yield _space(grid, planned)
        yield from memory.lines(grid, planned)
    sums = total(prices)
    if sums.tokens is not None:
        yield (
            f"training: {_count(round(sums.tokens))} tokens, {_flops(sums.train_flops)}; "
            f"evaluation: {_flops(sums.eval_flops)}"
        )
    if cost_of_all := money.sentence(grid, planned, prices):
        yield cost_of_all
    if grid.decide is not None:
        yield (
            f"decide: at most {grid.decide.trials} trials run, chosen as results come in, among "
            "these cells, their replicates and cells beyond the borders"
        )
    if grid.search is not None:
        yield f"search: {grid.search.trials} of these cells will run, chosen as results come in"
    if sums.hours is None:
        yield "hours: unknown; --calibrate measures them, or give price.tokens_per_second"
        return
    on_gpu = grid.resources.gpus_per_trial > 0
    stated = "" if measured else ESTIMATED if on_gpu else STATED
    yield (
        f"one trial after another: training {_hours(sums.train_hours)}, evaluation "
        f"{_hours(sums.eval_hours)}{stated}; {_device_hours(grid, planned, prices)}"
    )
    walls = [
        f"about {_hours(wall_hours(planned, prices, count, measured))} {where} ({count} at once)"
        for where, count in places(grid, measured).items()
    ]
    if walls:
        yield f"wall time: {', '.join(walls)}"


def _space(grid: Grid, planned: list[Trial]) -> str:
    space = disk(grid, planned)
    keeps = ", ".join(f"{name} {stage.keep}" for name, stage in grid.stages.items())
    return (
        f"disk: {_bytes(space.kept)} of weights kept ({keeps}), up to {_bytes(space.peak)} at one "
        f"time with the checkpoints of {running_at_once(grid.resources)} at once"
    )


def _device_hours(grid: Grid, planned: list[Trial], prices: list[Price]) -> str:
    asked = [
        (grid.trial_resources(trial.stage), trial_price.hours or 0.0)
        for trial, trial_price in zip(planned, prices, strict=True)
    ]
    gpus = sum(resources.gpus_per_trial * hours for resources, hours in asked)
    cpus = sum(resources.cpus_per_trial * hours for resources, hours in asked)
    return f"{gpus:,.1f} GPU hours" if gpus else f"{cpus:,.2f} CPU hours"


def _total(values: Iterable[int | None]) -> int | None:
    numbers = list(values)
    return None if None in numbers else sum(n for n in numbers if n is not None)


UNKNOWN = "unknown"
ESTIMATED = " (estimated; --calibrate measures it)"
STATED = " (at training's FLOP/s, which generation does not reach)"


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _count(value: float | None) -> str:
    """In full below a million, then shorter: the table has to fit 80 columns."""
    if value is None:
        return UNKNOWN
    for size, letter in ((1e9, " G"), (1e6, " M")):
        if value >= size:
            return f"{value / size:,.2f}{letter}"
    return f"{value:,.0f}"


def _bytes(value: int | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value / 1e6:,.1f} MB" if value < 1e9 else f"{value / 1e9:,.1f} GB"


def _short(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2g}"


def _flops(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2g} FLOPs"


def _hours(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:,.1f} h" if value >= 1 else f"{value * 60:.1f} min"


def _group(spec: TrainingSpec) -> str | None:
    """How a batch that counts completions is made up."""
    each = spec.examples_per_row
    return f"{spec.rows_per_step} x {each}" if each > 1 else None


def _words(value: str | None) -> str:
    return value or UNKNOWN


PLAN_ROWS: list[tuple[str, Callable[[_PlannedCell], Any], Callable[[Any], str]]] = [
    ("prompts x completions", lambda cell: _group(cell.spec), _words),
    ("steps", lambda cell: cell.cost.steps, _count),
    ("examples", lambda cell: cell.cost.examples, _count),
    ("tokens", lambda cell: cell.price.tokens, _count),
    ("train FLOPs", lambda cell: cell.price.train_flops, _short),
    ("train time", lambda cell: cell.price.train_hours, _hours),
    ("score FLOPs", lambda cell: cell.price.eval_flops, _short),
    ("score time", lambda cell: cell.price.eval_hours, _hours),
    ("disk", lambda cell: cell.cost.disk_bytes, _bytes),
]
