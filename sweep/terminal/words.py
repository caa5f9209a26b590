"""How a run stands, in words: the same on the terminal and on the page."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from textwrap import shorten
from typing import NamedTuple

from analysis.text import number, rate, title
from sweep.gridfile.keys.schema import BASE, REFERENCE
from sweep.schedule.spending import Spent
from sweep.storage.status.reader import STATES, RunStatus, TrialStatus

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


class Listed(NamedTuple):
    trials: list[TrialStatus]
    """Those that run, then those that failed."""
    rest: str
    """How many more there are, in words; "" where there are none."""


def listed(run: RunStatus, running: int, failed: int) -> Listed:
    """At most so many that run, and of those that failed the last of the plan."""
    runs = [trial for trial in run.trials if trial.state == "running"]
    fails = [trial for trial in run.trials if trial.state == "failed"]
    more = {"running": len(runs) - running, "failed": len(fails) - failed}
    rest = ", ".join(f"{count} more {state}" for state, count in more.items() if count > 0)
    return Listed([*runs[:running], *fails[-failed:]], f"and {rest}" if rest else "")


def trial(trial: TrialStatus) -> dict[str, str]:
    """The figures of a trial that runs or failed, as texts by the names of their columns."""
    tokens = trial.tokens_per_second
    return {
        "stage": _stage(trial),
        "arm": trial.arm,
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


def failure(trial: TrialStatus) -> str:
    """sft (weight_decay=0.1) LR 3e-4 batch 8 seed 0 failed after 5 min 10 s: the reason."""
    name = f"{_stage(trial)} ({trial.arm})" if trial.arm else _stage(trial)
    if trial.learning_rate is not None:
        name += f" LR {rate(trial.learning_rate)} batch {trial.batch_size} seed {trial.seed}"
    after = f" after {duration(trial.seconds)}" if trial.seconds else ""
    return f"{name} failed{after}: {shorten(trial.reason, REASON, placeholder=' ...')}"


REASON = 200
"""Characters of a reason that are shown."""


def _stage(trial: TrialStatus) -> str:
    """Of a model that is scored as it is, which one."""
    if trial.learning_rate is not None:
        return trial.stage
    return trial.folder.removesuffix(f"-{trial.key}")


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


class Group(NamedTuple):
    stage: str
    arm: str
    trials: list[TrialStatus]


def groups(run: RunStatus) -> list[Group]:
    """The trials of each stage and arm."""
    by_arm: dict[tuple[str, str], list[TrialStatus]] = defaultdict(list)
    for trial in run.trials:
        by_arm[trial.stage, trial.arm].append(trial)
    return [Group(*arm, trials) for arm, trials in by_arm.items()]


def has_map(trials: Iterable[TrialStatus]) -> bool:
    """Whether there are several cells to show."""
    return len(cells(trials)) > 1


def group(stage: str, arm: str, trials: Sequence[TrialStatus]) -> str:
    """One line for trials without a map. SFT: 2 of 3 done, 1 running."""
    name = {BASE: "The model before training", REFERENCE: "Reference models"}.get(stage)
    if len(trials) == 1:
        return f"{name or title(stage, arm)}: {cell_word(trials)}"
    states = Counter(trial.state for trial in trials)
    others = [f"{states[state]} {state}" for state in STATES if state != "ok" and states[state]]
    counts = ", ".join([f"{states['ok']} of {len(trials)} done", *others])
    return f"{name or title(stage, arm)}: {counts}"


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
        if not one.step:
            return "starting"
        if one.steps is None:
            return f"step {one.step:,}"
        return f"{min(one.step / one.steps, 0.99):.0%}"
    if now == "planned" and any(trial.state != "planned" for trial in trials):
        return f"{sum(trial.state != 'planned' for trial in trials)} of {len(trials)} seeds"
    return "done" if now == "ok" else now
