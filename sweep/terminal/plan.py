"""The plan of a run in the terminal: a table of cells per stage, then the sums."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from sweep.gridfile.keys.schema import EACH, Grid, Stage
from sweep.plan import dropout, sight
from sweep.plan.bundles import Bundles
from sweep.plan.prepared import preparations
from sweep.plan.trials import Cost, Trial, cost
from sweep.price.calibration import Calibration
from sweep.price.cost import Price, price, slots
from sweep.terminal.quantities import UNKNOWN, bytes_, count, hours, plural, short
from sweep.terminal.sums import sums
from trainers.specs.training import TrainingSpec
from trainers.tasks import benchmarks, metrics

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
    prepared = preparations(planned, data) if data else {}
    counted = {key: preparation.total for key, preparation in prepared.items()}
    costs = {trial.key: cost(trial, counted.get(trial.key)) for trial in planned}
    rule = Bundles(grid)

    @cache
    def of_lanes(lanes: tuple[int, ...]) -> list[Price]:
        each = zip(planned, lanes, strict=True)
        return [price(grid, t, measured, counted.get(t.key), count) for t, count in each]

    def priced(at_once: int) -> list[Price]:
        return of_lanes(tuple(rule.expected(planned, at_once).values()))

    first = priced(slots(grid, measured))
    prices = {trial.key: one for trial, one in zip(planned, first, strict=True)}
    rank = {trial.key: number + 1 for number, trial in enumerate(planned)}
    for name in grid.stages:
        of_stage = [trial for trial in planned if trial.stage == name]
        for label in dict.fromkeys(trial.label for trial in of_stage):
            cells = [
                _PlannedCell(t, t.spec, costs[t.key], prices[t.key], rank[t.key])
                for t in of_stage
                if t.label == label and t.spec is not None
            ]
            console.print(_stage(grid.stages[name], label, cells))
            if line := _all_warmup(label or name, cells):
                console.print(line, "", sep="\n", highlight=False, markup=False, soft_wrap=True)
    if grid.references:
        untrained = [trial for trial in planned if trial.spec is None]
        console.print(_untrained([(t, prices[t.key], rank[t.key]) for t in untrained]))
    for line in dict.fromkeys(line for p in prepared.values() for line in p.lines()):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for line in sums(grid, planned, list(costs.values()), priced, measured):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    scored = [name for name in grid.evaluate.benchmarks if name not in benchmarks.OF_STAGES]
    partial = filter(None, map(metrics.partial, map(benchmarks.find, scored)))
    for line in (*partial, *dropout.lines(grid), *sight.lines(grid)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


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


def _stage(stage: Stage, arm: str, cells: list[_PlannedCell]) -> Group:
    batches = sorted({cell.spec.batch_size for cell in cells})
    trials = plural(len(cells), "screening run" if stage.screens else "trial")
    title = f"{stage.name}{f' / {arm}' if arm else ''}: {trials}, from {_start(stage, cells)}"
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
        Text(LEGEND),
        table,
        "",
    )


def _all_warmup(name: str, cells: list[_PlannedCell]) -> str:
    """At which batch sizes the training ends before its warmup does; "" where at none."""
    over: dict[int, str] = {}
    for spec, steps, tokens in ((c.spec, c.cost.steps, c.price.tokens) for c in cells):
        by_tokens = spec.warmup_tokens and tokens and spec.warmup_tokens >= tokens
        if by_tokens or (steps and spec.warmup(steps) >= steps):
            of = f" ({plural(steps, 'step')})" if steps else ""
            over[spec.batch_size] = f"{spec.batch_size}{of}"
    if not over:
        return ""
    return (
        f"{name}: warmup takes the whole training at batch size "
        f"{', '.join(over[size] for size in sorted(over))}, so its rate never reaches the peak; "
        "shorten it, or give warmup_ratio, a share of the steps"
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
            name, f"#{rank}", short(trial_price.eval_flops), hours(trial_price.eval_hours)
        )
    return Group(Text(f"scored without training: {plural(len(models), 'model')}"), table, "")


def _ratio(cells: list[_PlannedCell]) -> str:
    if not cells:
        return "-"
    ratio = cells[0].spec.learning_rate / cells[0].spec.batch_size
    ranks = ",".join(str(cell.rank) for cell in cells[:3]) + (",..." if len(cells) > 3 else "")
    return f"{ratio:.3g} #{ranks}"


def _group(spec: TrainingSpec) -> str | None:
    """How a batch that counts completions is made up."""
    each = spec.examples_per_row
    return f"{spec.rows_per_step} x {each}" if each > 1 else None


def _words(value: str | None) -> str:
    return value or UNKNOWN


PLAN_ROWS: list[tuple[str, Callable[[_PlannedCell], Any], Callable[[Any], str]]] = [
    ("prompts x completions", lambda cell: _group(cell.spec), _words),
    ("steps", lambda cell: cell.cost.steps, count),
    ("examples", lambda cell: cell.cost.examples, count),
    ("tokens", lambda cell: cell.price.tokens, count),
    ("train FLOPs", lambda cell: cell.price.train_flops, short),
    ("train time", lambda cell: cell.price.train_hours, hours),
    ("score FLOPs", lambda cell: cell.price.eval_flops, short),
    ("score time", lambda cell: cell.price.eval_hours, hours),
    ("disk", lambda cell: cell.cost.disk_bytes, bytes_),
]
