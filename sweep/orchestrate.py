"""The phases of a run: plan a wave, prepare its data, execute it, report.

A run has one `Orchestrator` (`sweep/drive.py`) and, where a stage starts from the best model of
another, several waves: each plans the trials whose parent is known by then.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from sweep.execution import failures
from sweep.execution.backends.runner import Runner
from sweep.execution.job import Job, Outcome, make
from sweep.execution.prepare_data import prepare_data
from sweep.execution.remote_driver import RemoteRun
from sweep.options import Options
from sweep.plan import trials
from sweep.plan.bundles import Bundles
from sweep.plan.reference_passes import ReferencePass
from sweep.plan.trials import Trial
from sweep.plan.widen import widened
from sweep.price import calibration_file, money
from sweep.resolve.resolve import ResolvedGrid
from sweep.schedule import selection, spending
from sweep.schedule.allowance import Allowance
from sweep.schedule.pools.of_grid import pool
from sweep.schedule.progress import Progress
from sweep.schedule.queue import Pending, TrialQueue
from sweep.schedule.reference_passes import ReferencePasses
from sweep.schedule.retention import WeightRetention
from sweep.storage import manifest
from sweep.storage.driver_lock import FolderLock
from sweep.storage.events import Events
from sweep.storage.run_folder import RunFolder
from sweep.storage.run_log import RunConsole
from sweep.storage.status.reader import Reader
from sweep.terminal import answer, progress


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
        self.say = console.say
        self.stored = stored
        self.lock = lock
        self.events = Events(folder.events)
        self.progress = Progress(resolved, folder, options)
        self.retention = WeightRetention(resolved.grid, folder, resolved.evaluations)
        self.passes = ReferencePasses(resolved, folder, options.retry_failed)
        self.allowance = Allowance(resolved.grid, spending.Spending(resolved.grid, folder))
        self.measured = calibration_file.read(folder.calibration, resolved.grid, self.say)
        self.only = options.only or frozenset()
        self.plan_wave()

    def plan_wave(self) -> None:
        """Plan the trials whose parent is known now."""
        grid = self.resolved.grid
        known = selection.known(grid, self.folder)
        self.planned = self.folder.kept(trials.trials(widened(grid), known))
        self.choosing = (grid, self.planned, self.folder, self.resolved.evaluations)
        self.by_key = {trial.key: trial for trial in self.planned}
        self.retention.follow(self.planned)
        self.allowance.expect(
            *money.to_come(grid, self.planned, self.measured, self.progress.part_done)
        )
        self.outcomes: list[Outcome] = []
        self.pool = pool(grid, self.planned, self.folder, self.resolved.evaluations)

    @property
    def total(self) -> int:
        """Trials that there will be in the end."""
        return self.pool.total(self.planned) if self.pool else len(self.planned)

    @property
    def passed_over(self) -> frozenset[str]:
        """Keys of cells that a search which has ended never asked for, nor `--only`."""
        return self.pool.passed_over() - self.only if self.pool else frozenset()

    @property
    def shown(self) -> list[Trial]:
        """The planned trials that stand in plan.csv."""
        keys = {t.key for t in self.pool.shown(self.planned)} | self.only if self.pool else None
        return [t for t in self.planned if keys is None or t.key in keys]

    def pending(self) -> list[Trial]:
        return self.progress.pending(self.planned, self.passed_over)

    def prepare(self, backend: Runner) -> None:
        """Write the plan, tokenise the data of pending trials, and write the manifest."""
        waiting = [t for t in self.planned if t.waits and not self.only]
        pending = self.pending()
        jobs = [self.job(trial) for trial in [*pending, *waiting]]
        stages, cache = self.resolved.pinned.stages, self.folder.data
        meanwhile = backend.join if pending else lambda: None
        preparations = prepare_data(jobs, stages, cache, self.options.local, meanwhile)
        for line in dict.fromkeys(line for p in preparations for line in p.lines()):
            self.say(line)
        self.folder.write_plan(self.resolved.grid, self.shown)  # a refusal leaves no folders
        most = self.pool.most(self.planned) if self.pool else {}
        manifest.write(self.folder, self.resolved, preparations, most)

    def execute(self, backend: Runner) -> None:
        """Run the pending trials of this wave."""
        self.retention.look_at_all()
        for line in self.progress.note_missing_weights(self.planned):
            self.say(line)
        states = Counter(self.progress.state(trial) for trial in self.planned)
        pending = self.pending()
        self.done = states["ok"] + states["diverged"]
        to_go = len(pending) if self.only else min(len(pending), self.total - self.done)
        self.say(
            f"{self.resolved.grid.name}: {self.done} of {self.total} models done, {to_go} to go"
        )
        self.events.begun(self.shown, self.done, to_go, self.progress.failed(pending))
        if not pending:
            return
        started, began = time.monotonic(), time.time()
        passes = self.passes.of(pending, self.by_key)
        self.by_key |= passes.by_key
        pending = [*passes.to_run, *pending]
        queue = self.queue(pending, passes.needs)
        with progress.live(self.console, Reader(self.folder.path).read):
            at_once = self.start(backend, queue, {t.key: self.job(t) for t in pending})
        for key in [key for key in queue.blocked if key not in passes.by_key]:
            self.block(self.by_key[key], self.by_key[queue.blocked[key]])
        work = [(self.by_key[outcome.key].stage, outcome) for outcome in self.outcomes]
        lost = failures.lost_seconds(map(self.folder.trial, pending), began)
        progress.times(self.console, time.monotonic() - started, work, at_once, lost)

    def start(self, backend: Runner, queue: TrialQueue, jobs: dict[str, Job]) -> dict[str, int]:
        """Run the queue; returns how many trials of each stage fit at once."""
        if self.stored is None:
            return backend.run(queue, jobs, self)
        jobs = self.stored.with_inputs(jobs)
        return backend.run(queue, jobs, self.stored.callback(self, jobs))

    def queue(
        self, pending: list[Trial], needs: Mapping[str, Sequence[str]] | None = None
    ) -> TrialQueue:
        """`needs` has the keys of the reference passes that trials wait for."""

        def usable(key: str) -> bool:
            trial = self.by_key[key]
            passes = isinstance(trial, ReferencePass)
            return self.passes.done(trial, self.by_key) if passes else self.progress.usable(trial)

        def may_start(trial: Trial) -> bool:
            if isinstance(trial, ReferencePass):  # no trial, where limits count them
                return not self.allowance.reached()
            return self.allowance.begin(trial)

        def affords(trial: Trial) -> bool:
            return not (self.stored and self.stored.holds_back()) and self.allowance.affords(trial)

        asks = (usable, may_start, affords, self.chose)
        waiting = Pending(pending, *asks, needs or {}, Bundles(self.resolved.grid), self.told)
        if self.pool is None or self.only:
            return TrialQueue(waiting)
        return self.pool.queue(waiting)

    def chose(self, trial: Trial, reason: str) -> None:
        """A trial that was not in the plan is, from now on, with what starts from it."""
        assert self.pool is not None, "a pool has chosen it"
        fresh = self.pool.beside(trial, self.planned)
        self.folder.extend_plan(self.shown, fresh)
        if self.stored is not None:  # the further nodes of a trial wait for its identity
            self.stored.push_trials(*(f"trials/{one.folder}" for one in fresh))
        self.events.chosen(trial, reason)

    def told(self, line: str) -> None:
        if self.events.screened(line):
            self.say(line)

    def choose_parents(self) -> bool:
        """Choose parents whose candidates all have their scores; returns whether any was chosen."""
        choices = selection.resolve(*self.choosing)
        self.progress.impossible = choices.impossible
        surpassed = [] if choices.made else selection.surpassed(*self.choosing)
        for line in (*choices.made, *choices.impossible.values(), *surpassed):
            self.say(line)
        return bool(choices.made)

    def job(self, trial: Trial) -> Job:
        parent = self.by_key[trial.parent] if trial.parent else None
        return make(trial, parent, self.resolved, self.folder)

    def started(self, key: str, lanes: int = 1) -> None:
        self.lock.check()
        trial = self.by_key[key]
        self.allowance.started(trial, lanes)
        if not isinstance(trial, ReferencePass):
            self.events.started(trial)

    def sees(self) -> bool:
        return self.stored is None or not self.stored.away

    def seen(self, key: str) -> bool:
        return True

    def handed_back(self, key: str) -> None:
        self.lock.check()
        self.allowance.handed_back(key)

    def retried(self, key: str) -> None:
        self.allowance.retried(key)
        trial = self.by_key[key]
        last = (self.folder.trial(trial).attempts() or [{}])[-1]
        if not isinstance(trial, ReferencePass):
            self.events.retried(trial, last.get("reason", self.reason_unrecorded))

    def died(self, key: str) -> None:
        self.lock.check()
        self.with_reason(Outcome(key, "failed", "", 0.0, 0.0))

    def ended(self, ended: Outcome) -> None:
        self.lock.check()
        trial = self.by_key[ended.key]
        ended = failures.with_seconds(self.with_reason(ended), self.folder.trial(trial))
        self.outcomes.append(ended)
        if isinstance(trial, ReferencePass):
            self.allowance.ended(ended.key, whole=False)
            self.say(self.passes.line(trial, ended.status, ended.reason))
            return
        self.allowance.ended(ended.key, whole=ended.status == "ok")
        self.retention.ended(ended.key)
        self.done += 1
        self.events.ended(trial, *ended[1:])
        progress.outcome(self.console, self.done, self.total, trial, self.by_key, ended)

    @property
    def reason_unrecorded(self) -> str:
        """Of an attempt that ended and recorded no reason."""
        return failures.unrecorded(self.stored is not None)

    def with_reason(self, ended: Outcome) -> Outcome:
        """Record the failure of a process that died before it could."""
        if ended.status != "failed" or ended.reason:
            return ended
        folder = self.folder.trial(self.by_key[ended.key])
        last = (folder.attempts() or [{}])[-1]
        if last.get("event") not in ("failed", "stopped", "superseded"):
            away = self.stored and self.stored.lately_away  # counts against none of its retries
            facts = {"died": True, "progress": folder.progress()}
            last = {"reason": self.reason_unrecorded, "phase": "store" if away else folder.phase}
            folder.log_attempt("failed", **last, **facts)
        return ended._replace(reason=last["reason"])

    def block(self, trial: Trial, start: Trial) -> None:
        """Record that a trial cannot run since what it starts from is not usable."""
        passes = isinstance(start, ReferencePass)
        reason = self.passes.why_missing(start) if passes else self.progress.why_unusable(start)
        self.folder.trial(trial).log_attempt("failed", phase="start", reason=reason)
        self.ended(Outcome(trial.key, "failed", reason, 0.0, 0.0))

    def report(self) -> Counter[str]:
        """Write the report; returns how many trials are in which state."""
        from analysis.report import build

        if self.pool is not None and not self.only:
            if stop := self.pool.verdict(self.progress.goes_on):
                self.say(stop.reason)  # here, as an earlier start may have died before it did
                self.events.decided(stop.reason, stop.by, self.pool.trials)
            for line in self.pool.news():
                self.told(line)
        spent = spending.write(self.folder.path)
        self.lock.check()
        page = build.write(self.folder.path)
        passed_over = self.passed_over
        self.retention.look_at_all(passed_over)
        states = Counter(self.progress.standing(trial, passed_over) for trial in self.shown)
        states += self.pool.to_come() if self.pool and not self.only else Counter()
        for line in selection.awaited(*self.choosing):
            self.say(line)
        self.say("  ".join(f"{count} {state}" for state, count in states.items()))
        if spent.cost is not None:
            self.say(f"cost so far: {spent.words}")
        ended_by = self.allowance.ended_by() if states["planned"] else ""
        if ended_by:
            self.say(ended_by)
        if states["failed"] and any(self.progress.may_mend(t, self.by_key) for t in self.shown):
            self.say("the log of a failed trial is log.txt in its folder under trials/")
            if not self.options.retry_failed:
                self.say("--retry-failed tries the failed ones again")
        answer.show(self.console, self.folder.path)
        self.say(f"report: {page}")
        self.events.finished(states, ended_by)
        return states
