"""A run in the terminal: a line per trial, the live table, and how long it took."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from analysis import benchmarks
from analysis.text import number, rate, title
from sweep.execution.job import Outcome
from sweep.plan.trials import Trial
from sweep.schedule.spending import Spent
from sweep.storage.ranking import Scored
from sweep.storage.status.reader import RunStatus, TrialStatus
from sweep.terminal import words


def outcome(console: Console, number: int, total: int, trial: Trial, ended: Outcome) -> None:
    """One line, readable in a log."""
    if trial.spec is None:
        what = f"{trial.readable} (untrained)"
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
    """Counts, time, what was `spent`, a row per running trial, and the best cell of each benchmark
    so far; with `maps` also every cell of each grid."""
    counts = ", ".join(f"{number} {state}" for state, number in run.counts.items() if number)
    lines = [f"{run.name}: {counts}", words.time_left(run), words.cost(run, spent), run.driver]
    shown: list[RenderableType] = [Text(line) for line in [*lines, *run.notes] if line]
    if maps:
        shown += [part for group in _grids(run) for part in _map(*group, run)]
    return Group(*shown, *_running(run), *_bests(run))


def _grids(run: RunStatus) -> Iterator[tuple[str, str, list[TrialStatus]]]:
    groups: dict[tuple[str, str], list[TrialStatus]] = defaultdict(list)
    for trial in run.trials:
        groups[trial.stage, trial.arm].append(trial)
    for (stage, arm), trials in groups.items():
        if len(words.cells(trials)) > 1:
            yield stage, arm, trials


WIDE = 10
"""Batch sizes that fit 80 columns with a score each; of more, each cell is one sign."""

SIGNS = {"ok": "*", "diverged": "x", "failed": "!", "running": ">", "planned": "."}


def _map(stage: str, arm: str, trials: list[TrialStatus], run: RunStatus) -> list[RenderableType]:
    """Learning rates down, batch sizes across: the score of each cell, or its state."""
    cells = words.cells(trials)
    scored = {
        name: of_trials for (of, name), of_trials in run.scores.items() if of == stage and of_trials
    }
    name = next(iter(scored), "")
    sizes = sorted({size for _, size in cells})
    narrow = len(sizes) > WIDE
    what = f"{benchmarks.task(name).label}, or the state of the cell" if name else "state"
    what = ", ".join(f"{sign} {state}" for state, sign in SIGNS.items()) if narrow else what
    table = Table("LR / batch", box=None, padding=(0, 1 if narrow else 2, 0, 0))
    for size in sizes:
        table.add_column(str(size), justify="right")
    for learning_rate in sorted({at for at, _ in cells}):
        texts = [cells.get((learning_rate, size)) for size in sizes]
        row = (
            Text() if here is None else _cell(here, scored.get(name, {}), narrow) for here in texts
        )
        table.add_row(rate(learning_rate), *row)
    return ["", Text(f"{title(stage, arm)}: {what}"), table]


def _cell(trials: list[TrialStatus], scores: dict[str, Scored], narrow: bool) -> Text:
    state = words.cell_state(trials)
    values = [scores[trial.key].value for trial in trials if trial.key in scores]
    known = [value for value in values if value is not None]
    text = SIGNS[state] if narrow else words.cell_word(trials)
    if known and state == "ok" and not narrow:
        text = number(sum(known) / len(known), 3)
    return Text(text, style=STYLES[state])


STYLES = {"ok": "green", "diverged": "yellow", "failed": "red", "running": "cyan", "planned": "dim"}


def _running(run: RunStatus) -> list[RenderableType]:
    """A row for each trial that runs or failed, of the last twenty; columns that say nothing are
    left out."""
    trials = [trial for trial in run.trials if trial.state in ("running", "failed")][-20:]
    if not trials:
        return []
    shown = [words.trial(trial) for trial in trials]
    names = [name for name in shown[0] if any(row[name] for row in shown)]
    if len({trial.seed for trial in run.trials if trial.seed is not None}) < 2:
        names = [name for name in names if name != "seed"]
    if not any(trial.stalled or (trial.last_sign or 0) > QUIET_SECONDS for trial in trials):
        names = [name for name in names if name != "last sign"]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(SHORT.get(name, name), no_wrap=name != "reason")
    for row in shown:
        table.add_row(*(row[name] if name != "reason" else row[name][:200] for name in names))
    return ["", table]


QUIET_SECONDS = 20.0
"""Since the last sign of a trial, after which that is shown."""

SHORT = {"learning rate": "LR", "batch size": "batch", "running for": "for"}
"""Heads of columns, so that all of them fit 80 characters."""


def _bests(run: RunStatus) -> list[RenderableType]:
    if not run.best:
        return []
    table = Table("best so far", "stage", "LR", "batch", "score", box=None, padding=(0, 2, 0, 0))
    for best in run.best:
        error = "" if best.stderr is None else f" ± {best.stderr:.3f}"
        score = f"{best.value:.3f}{error}"
        label = benchmarks.task(best.benchmark).label
        where = f"{best.stage} ({best.arm})" if best.arm else best.stage
        table.add_row(label, where, rate(best.learning_rate), str(best.batch_size), score)
    notes = dict.fromkeys(best.note for best in run.best if best.note)
    return ["", table, *(Text(note, style="dim") for note in notes)]


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
