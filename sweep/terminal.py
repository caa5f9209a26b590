"""What the terminal shows: the plan as a table, a line per trial, how it ended."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sweep.execution.job import Outcome
from sweep.gridfile.schema import EACH, Grid, Stage
from sweep.plan.cost import Calibration, Price, places, price, total, wall_hours
from sweep.plan.disk import disk, running_at_once
from sweep.plan.trials import Cost, Trial, cost
from sweep.storage.status_reader import RunStatus, TrialStatus
from trainers.data import row_counts as counts
from trainers.data.row_counts import Preparation
from trainers.specs.spec import TrainingSpec


def plan(
    console: Console,
    grid: Grid,
    planned: list[Trial],
    measured: Calibration | None = None,
    data: Path | None = None,
) -> None:
    """One LR x BS table per stage and arm: ratios, order, and what a cell takes; then the sum.

    Where `data` has what an earlier start prepared, its counts stand in for estimates.
    """
    prepared = _prepared(planned, data)
    counted = {key: found.total for key, found in prepared.items()}
    costs = {trial.key: cost(trial, counted.get(trial.key)) for trial in planned}
    prices = {trial.key: price(grid, trial, measured, counted.get(trial.key)) for trial in planned}
    rank = {trial.key: number + 1 for number, trial in enumerate(planned)}
    for name in grid.stages:
        mine = [trial for trial in planned if trial.stage == name]
        for arm in dict.fromkeys(trial.arm for trial in mine):
            cells = [
                _PlannedCell(t, t.spec, costs[t.key], prices[t.key], rank[t.key])
                for t in mine
                if t.arm == arm and t.spec is not None
            ]
            console.print(_stage(name, arm, _start(grid.stages[name], cells), cells))
    if grid.references:
        as_they_are = [trial for trial in planned if trial.spec is None]
        console.print(_as_they_are([(t, prices[t.key], rank[t.key]) for t in as_they_are]))
    for line in dict.fromkeys(line for found in prepared.values() for line in found.lines()):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for line in _sums(grid, planned, list(costs.values()), list(prices.values()), measured):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _prepared(planned: list[Trial], data: Path | None) -> dict[str, Preparation]:
    """What was prepared, by trial; each kind of spec is looked up once."""
    specs = {trial.key: trial.spec for trial in planned if trial.spec is not None}
    kinds = {str(counts.asked(spec)): spec for spec in specs.values()}
    known = {kind: counts.find(data, spec) if data else None for kind, spec in kinds.items()}
    found = {key: known[str(counts.asked(spec))] for key, spec in specs.items()}
    return {key: one for key, one in found.items() if one is not None}


def _start(stage: Stage, cells: "list[_PlannedCell]") -> str:
    """What the cells of a stage start from, in words."""
    if any(cell.trial.waits for cell in cells):
        return f"{cells[0].trial.waits}, to be chosen when all of it is scored"
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
            found = {value(cell) for cell in cells if cell.spec.batch_size == size}
            ends = sorted(found, key=lambda one: one or 0)[:: max(len(found) - 1, 1)]
            columns.append(" to ".join(map(shown, ends)))
        if any(column != UNKNOWN for column in columns):
            table.add_row(cells[0].spec.UNIT if label == "examples" else label, *columns)
    return Group(
        Text(title), Text("LR/BS #place in the order; below, what a cell takes"), table, ""
    )


def _as_they_are(found: list[tuple[Trial, Price, int]]) -> Group:
    """The models that are scored and not trained."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for column in ("model", "place", "score FLOPs", "score time"):
        table.add_column(column, justify="left" if column == "model" else "right", overflow="fold")
    for trial, one, rank in found:
        model = trial.model
        name = f"{model.name} at {model.revision}" if model.revision else model.name
        table.add_row(name, f"#{rank}", _short(one.eval_flops), _hours(one.eval_hours))
    return Group(Text(f"scored as they are: {_plural(len(found), 'model')}"), table, "")


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
    untouched = len(planned) - trained
    steps = _total(cost.steps for cost in costs)
    yield (
        f"{_plural(trained, 'trial')}, {_count(steps)} optimizer steps; "
        f"{_plural(len(planned), 'model')} to score ({trained} trained, {untouched} as "
        f"{'it is' if untouched == 1 else 'they are'}) on {', '.join(grid.evaluate.benchmarks)}"
    )
    if trained:
        yield _space(grid, planned)
    sums = total(prices)
    if sums.tokens is not None:
        yield (
            f"training: {_count(round(sums.tokens))} tokens, {_flops(sums.train_flops)}; "
            f"evaluation: {_flops(sums.eval_flops)}"
        )
    if sums.hours is None:
        yield "hours: unknown; --calibrate measures them, or give price.tokens_per_second"
        return
    on_gpu = grid.resources.gpus_per_trial > 0
    stated = "" if measured else ESTIMATED if on_gpu else STATED
    yield (
        f"one trial after another: training {_hours(sums.train_hours)}, evaluation "
        f"{_hours(sums.eval_hours)}{stated}; {_device_hours(grid, planned, prices)}"
    )
    if grid.search is not None:
        yield f"search: {grid.search.trials} of these cells will run, chosen as results come in"
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
    gpus = sum(one.gpus_per_trial * hours for one, hours in asked)
    cpus = sum(one.cpus_per_trial * hours for one, hours in asked)
    return f"{gpus:,.1f} GPU hours" if gpus else f"{cpus:,.2f} CPU hours"


