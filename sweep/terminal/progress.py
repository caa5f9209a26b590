"""A run in the terminal: a line per trial, the live table, and how long it took."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from analysis import benchmarks
from analysis.text import rate
from sweep.execution.job import Outcome
from sweep.plan.reference_passes import ReferencePass
from sweep.plan.trials import Trial
from sweep.schedule.spending import Spent
from sweep.storage.status.reader import RunStatus, TrialStatus
from sweep.terminal import words
from sweep.terminal.maps import all_maps, needed


def outcome(
    console: Console,
    number: int,
    total: int,
    trial: Trial,
    by_key: Mapping[str, Trial | ReferencePass],
    ended: Outcome,
) -> None:
    """One line, readable in a log. `by_key` has all trials of the run; where those of a stage start
    from several models, the line says from which."""
    if trial.spec is None:
        what = trial.title
    else:
        spec = trial.spec
        what = f"{trial.stage:<10} lr {spec.learning_rate:<9.3g} bs {spec.batch_size:<4} "
        what += f"seed {spec.seed}"
        what += f" {trial.label}" if trial.label else ""
        start = by_key.get(trial.parent or "")
        if isinstance(start, Trial) and start.spec:
            planned = (one for one in by_key.values() if isinstance(one, Trial))
            starts = {one.parent for one in planned if one.stage == trial.stage}
            what += f" from {start.title}" if len(starts) > 1 else ""
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
    lost: float,
) -> None:
    """Wall time against the bound: all training and evaluation seconds, each shared by as many
    trials of its stage as fit at once. `lost` are the seconds of attempts that failed."""
    seconds = [
        (stage, ended.train_seconds + ended.eval_seconds)
        for stage, ended in work
        if ended.status != "failed"
    ]
    used = sum(spent for _, spent in seconds)
    bound = sum(spent / at_once[stage] for stage, spent in seconds)
    slots = max(at_once.values())
    failed = f", failed attempts {lost:.0f} s" if lost >= 0.5 else ""
    console.print(
        f"Took {wall_seconds:.0f} s. Trials used {used:.0f} s on {slots} slot{'s' * (slots != 1)} "
        f"({bound:.0f} s at best){failed}; the rest was start-up and waiting",
        highlight=False,
        soft_wrap=True,
    )


def status(run: RunStatus, maps: bool = False, spent: Spent | None = None) -> RenderableType:
    """Counts, time, what was `spent`, a row per running trial, why others failed, and the best cell
    of each benchmark so far; with `maps` also every cell of each grid."""
    counts = ", ".join(f"{number} {state}" for state, number in run.counts.items() if number)
    lines = [f"{run.name}: {counts}", words.time_left(run), words.cost(run, spent), run.driver]
    shown: list[RenderableType] = [Text(line) for line in [*lines, *run.notes] if line]
    if maps:
        shown += all_maps(run)
    return Group(*shown, *_trials(run), *_bests(run))


RUNNING, FAILED = 20, 5
"""Trials that are listed one by one."""


def _trials(run: RunStatus) -> Iterator[RenderableType]:
    listed = words.listed(run, RUNNING, FAILED)
    if not listed.trials:
        return
    yield ""
    if running := [trial for trial in listed.trials if trial.state == "running"]:
        seeds = {trial.seed for trial in run.trials if trial.seed is not None}
        yield _Running(running, seeds=len(seeds) > 1)
    for trial in listed.trials:
        if trial.state == "failed":
            yield Text(words.failure(trial))
    if listed.rest:
        yield Text(listed.rest)


class _Running:
    """A row for each running trial. Columns that say nothing are left out, and where the terminal
    is too narrow, whole columns: no figure is cut."""

    def __init__(self, trials: list[TrialStatus], seeds: bool):
        """With a column for their `seeds`, or without."""
        self._rows = [words.trial(trial) for trial in trials]
        self._names = [name for name in self._rows[0] if any(row[name] for row in self._rows)]
        if not seeds:
            self._names = [name for name in self._names if name != "seed"]
        if not any(trial.stalled or (trial.last_sign or 0) > QUIET_SECONDS for trial in trials):
            self._names = [name for name in self._names if name != "last sign"]

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        names = list(self._names)
        for name in LEFT_OUT:
            if needed(console, options, self._table(names)) <= options.max_width:
                break
            names = [one for one in names if one != name]
        yield self._table(names)

    def _table(self, names: list[str]) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in names:
            table.add_column(SHORT.get(name, name), no_wrap=name not in TEXTS, overflow="fold")
        for row in self._rows:
            table.add_row(*(Text(row[name]) for name in names))
        return table


LEFT_OUT = ("tokens/s", "running for", "loss", "last sign")
"""Columns that give way where not all of them fit, the first one first."""

TEXTS = ("stage", "arm")
"""Columns that go on in the next line where they are too long."""

QUIET_SECONDS = 20.0
"""Since the last sign of a trial, after which that is shown."""

SHORT = {"learning rate": "LR", "batch size": "batch", "running for": "for"}
"""Heads of columns, so that all of them fit 80 characters."""


def _bests(run: RunStatus) -> list[RenderableType]:
    if not run.best:
        return []
    table = Table("best so far", "stage", box=None, padding=(0, 2, 0, 0))
    for name in ("LR", "batch", "score"):
        table.add_column(name, no_wrap=True)
    for best in run.best:
        error = "" if best.stderr is None else f" ± {best.stderr:.3f}"
        score = f"{best.value:.3f}{error}"
        label = benchmarks.task(best.benchmark).label
        where = f"{best.stage} ({best.arm})" if best.arm else best.stage
        texts = (label, where, rate(best.learning_rate), str(best.batch_size), score)
        table.add_row(*map(Text, texts))
    notes = dict.fromkeys(best.note for best in run.best if best.note)
    return ["", table, *(Text(note, style="dim") for note in notes)]


@contextmanager
def live(console: Console, read: Callable[[], RunStatus]) -> Iterator[None]:
    """Keep the status below the lines that are printed; where there is no terminal, do nothing.
    What goes wrong with it is shown below the status of the last look, and ends nothing."""
    if not console.is_terminal:
        yield
        return
    shown: list[Segment] = []

    def look() -> RenderableType:
        nonlocal shown
        try:
            shown = list(console.render(status(read())))
        except Exception as error:
            problem = f"status: {type(error).__name__}: {error}; the run goes on"
            return Group(Segments(shown), Text(problem, style="dim"))
        return Segments(shown)

    with Live(console=console, get_renderable=look, refresh_per_second=1, transient=True):
        yield
