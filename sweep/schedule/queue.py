"""Which trial may run next: one whose parent's weights are there, or whose own are."""

from collections.abc import Callable, Iterable
from functools import cache

from sweep.plan.trials import Trial


class TrialQueue:
    """Hands out pending trials in order as their parents become usable; each exactly once."""

    def __init__(
        self,
        pending: Iterable[Trial],
        usable: Callable[[str], bool],
        may_start: Callable[[], bool] = lambda: True,
        affords: Callable[[Trial], bool] = lambda trial: True,
    ):
        """`usable(key)` says whether a trial's weights exist, perhaps while it is still scored.

        `may_start()` is called for each trial about to be handed out; after its first False the
        queue stops. `affords(trial)` is called before it: where it says no, the trial waits for
        those that run, which may take less than was expected, and stops the queue where none does.
        """
        trials = list(pending)
        parents = {trial.parent for trial in trials}
        # Parents first, since others wait for them; the sort keeps the order of the rest.
        trials.sort(key=lambda trial: trial.key not in parents)
        self.waiting = {trial.key: trial for trial in trials}
        self.running: set[str] = set()
        self.blocked: dict[str, str] = {}
        """Trials that cannot run -> the parent whose weights are missing."""
        self.stopped = False
        self._before: dict[str, bool] = {}
        """Waiting parents -> whether an earlier start left their weights."""
        self._usable = usable
        self._may_start = may_start
        self._affords = affords
        self.held_back = False
        """Whether the next trial waits until more can be afforded."""

    def next(self) -> Trial | None:
        """The next trial that may run; None where none can now, or none ever will (`exhausted`)."""
        usable = cache(self._has_weights)  # thousands may have one parent
        for trial in list(self.waiting.values()):
            if trial.parent is None or usable(trial.parent):
                return self._hand_out(trial)
            if self._is_lost(trial.parent):
                if self._usable(trial.key):  # trained before, and lacks scores alone
                    return self._hand_out(trial)
                self._block(trial)
        return None

    def ended(self, key: str) -> None:
        self.running.discard(key)

    @property
    def exhausted(self) -> bool:
        return self.stopped or not self.waiting

    def _is_lost(self, parent: str) -> bool:
        """Whether a parent without weights will have none."""
        return parent in self.blocked or (parent not in self.waiting and parent not in self.running)

    def _has_weights(self, parent: str) -> bool:
        """The answer for a parent that waits itself cannot change, so it is looked up once."""
        if parent not in self.waiting:
            return self._usable(parent)
        if parent not in self._before:
            self._before[parent] = self._usable(parent)
        return self._before[parent]

    def _hand_out(self, trial: Trial) -> Trial | None:
        affords = self._affords(trial)
        self.held_back = not affords and bool(self.running)
        if self.held_back:
            return None
        self.stopped = self.stopped or not affords or not self._may_start()
        if self.stopped:
            return None
        del self.waiting[trial.key]
        self.running.add(trial.key)
        return trial

    def _block(self, trial: Trial) -> None:
        del self.waiting[trial.key]
        self.blocked[trial.key] = trial.parent or ""