def _total(values: Iterable[int | None]) -> int | None:
    found = list(values)
    return None if None in found else sum(value for value in found if value is not None)


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


def outcome(console: Console, number: int, total: int, trial: Trial, ended: Outcome) -> None:
    """One line, readable in a log."""
    if trial.spec is None:
        what = f"{trial.readable} (as it is)"
    else:
        spec = trial.spec
        what = f"{trial.stage:<10} lr {spec.learning_rate:<9.3g} bs {spec.batch_size:<4} "
        what += f"seed {spec.seed}"
        what += f" {trial.arm}" if trial.arm else ""
    times = f"train {ended.train_seconds:6.1f} s  eval {ended.eval_seconds:6.1f} s"
    reason = f"  {ended.reason}" if ended.reason else ""
    console.print(
        f"[{number:>{len(str(total))}}/{total}] {what:<45} {ended.status:<8} {times}{reason}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


def times(
    console: Console,
    wall_seconds: float,
    work: "list[tuple[str, Outcome]]",
    at_once: dict[str, int],
) -> None:
    """Wall time against the bound: all training and evaluation seconds, each shared by as many
    trials of its stage as fit at once."""
    seconds = [(stage, ended.train_seconds + ended.eval_seconds) for stage, ended in work]
    bound = sum(one / at_once[stage] for stage, one in seconds)
    ratio = f", {wall_seconds / bound:.2f} times the bound" if bound else ""
    console.print(
        f"wall {wall_seconds:.0f} s; training and evaluation "
        f"{sum(one for _, one in seconds):.0f} s, at least {bound:.0f} s with up to "
        f"{max(at_once.values())} at once{ratio}",
        highlight=False,
        soft_wrap=True,
    )


def status(run: RunStatus) -> RenderableType:
    """Counts, a row per running trial, and the best cell of each benchmark so far."""
    counts = "  ".join(f"{number} {state}" for state, number in run.counts.items() if number)
    left = "" if run.seconds_left is None else f"  about {duration(run.seconds_left)} left"
    head = [Text(f"{run.name}: {counts}{left}"), *([Text(run.driver)] if run.driver else [])]
    return Group(*head, _running(run), _bests(run))


def _running(run: RunStatus) -> RenderableType:
    shown = [trial for trial in run.trials if trial.state in ("running", "failed")]
    if not shown:
        return Text("")
    table = Table(
        "stage", "lr", "bs", "seed", "", "step", "loss", "steps/s", "last sign", "", box=None
    )
    for trial in shown[-20:]:
        rate = trial.steps_per_second
        table.add_row(
            trial.stage,
            "" if trial.learning_rate is None else f"{trial.learning_rate:.3g}",
            str(trial.batch_size or ""),
            "" if trial.seed is None else str(trial.seed),
            trial.phase if trial.state == "running" else trial.state,
            f"{trial.step}/{trial.steps or '?'}" if trial.step else "",
            "" if trial.loss is None else f"{trial.loss:.3f}",
            "" if rate is None or trial.stalled else f"{rate:.1f}",
            _sign(trial),
            trial.reason[:80],
        )
    return table


def _sign(trial: TrialStatus) -> str:
    if trial.last_sign is None:
        return ""
    return f"{'stalled: ' if trial.stalled else ''}{duration(trial.last_sign)} ago"


def _bests(run: RunStatus) -> RenderableType:
    if not run.best:
        return Text("")
    table = Table("stage", "best so far", "lr", "bs", "score", box=None)
    for best in run.best:
        error = "" if best.stderr is None else f" ± {best.stderr:.3f}"
        score = f"{best.value:.3f}{error}"
        table.add_row(
            best.stage, best.benchmark, f"{best.learning_rate:.3g}", str(best.batch_size), score
        )
    return table


def duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


@contextmanager
def live(console: Console, read: Callable[[], RunStatus]) -> Iterator[None]:
    """Keep the status below the lines that are printed; where there is no terminal, do nothing."""
    if not console.is_terminal:
        yield
        return
    with Live(
        console=console,
        get_renderable=lambda: status(read()),
        refresh_per_second=1,
        transient=True,
    ):
        yield
