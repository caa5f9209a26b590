"""A run from its plan to its report: check, resolve, prepare, execute, report.

A run has one `Orchestrator` and, where a stage starts from the best model of another, several
waves: each plans the trials whose parent is known by then.
"""

import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from analysis.tables.run_folder import ResultsError
from sweep.audit import run_audit
from sweep.execution import calibrate, preflight, remote_driver
from sweep.execution.backends.runner import Runner, runner
from sweep.execution.job import Job, Outcome, make
from sweep.execution.prepare_data import prepare_data
from sweep.execution.remote_driver import RemoteRun
from sweep.gridfile.schema import Grid
from sweep.options import Options
from sweep.page import browser, live
from sweep.plan import money, trials
from sweep.plan.disk import full
from sweep.plan.trials import Trial
from sweep.plan.widen import widened
from sweep.resolve.resolve import CannotStart, ResolvedGrid, resolve
from sweep.schedule import selection, spending
from sweep.schedule.allowance import Allowance
from sweep.schedule.pool import Pool
from sweep.schedule.progress import Progress
from sweep.schedule.queue import TrialQueue
from sweep.schedule.retention import WeightRetention
from sweep.schedule.spending import Spending
from sweep.storage import leftovers, manifest
from sweep.storage.driver_lock import FolderLock, RunHeld
from sweep.storage.events import Events
from sweep.storage.object_store import Unreachable
from sweep.storage.run_folder import RunFolder, plan_csv
from sweep.storage.run_log import RunConsole
from sweep.storage.status_reader import Reader
from sweep.terminal import answer, progress
from sweep.tracking import follow, notify
from trainers.files import Damaged

WORKER_DIED = "the worker died (killed, or out of memory)"
WORKER_DIED_OR_CUT_OFF = "the worker died (killed, or out of memory), or could not reach the store"


def drive(
    grid: Grid, planned: list[Trial], path: Path, options: Options, console: RunConsole
) -> Counter[str]:
    """Run what is not done and write the report; returns how many trials are in which state.

    States: `ok`, `diverged`, `failed`, `planned` for what has not been started, and `not asked for`
    for the cells that a search which has ended passed over.

    Raises:
        CannotStart: something that the run needs is missing and nothing was started, or its
            records cannot stand in one table.
    """
    folder = RunFolder(path)
    at_once = preflight.check_resources(grid, planned, folder, options)
    resolved = resolve(grid)
    say = partial(_print, console)
    try:
        with (
            folder.lock(say) as lock,
            remote_driver.held(options.store, folder, say) as stored,
            console.kept_in(folder.path),
        ):
            leftovers.remove(folder.path)
            run = Orchestrator(resolved, folder, options, console, stored, lock)
            preflight.check_unchanged(folder, resolved.fingerprints)
            if not options.changed_code:
                preflight.check_code(folder, manifest.changed_code(folder))
            if stored is None:
                preflight.check_disk(folder, grid, run.planned[: run.total], at_once)
            reached = run.allowance.reached
            with (
                live.drawn(folder, plan_csv(run.shown), say) as page,
                runner(grid, options, resolved.needed, reached, say) as backend,
            ):
                if run.pending():
                    say(f"page: {page.path} fills while trials run")
                    show = partial(browser.show, say=say) if options.open_page else None
                    page.begin("Preparing the data", show)
                run.prepare(backend)
                page.note("")
                run_audit.run(resolved, folder, say)
                with (
                    notify.following(grid, folder.path, say),
                    follow.following(grid.tracking, folder.path, say),
                ):
                    run.execute(backend)
                    while run.choose_parents():
                        run.plan_wave()
                        run.prepare(backend)
                        run.execute(backend)
                    backend.leave()
                    states = run.report()
                    if options.open_page and not page.begun:
                        browser.show(page.path, say)
                    return states
    except (RunHeld, Damaged, ResultsError, Unreachable) as error:
        raise CannotStart(str(error)) from error
    except Exception as error:
        no_room = full(error)
        if isinstance(error, CannotStart) or not (no_room or isinstance(error, OSError)):
            raise
        path = getattr(no_room or error, "filename", None) or folder.path
        advice = "make room" if no_room else "mend it"
        raise CannotStart(
            f"{path}: {no_room or error}; {advice}, and the same command continues"
        ) from error


