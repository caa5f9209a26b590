"""Which trial may run next: one whose parent's weights are there, or whose own are."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from sweep.plan.bundles import Bundles
from sweep.plan.trials import Trial


@dataclass(frozen=True)
class Pending:
    """The trials of a queue, and what it asks before it hands one out."""

    trials: Sequence[Trial]
    usable: Callable[[str], bool]
    """Whether a trial's weights exist, perhaps while it is still scored; of a reference pass,
    whether its results do."""
    may_start: Callable[[Trial], bool] = lambda trial: True
    """Called for each trial about to be handed out; after its first False the queue stops."""
    affords: Callable[[Trial], bool] = lambda trial: True
    """Called before that: where it says no, the trial waits for those that run, which may take less
    than was expected, and stops the queue where none does."""
    chose: Callable[[Trial, str], None] = lambda trial, reason: None
    """Told of each trial that was not in the plan and is handed out, with its reason."""
    needs: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Keys of what a trial needs beside its parent's weights."""
    bundles: Bundles | None = None
    """Which of them may be trained in one pass; None where each is trained alone."""
    told: Callable[[str], None] = lambda line: None
    """Told in a sentence what else came of results."""

    def starts(self, trial: Trial) -> list[str]:
        """Keys of all that has to be usable before the trial runs."""
        parent = [] if trial.parent is None else [trial.parent]
        return [*parent, *self.needs.get(trial.key, ())]


class TrialQueue:
    """Hands out pending trials in order as their parents become usable; each exactly once."""

    def __init__(self, pending: Pending):
        trials = list(pending.trials)
        first = {start for trial in trials for start in pending.starts(trial)}
        # Others wait for them; the sort keeps the order of the rest.
        trials.sort(key=lambda trial: trial.key not in first)
        self.pending = pending
        self.waiting = {trial.key: trial for trial in trials}
        self.running: set[str] = set()
        self.blocked: dict[str, str] = {}
        """Trials that cannot run -> the start that is missing."""
        self.stopped = False
        """Whether none is handed out any more, as a limit of the run is reached."""
        self._before: dict[str, bool] = {}
        """Waiting starts -> whether an earlier start of the command left them usable."""
        self.held_back = False
        """Whether the next trial waits until more can be afforded."""

    def next(self) -> Trial | None:
        """The next trial that may run; None where none can now, or none ever will (`exhausted`)."""
        if self.stopped:
            return None
        usable = cache(self._is_usable)  # thousands may have one parent
        for trial in list(self.waiting.values()):
            missing = [start for start in self.pending.starts(trial) if not usable(start)]
            if not missing:
                return self._hand_out(trial)
            if lost := next(filter(self._is_lost, missing), None):
                if self.pending.usable(trial.key):  # trained before, and lacks scores alone
                    return self._hand_out(trial)
                del self.waiting[trial.key]
                self.blocked[trial.key] = lost
        return None

    def companions(self, lead: Trial, free: int) -> list[Trial]:
        """Trials to be trained in one pass with `lead`, which has just been handed out; they are
        handed out with it. `free` slots wait for a trial, the one for `lead` among them."""
        rule = self.pending.bundles
        own = None if rule is None else rule.key(lead)
        if rule is None or own is None or self.pending.usable(lead.key):
            return []
        usable = cache(self._is_usable)
        ready = [t for t in self.waiting.values() if all(map(usable, self.pending.starts(t)))]
        alike = [t for t in ready if rule.key(t) == own and not self.pending.usable(t.key)]
        size = rule.size(lead, 1 + len(alike), 1 + len(ready), free)
        given = []
        for trial in alike[: size - 1]:
            if self._hand_out(trial) is None:
                break
            given.append(trial)
        return given

    def ended(self, key: str) -> None:
        self.running.discard(key)

    @property
    def exhausted(self) -> bool:
        return self.stopped or not self.waiting

    @property
    def to_come(self) -> int:
        """How many it hands out yet, at most."""
        return 0 if self.stopped else len(self.waiting)

    def _is_lost(self, start: str) -> bool:
        """Whether one that is not usable will never be."""
        return start in self.blocked or (start not in self.waiting and start not in self.running)

    def _is_usable(self, start: str) -> bool:
        """The answer for a start that waits itself cannot change, so it is looked up once."""
        if start not in self.waiting:
            return self.pending.usable(start)
        if start not in self._before:
            self._before[start] = self.pending.usable(start)
        return self._before[start]

    def _hand_out(self, trial: Trial) -> Trial | None:
        affords = self.pending.affords(trial)
        self.held_back = not affords and bool(self.running)
        if self.held_back:
            return None
        self.stopped = self.stopped or not affords or not self.pending.may_start(trial)
        if self.stopped:
            return None
        del self.waiting[trial.key]
        self.running.add(trial.key)
        return trial
