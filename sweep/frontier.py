"""Which trial may run next: one whose parent's weights are there."""

from collections.abc import Callable, Iterable

from sweep.plan import Trial


class Frontier:
    """Hands out pending trials in order as their parents become usable; each exactly once."""

    def __init__(self, pending: Iterable[Trial], usable: Callable[[str], bool]):
        """`usable(key)` says whether a trial outside `pending` has ended training well."""
        self.waiting = {trial.key: trial for trial in pending}
        self.running: set[str] = set()
        self.blocked: dict[str, str] = {}
        """Trials that cannot run, with the parent that is why."""
        self._usable = usable

    def next(self) -> Trial | None:
        """The next trial that may run; None when there is none now, or none any more
        (`exhausted`)."""
        for trial in list(self.waiting.values()):
            if trial.parent in self.blocked:
                self._block(trial)
            elif trial.parent is None or self._ready(trial.parent):
                del self.waiting[trial.key]
                self.running.add(trial.key)
                return trial
            elif trial.parent not in self.waiting and trial.parent not in self.running:
                self._block(trial)
        return None

    def ended(self, key: str) -> None:
        self.running.discard(key)

    @property
    def exhausted(self) -> bool:
        return not self.waiting

    def _ready(self, parent: str) -> bool:
        return parent not in self.waiting and parent not in self.running and self._usable(parent)

    def _block(self, trial: Trial) -> None:
        del self.waiting[trial.key]
        self.blocked[trial.key] = trial.parent or ""