class Orchestrator:
    """The run as its driver sees it; it is told by the backend what becomes of trials."""

    def __init__(
        self,
        resolved: ResolvedGrid,
        folder: RunFolder,
        options: Options,
        console: RunConsole,
        stored: RemoteRun | None,
        lock: FolderLock,
    ):
        self.resolved = resolved
        self.folder = folder
        self.options = options
        self.console = console
        self.stored = stored
        self.lock = lock
        self.events = Events(folder.events)
        self.progress = Progress(resolved, folder, options)
        self.retention = WeightRetention(resolved.grid, folder, resolved.evaluations)
        self.allowance = Allowance(resolved.grid, Spending(resolved.grid, folder))
        self.outcomes: list[Outcome] = []
        self.done = 0
        self.pool: Pool[Any] | None = None
        self.plan_wave()

    def plan_wave(self) -> None:
        """Plan the trials whose parent is known now."""
        grid = self.resolved.grid
        self.planned = trials.trials(widened(grid), selection.known(grid, self.folder))
        if grid.decide is not None and self.options.only is not None:
            self.planned = [t for t in self.planned if t.key in self.options.only]
        self.by_key = {trial.key: trial for trial in self.planned}
        self.retention.follow(self.planned)
        self.allowance.expect(money.expected(grid, self.planned, calibrate.read(self.folder.path)))
        self.outcomes = []
        if grid.search is not None and self.options.only is None:
            from sweep.schedule.search_queue import SearchPool

            self.pool = SearchPool(grid, self.planned, self.folder, self.resolved.evaluations)
        elif grid.decide is not None and self.options.only is None:
            from sweep.schedule.decide import DecidePool

            self.pool = DecidePool(grid, self.planned, self.folder, self.resolved.evaluations)

    @property
    def total(self) -> int:
        """Trials that there will be in the end."""
        return self.pool.total(self.planned) if self.pool else len(self.planned)

    @property
    def passed_over(self) -> frozenset[str]:
        """Keys of cells that a search which has ended never asked for."""
        return self.pool.passed_over() if self.pool else frozenset()

    @property
    def shown(self) -> list[Trial]:
        """The planned trials that stand in plan.csv."""
        return self.pool.shown(self.planned) if self.pool else self.planned

    def pending(self) -> list[Trial]:
        return self.progress.pending(self.planned, self.passed_over)

    def prepare(self, backend: Runner) -> None:
        """Write the plan, tokenise the data of pending trials, and write the manifest."""
        waiting = [t for t in self.planned if t.waits and self.options.only is None]
        pending = self.pending()
        preparations = prepare_data(
            [self.job(trial) for trial in [*pending, *waiting]],
            self.folder.data,
            self.options.local,
            meanwhile=backend.join if pending else lambda: None,
        )
        for line in dict.fromkeys(line for p in preparations for line in p.lines()):
            self.say(line)
        self.folder.write_plan(self.resolved.grid, self.shown)  # a refusal leaves no folders
        manifest.write(self.folder, self.resolved, preparations)

    def execute(self, backend: Runner) -> None:
        """Run the pending trials of this wave."""
        self.retention.look_at_all()
        for line in self.progress.note_missing_weights(self.planned):
            self.say(line)
        states = Counter(self.progress.state(trial) for trial in self.planned)
        pending = self.pending()
        self.done = states["ok"] + states["diverged"]
        to_go = min(len(pending), self.total - self.done)
        name = self.resolved.grid.name
        self.say(f"{name}: {self.done} of {self.total} models done, {to_go} to go")
        self.events.begun(self.shown, self.done, to_go)
        if not pending:
            return
        started = time.monotonic()
        queue = self.queue(pending)
        with progress.live(self.console, Reader(self.folder.path).read):
            at_once = self.start(backend, queue, {t.key: self.job(t) for t in pending})
        for key, parent in queue.blocked.items():
            self.block(self.by_key[key], self.by_key[parent])
        if self.pool is not None and (line := self.pool.verdict()):
            self.say(line)
            self.events.decided(line)
        work = [(self.by_key[outcome.key].stage, outcome) for outcome in self.outcomes]
        progress.times(self.console, time.monotonic() - started, work, at_once)

    def start(self, backend: Runner, queue: TrialQueue, jobs: dict[str, Job]) -> dict[str, int]:
        """Run the queue; returns how many trials of each stage fit at once."""
        if self.stored is None:
            return backend.run(queue, jobs, self)
        jobs = self.stored.with_inputs(jobs)
        at_once = backend.run(queue, jobs, self.stored.callback(self, jobs))
        self.stored.settle()
        return at_once

    def queue(self, pending: list[Trial]) -> TrialQueue:
        def usable(key: str) -> bool:
            return self.progress.usable(self.by_key[key])

        def store_answers() -> bool:
            if self.stored and self.stored.gone:
                self.say("the store has been out of reach for too long: no further trial begins")
                return False
            return self.allowance.begin()

        affords = self.allowance.affords
        if self.pool is None:
            return TrialQueue(pending, usable, store_answers, affords)
        return self.pool.queue(pending, usable, store_answers, affords, self.chose)

    def chose(self, trial: Trial, reason: str) -> None:
        """A trial that was not in the plan is, from now on."""
        self.folder.write_plan(self.resolved.grid, self.shown)
        self.events.chosen(trial, reason)

    def choose_parents(self) -> bool:
        """Choose parents whose candidates all have their scores; returns whether any was chosen."""
        grid, evaluations = self.resolved.grid, self.resolved.evaluations
        choices = selection.resolve(grid, self.planned, self.folder, evaluations)
        self.progress.impossible = choices.impossible
        for line in (*choices.made, *choices.impossible.values()):
            self.say(line)
        return bool(choices.made)

    def job(self, trial: Trial) -> Job:
        parent = self.by_key[trial.parent] if trial.parent else None
        return make(trial, parent, self.resolved, self.folder)

    def started(self, key: str) -> None:
        self.lock.check()
        self.allowance.started(self.by_key[key])
        self.events.started(self.by_key[key])

    def retried(self, key: str) -> None:
        self.allowance.ended(key, whole=False)
        trial = self.by_key[key]
        last = (self.folder.trial(trial).attempts() or [{}])[-1]
        self.events.retried(trial, last.get("reason", self.reason_unrecorded))

    def died(self, key: str) -> None:
        self.lock.check()
        self.with_reason(Outcome(key, "failed", "", 0.0, 0.0))

    def ended(self, ended: Outcome) -> None:
        self.lock.check()
        ended = self.with_reason(ended)
        self.allowance.ended(ended.key, whole=ended.status == "ok")
        self.retention.ended(ended.key)
        self.outcomes.append(ended)
        trial = self.by_key[ended.key]
        self.events.ended(trial, *ended[1:])
        progress.outcome(self.console, self.done + len(self.outcomes), self.total, trial, ended)

    @property
    def reason_unrecorded(self) -> str:
        """Of an attempt that ended and recorded no reason."""
        return WORKER_DIED if self.stored is None else WORKER_DIED_OR_CUT_OFF

    def with_reason(self, ended: Outcome) -> Outcome:
        """Record the failure of a process that died before it could."""
        if ended.status != "failed" or ended.reason:
            return ended
        folder = self.folder.trial(self.by_key[ended.key])
        last = (folder.attempts() or [{}])[-1]
        if last.get("event") not in ("failed", "stopped", "superseded"):
            phase = "evaluate" if folder.training() else "train"
            if self.stored and self.stored.away:
                phase = "store"  # does not count against the trial's retries
            folder.log_attempt(
                "failed",
                phase=phase,
                reason=self.reason_unrecorded,
                died=True,
                progress=folder.progress(),
            )
            last = {"reason": self.reason_unrecorded}
        return ended._replace(reason=last["reason"])

    def block(self, trial: Trial, parent: Trial) -> None:
        """Record that a trial cannot run since its parent has no usable weights."""
        reason = f"its start {parent.readable} ({parent.key}) has no usable weights"
        if removed := self.folder.trial(parent).weights_removed():
            reason += f": they were removed ({removed}); delete its folder to train it again"
        self.folder.trial(trial).log_attempt("failed", phase="start", reason=reason)
        self.ended(Outcome(trial.key, "failed", reason, 0.0, 0.0))

    def report(self) -> Counter[str]:
        """Write the report; returns how many trials are in which state."""
        from analysis.report import build

        spent = spending.write(self.folder.path)
        self.lock.check()
        page = build.write(self.folder.path)
        passed_over = self.passed_over
        self.retention.look_at_all(passed_over)
        states = Counter(
            "not asked for" if trial.key in passed_over else self.progress.state(trial)
            for trial in self.shown
        )
        if self.pool is not None:
            states += self.pool.to_come()
        for choice in dict.fromkeys(trial.waits for trial in self.planned if trial.waits):
            self.say(f"{choice} is chosen when all of its models have their scores")
        self.say("  ".join(f"{count} {state}" for state, count in states.items()))
        if spent.cost is not None:
            self.say(f"cost so far: {spent.words}")
        if states["failed"]:
            self.say("the log of a failed trial is log.txt in its folder under trials/")
            if not self.options.retry_failed:
                self.say("--retry-failed tries the failed ones again")
        answer.show(self.console, self.folder.path)
        self.say(f"report: {page}")
        self.events.finished(states)
        return states

    def say(self, line: str) -> None:
        _print(self.console, line)


def _print(console: RunConsole, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
