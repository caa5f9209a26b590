"""What the terminal shows: the plan as a table, a line per trial, how it ended."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sweep.config import BASE, Grid
from sweep.plan import Cost, Trial, cost
from sweep.trial import Outcome

if TYPE_CHECKING:
    from sweep.status import RunStatus


def plan(console: Console, grid: Grid, planned: list[Trial]) -> None:
    """One LR x BS table per stage and arm: the ratio of each cell, with steps, examples and
    disk."""
    costs = {trial.key: cost(trial) for trial in planned}
    for name in grid.stages:
        mine = [trial for trial in planned if trial.stage == name]
        for arm in dict.fromkeys(trial.arm for trial in mine):
            _stage(console, grid, name, arm, [t for t in mine if t.arm == arm], costs)
    trained = [trial for trial in planned if trial.stage != BASE]
    disk = _total(costs[trial.key].disk_bytes for trial in trained)
    steps = _total(costs[trial.key].steps for trial in trained)
    console.print(
        f"{len(trained)} trials, {_count(steps)} optimizer steps, {_bytes(disk)} of weights; "
        f"{len(planned)} models to score ({len(trained)} trained, 1 as it is) "
        f"on {', '.join(grid.evaluate.benchmarks)}",
        highlight=False,
    )


def _stage(
    console: Console, grid: Grid, name: str, arm: str, trials: list[Trial], costs: dict[str, Cost]
) -> None:
    specs = [trial.spec for trial in trials if trial.spec is not None]
    rates = sorted({spec.learning_rate for spec in specs})
    batches = sorted({spec.batch_size for spec in specs})
    title = (
        f"{name}{f' / {arm}' if arm else ''}: {len(trials)} trial{'s' * (len(trials) > 1)}, from "
    )
    table = Table(
        title=title + grid.stages[name].start_from, title_justify="left", caption_justify="left"
    )
    table.add_column("LR / BS", justify="right")
    for size in batches:
        table.add_column(f"BS {size}", justify="right")
    for rate in rates:
        cells = [_cell(trials, rate, size) for size in batches]
        table.add_row(f"{rate:.3g}", *cells)
    table.add_section()
    for label, field in (("steps", "steps"), ("examples", "examples"), ("disk", "disk_bytes")):
        show = _bytes if field == "disk_bytes" else _count
        row = []
        for size in batches:
            values = {
                getattr(costs[t.key], field) for t in trials if t.spec and t.spec.batch_size == size
            }
            row.append(
                " to ".join(
                    map(show, sorted(values, key=lambda v: v or 0)[:: max(len(values) - 1, 1)])
                )
            )
        table.add_row(f"{label} per cell", *row)
    console.print(table)


def _cell(trials: list[Trial], rate: float, size: int) -> str:
    here = [
        t for t in trials if t.spec and t.spec.learning_rate == rate and t.spec.batch_size == size
    ]
    if not here:
        return "-"
    return f"{rate / size:.2e}" + (f" x{len(here)}" if len(here) > 1 else "")


def _total(values: Iterable[int | None]) -> int | None:
    found = list(values)
    return None if None in found else sum(value for value in found if value is not None)


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _bytes(value: int | None) -> str:
    if value is None:
        return "unknown"
    return f"{value / 1e6:,.1f} MB" if value < 1e9 else f"{value / 1e9:,.1f} GB"


def outcome(console: Console, number: int, total: int, trial: Trial, ended: Outcome) -> None:
    """One line, readable in a log."""
    if trial.spec is None:
        what = f"{trial.stage} (the model as it is)"
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


def times(console: Console, wall_seconds: float, outcomes: list[Outcome], at_once: int) -> None:
    """Wall time against the bound: all training and evaluation seconds, shared by the trials at
    once."""
    work = sum(ended.train_seconds + ended.eval_seconds for ended in outcomes)
    bound = work / at_once
    ratio = f", {wall_seconds / bound:.2f} times the bound" if bound else ""
    console.print(
        f"wall {wall_seconds:.0f} s; training and evaluation {work:.0f} s / {at_once} at once = "
        f"{bound:.0f} s{ratio}",
        highlight=False,
    )


def status(run: "RunStatus") -> RenderableType:
    """Counts, a row per running trial, and the best cell of each benchmark so far."""
    counts = "  ".join(f"{number} {state}" for state, number in run.counts.items() if number)
    left = "" if run.seconds_left is None else f"  about {duration(run.seconds_left)} left"
    return Group(Text(f"{run.name}: {counts}{left}"), _running(run), _bests(run))


def _running(run: "RunStatus") -> RenderableType:
    shown = [trial for trial in run.trials if trial.state in ("running", "failed")]
    if not shown:
        return Text("")
    table = Table("stage", "lr", "bs", "seed", "", "step", "loss", "steps/s", "", box=None)
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
            "" if rate is None else f"{rate:.1f}",
            trial.reason[:80],
        )
    return table


def _bests(run: "RunStatus") -> RenderableType:
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
def live(console: Console, read: Callable[[], "RunStatus"]) -> Iterator[None]:
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
