"""How a run stands, in words: the same on the terminal and on the page."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from analysis.text import number, rate
from sweep.schedule.spending import Spent
from sweep.storage.status.reader import RunStatus, TrialStatus

CLOCKS = ("running for", "last sign")
"""Columns that change though nothing happens."""


def duration(seconds: float) -> str:
    """45 s, 2 min 05 s, 3 h 20 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def time_left(run: RunStatus) -> str:
    """About 3 min 20 s to the end (2 min 50 s to 4 min 10 s, 90 % interval)."""
    left = run.left
    if left is None:
        unknown = run.counts["running"] and run.counts["planned"]
        return "Time to the end: known once a trial of each stage has ended" if unknown else ""
    ends = f"{duration(left.low)} to {duration(left.high)}"
    about = "At most about" if left.at_most else "About"
    return f"{about} {duration(left.seconds)} to the end ({ends}, 90 % interval)"


def cost(run: RunStatus, spent: Spent | None) -> str:
    """Cost so far: 4.10 USD (3.2 GPU hours), about 6.50 USD (5.1 GPU hours) to go."""
    if spent is None or not (spent.gpu_hours or spent.cpu_hours):
        return ""
    text = f"Cost so far: {spent.words}"
    if run.left is not None:
        to_go = spent.of(run.left.gpu_seconds, run.left.cpu_seconds)
        about = "at most about" if run.left.at_most else "about"
        text += f", {about} {to_go.words} to go"
    return text


def trial(trial: TrialStatus) -> dict[str, str]:
    """The figures of a trial that runs or failed, as texts by the names of their columns."""
    tokens = trial.tokens_per_second
    return {
        "stage": trial.stage,
        "learning rate": "" if trial.learning_rate is None else rate(trial.learning_rate),
        "batch size": str(trial.batch_size or ""),
        "seed": "" if trial.seed is None else str(trial.seed),
        "now": doing(trial),
        "step": f"{trial.step}/{trial.steps or '?'}" if trial.step else "",
        "loss": "" if trial.loss is None else number(trial.loss, 3),
        "tokens/s": "" if not tokens or trial.stalled else f"{tokens:,.0f}",
        "running for": duration(trial.seconds),
        "last sign": sign(trial),
        "reason": trial.reason,
    }


def doing(trial: TrialStatus) -> str:
    if trial.state != "running":
        return trial.state
    return {"train": "training", "evaluate": "scoring"}.get(trial.phase, trial.phase)


def sign(trial: TrialStatus) -> str:
    if trial.last_sign is None:
        return ""
    return f"{'stalled: ' if trial.stalled else ''}{duration(trial.last_sign)} ago"


def about(trial: TrialStatus) -> str:
    """One line about a trial, shown where its cell is pointed at."""
    facts = [f"seed {trial.seed}" if trial.seed is not None else trial.stage, doing(trial)]
    if trial.step:
        facts.append(f"step {trial.step} of {trial.steps or '?'}")
    if trial.loss is not None:
        facts.append(f"loss {number(trial.loss, 3)}")
    if trial.tokens_per_second:
        facts.append(f"{trial.tokens_per_second:,.0f} tokens/s")
    if trial.seconds and trial.state != "running":
        facts.append(f"ran {duration(trial.seconds)}")
    return ", ".join(facts) + (f": {trial.reason}" if trial.reason else "")


def cells(trials: Iterable[TrialStatus]) -> dict[tuple[float, int], list[TrialStatus]]:
    """Trials by learning rate and batch size; those without either are left out."""
    by_cell: dict[tuple[float, int], list[TrialStatus]] = defaultdict(list)
    for trial in trials:
        if trial.learning_rate is not None and trial.batch_size is not None:
            by_cell[trial.learning_rate, trial.batch_size].append(trial)
    return by_cell


def cell_state(trials: Iterable[TrialStatus]) -> str:
    """Of a cell with several seeds: what deserves to be seen first."""
    states = {trial.state for trial in trials}
    order = ("running", "failed", "planned", "diverged", "ok")
    return next(state for state in order if state in states)


def cell_word(trials: Sequence[TrialStatus]) -> str:
    """Of a cell: planned, 62 %, scoring, diverged, 2 of 3 seeds."""
    now = cell_state(trials)
    if now == "running":
        one = next(trial for trial in trials if trial.state == "running")
        if one.phase == "evaluate":
            return "scoring"
        return f"{one.step / one.steps:.0%}" if one.step and one.steps else "starting"
    if now == "planned" and any(trial.state != "planned" for trial in trials):
        return f"{sum(trial.state != 'planned' for trial in trials)} of {len(trials)} seeds"
    return "done" if now == "ok" else now
