"""A run in the terminal: a line per trial, the live table, and how long it took."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sweep.execution.job import Outcome
from sweep.plan.trials import Trial
from sweep.storage.status_reader import RunStatus, TrialStatus


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
) -> None:
    """Wall time against the bound: all training and evaluation seconds, each shared by as many
    trials of its stage as fit at once."""
    seconds = [(stage, ended.train_seconds + ended.eval_seconds) for stage, ended in work]
    used = sum(spent for _, spent in seconds)
    bound = sum(spent / at_once[stage] for stage, spent in seconds)
    slots = max(at_once.values())
    console.print(
        f"Took {wall_seconds:.0f} s. Trials used {used:.0f} s on {slots} slot{'s' * (slots != 1)} "
        f"({bound:.0f} s at best); the rest was start-up and waiting",
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
    columns = ("stage", "lr", "bs", "seed", "", "step", "loss", "steps/s", "last sign", "")
    table = Table(*columns, box=None)
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
