"""Which trials are run next, one alone or several in one pass, and what follows from what became of
them: the same in one process and on Ray."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from sweep.execution.job import ALONE, WAITS, Outcome, TrialCallback
from sweep.execution.retries import Retries
from sweep.plan.trials import Trial
from sweep.schedule.queue import TrialQueue

PREEMPTED = "preempted (SIGTERM)"
"""How the reason begins of a trial whose worker is taken away: it goes on elsewhere."""


class Handout:
    """Told by the runner what it does with the trials that it is handed."""

    def __init__(
        self,
        frontier: TrialQueue,
        retries: Retries,
        callback: TrialCallback,
        at_once: Mapping[str, int],
        say: Callable[[str], None],
    ):
        """`at_once` is how many trials of each stage fit at once."""
        self._frontier = frontier
        self._retries = retries
        self._callback = callback
        self._at_once = at_once
        self._say = say
        self._running = 0
        """Attempts, at one trial or at several."""
        self._again: deque[list[Trial]] = deque()
        """What was begun and goes on: bundles, and trials alone."""
        self._late: deque[tuple[Sequence[Trial], Callable[[], None]]] = deque()
        """Attempts that are over and whose records are not here, and what follows from each."""
        self._train_seconds: dict[str, float] = {}
        """Of trials that were handed back."""
        self._told: set[str] = set()
        pending = frontier.pending
        if pending.bundles is not None:
            for line in pending.bundles.lines(pending.trials):
                say(line)

    @property
    def exhausted(self) -> bool:
        return not self._late and not self._again and self._frontier.exhausted

    def caught_up(self) -> bool:
        """Act on attempts that are over and whose records have come; returns whether none is left.

        Raises:
            Unreachable: the records are not to be had.
        """
        for _ in range(len(self._late)):
            self._when_seen(*self._late.popleft())
        return not self._late

    def _when_seen(self, trials: Sequence[Trial], follow: Callable[[], None]) -> None:
        seen = [self._callback.seen(trial.key) for trial in trials]
        if all(seen):
            follow()
        else:
            self._late.append((trials, follow))

    def next(self) -> list[Trial]:
        """Trials for one pass, or one alone; empty where none may run now."""
        bundle = self._again.popleft() if self._again else self._ready()
        self._running += bool(bundle)
        return bundle

    def _ready(self) -> list[Trial]:
        first = self._frontier.next()
        if first is None:
            return []
        free = max(self._at_once[first.stage] - self._running, 1)
        return [first, *self._frontier.companions(first, free)]

    def back(self, bundle: list[Trial]) -> None:
        """It was not begun."""
        self._running -= 1
        self._again.append(bundle)

    def started(self, bundle: Sequence[Trial]) -> None:
        for trial in bundle:
            self._callback.started(trial.key, len(bundle))

    def goes_on(self, trials: Sequence[Trial], outcomes: Sequence[Outcome]) -> None:
        """A pass over the trials is over, and its worker does what is left to do of the first."""
        self._when_seen(trials[1:], partial(self._settle, trials[1:], outcomes[1:]))
        self._callback.seen(trials[0].key)
        self._note(trials[0], outcomes[0])
        self._callback.started(trials[0].key)

    def ended(self, trials: Sequence[Trial], outcomes: Iterable[Outcome]) -> None:
        """An attempt has ended in order; `outcomes` of the same trials."""
        self._running -= 1
        self._when_seen(trials, partial(self._settle, trials, list(outcomes)))

    def _settle(self, trials: Sequence[Trial], outcomes: Iterable[Outcome]) -> None:
        together = []
        for trial, outcome in zip(trials, outcomes, strict=True):
            if outcome.status == "stopped" and outcome.reason.startswith(PREEMPTED):
                self._callback.retried(trial.key)
                together.append(trial)
            elif outcome.is_final:
                self._end(trial, outcome)
            else:
                self._note(trial, outcome)
                if outcome.status == WAITS:
                    together.append(trial)
                else:
                    self._again.append([trial])
        if together:
            self._again.append(together)

    def failed(self, bundle: Sequence[Trial], reason: str = "") -> None:
        """An attempt has failed or died; `reason` where it is known."""
        self._running -= 1
        self._when_seen(bundle, partial(self._settle_failed, bundle, reason))

    def _settle_failed(self, bundle: Sequence[Trial], reason: str) -> None:
        if len(bundle) == 1:
            (trial,) = bundle
            if self._retries.again(trial.key):
                self._try_again([trial])
            else:
                self._end(trial, Outcome(trial.key, "failed", reason, 0.0, 0.0))
            return
        together = []
        for trial in bundle:
            if self._retries.in_another_pass(trial.key):
                together.append(trial)
            else:
                self._try_again([trial])
        if together:
            self._try_again(together)

    def _try_again(self, bundle: list[Trial]) -> None:
        for trial in bundle:
            self._callback.retried(trial.key)
        self._again.append(bundle)

    def _note(self, trial: Trial, outcome: Outcome) -> None:
        """What a pass has left of a trial; why it was not trained in it is said once."""
        self._callback.handed_back(trial.key)
        self._train_seconds[trial.key] = outcome.train_seconds
        if outcome.status == ALONE and outcome.reason not in self._told:
            self._told.add(outcome.reason)
            self._say(f"{trial.stage}: not trained in one pass with others: {outcome.reason}")

    def _end(self, trial: Trial, outcome: Outcome) -> None:
        if outcome.status in ("ok", "diverged"):
            self._retries.ended(trial.key)
        if outcome.status == "stopped":  # at a limit of the run: what waits for it goes on later
            self._frontier.stopped = True
        self._frontier.ended(trial.key)
        seconds = outcome.train_seconds + self._train_seconds.pop(trial.key, 0.0)
        self._callback.ended(outcome._replace(train_seconds=seconds))
