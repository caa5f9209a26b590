"""From a plan to a run folder with a report: check, run what is not done, write what was found."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from analysis.tables.run_folder import ResultsError
from sweep import terminal
from sweep.audit import run_audit
from sweep.execution import preflight, remote_run
from sweep.execution.backends import Runner, runner
from sweep.execution.job import Job, Outcome, pinned
from sweep.execution.options import Options
from sweep.execution.remote_run import StoredRun
from sweep.gridfile.schema import REFERENCE, Grid
from sweep.plan import trials
from sweep.plan.disk import full
from sweep.plan.evaluations import wanted
from sweep.plan.trials import Trial
from sweep.resolve import fetch
from sweep.resolve.fetch import CannotStart, Ready
from sweep.schedule import selection
from sweep.schedule.queue import Frontier
from sweep.schedule.retention import Keeper
from sweep.storage import manifest
from sweep.storage.events import Events
from sweep.storage.object_store import Unreachable
from sweep.storage.run_folder import RunFolder, RunHeld
from sweep.storage.status_reader import Reader
from sweep.tracking import follow
from trainers import hub
from trainers.data import prepare_process as prepare
from trainers.data import row_counts, sources
from trainers.data.prepare_process import PrepareFailed, Request
from trainers.data.row_counts import Preparation
from trainers.files import Damaged

FEW_ROWS = 20_000
"""So many of a data set are prepared in the driver's own process, where that runs trials too."""

WITHOUT_A_WORD = "the worker died (killed, or out of memory)"
CUT_OFF = "the worker died (killed, or out of memory), or could not reach the store"


def drive(
    grid: Grid, planned: list[Trial], path: Path, options: Options, console: Console
) -> Counter[str]:
    """Run what is not done and write the report; returns how many trials are in which state.

    States: ok, diverged, failed, `planned` for what has not been started, and `not asked for` for
    the cells that a search which has ended passed over.

    Raises:
        CannotStart: something that the run needs is missing and nothing was started, or its
            records cannot stand in one table.
    """
    folder = RunFolder(path)
    preflight.check_resources(grid, planned, folder, options)
    ready = fetch.ready(grid)
    events = Events(folder.events)
    driver = _Driver(grid, planned, folder, ready, options, console, events)
    may_start = driver.allowance(time.monotonic())
    try:
        with folder.lock(), remote_run.held(options.store, folder, driver.say) as run:
            if run is not None:  # a parent that was chosen elsewhere is known only now
                planned = trials.trials(grid, selection.known(grid, folder))
                driver = _Driver(grid, planned, folder, ready, options, console, events, run)
            preflight.check_unchanged(folder, ready.data)
            if not options.changed_code:
                preflight.check_code(folder, manifest.changed_code(folder))
            if run is None:
                preflight.check_disk(folder, grid, planned[: driver.total])
            with runner(grid, options, driver.needed, driver.say) as at:
                driver.write(at)
                run_audit.run(grid, folder, ready, driver.say)
                with follow.following(grid.tracking, folder.path, driver.say):
                    driver.run(at, may_start)
                    while driver.chosen():  # the next wave: trials whose parent is known now
                        planned = trials.trials(grid, selection.known(grid, folder))
                        driver = _Driver(
                            grid, planned, folder, ready, options, console, events, run
                        )
                        driver.write(at)
                        driver.run(at, may_start)
                    at.leave()
                    return driver.finish()
    except (RunHeld, Damaged, ResultsError, Unreachable) as error:
        raise CannotStart(str(error)) from error
    except Exception as error:
        cause = full(error)
        if cause is None or isinstance(error, CannotStart):
            raise
        place = getattr(cause, "filename", None) or folder.path
        raise CannotStart(f"{place}: {cause}; make room, and the same command goes on") from error


class _Driver:
    def __init__(
        self,
        grid: Grid,
        planned: list[Trial],
        folder: RunFolder,
        ready: Ready,
        options: Options,
        console: Console,
        events: Events,
        run: StoredRun | None = None,
    ):
        self.grid = grid
        self.planned = planned
        self.folder = folder
        self.ready = ready
        self.needed = hub.at(ready.needed, ready.commits)
        self.commits = ready.commits
        self.wants = wanted(grid, ready.data)
        self.keeper = Keeper(grid, planned, folder, self.wants)
        self.options = options
        self.console = console
        self.by_key = {trial.key: trial for trial in planned}
        self.outcomes: list[Outcome] = []
        self.impossible: dict[str, str] = {}
        """Stages whose parent cannot be chosen, and why."""
        self.events = events
        self.stored = run
        self.done = 0
        self.pool = None
        if grid.search is not None and options.only is None:
            from sweep.schedule.search import Pool

            self.pool = Pool(grid, planned, folder, self.wants)

    @property
    def total(self) -> int:
        """Trials that there will be in the end."""
        return self.pool.trials_wanted(self.planned) if self.pool else len(self.planned)

    @property
    def silence(self) -> str:
        """Why an attempt may have ended without a word."""
        return WITHOUT_A_WORD if self.stored is None else CUT_OFF

    def write(self, at: Runner) -> None:
        """The plan, the data and the manifest of a wave."""
        self.folder.write_plan(self.grid, self.planned)
        manifest.write(self.folder, self.grid, self.ready.data, self.wants, self.prepare(at))

    def chosen(self) -> bool:
        """Whether a parent that trials waited for has now been chosen."""
        found = selection.resolve(self.grid, self.planned, self.folder, self.wants)
        self.impossible = found.impossible
        for line in (*found.made, *found.impossible.values()):
            self.say(line)
        return bool(found.made)

    def prepare(self, at: Runner) -> list[Preparation]:
        """Tokenise, on all cores, what the pending trials read; they only open it. What they run on
        starts meanwhile.

        Raises:
            CannotStart: the data cannot be had or cannot be used.
        """
        waiting = [trial for trial in self.planned if trial.waits and self.options.only is None]
        pending = self.pending()
        jobs = [self.job(trial) for trial in [*pending, *waiting]]
        read = [job.trial.spec for job in jobs] + [w.heldout for job in jobs for w in job.wanted]
        by_batch = sorted((s for s in read if s is not None), key=lambda s: s.batch_size)
        # of those that share their data the largest batch, which has to be there
        specs = {str(row_counts.asked(spec)): spec for spec in by_batch}
        if not specs:
            return []
        model = next(job.trial.model for job in jobs if job.trial.stage != REFERENCE)
        request = Request(
            model=model.name,
            revision=model.revision,
            specs=tuple(specs.values()),
            cache=str(self.folder.data),
        )
        rows = [sources.total(spec.sources) for spec in request.specs]
        few = all(number is not None and number <= FEW_ROWS for number in rows)
        try:
            if self.options.local and few:
                found = prepare.prepare_here(request)
            else:
                with prepare.preparing(request) as prepared:
                    if pending:
                        at.join()
                    found = prepared()
        except PrepareFailed as error:
            raise CannotStart(str(error)) from error
        for line in dict.fromkeys(line for one in found for line in one.lines()):
            self.say(line)
        return found

    def run(self, at: Runner, may_start: Callable[[], bool]) -> None:
        self.keeper.look_at_all()
        self.give_up_without_weights()
        states = Counter(self.state(trial) for trial in self.planned)
        pending = self.pending()
        self.done = states["ok"] + states["diverged"]
        to_go = min(len(pending), self.total - self.done)
        self.say(f"{self.grid.name}: {self.done} of {self.total} models done, {to_go} to go")
        self.events.begun(self.planned, self.done, to_go)
        if not pending:
            return
        started = time.monotonic()
        frontier = self.frontier(pending, may_start)
        jobs = {trial.key: self.job(trial) for trial in pending}
        with terminal.live(self.console, Reader(self.folder.path).read):
            at_once = self.start(at, frontier, jobs)
        for key, parent in frontier.blocked.items():
            self.block(self.by_key[key], self.by_key[parent])
        work = [(self.by_key[one.key].stage, one) for one in self.outcomes]
        terminal.times(self.console, time.monotonic() - started, work, at_once)

    def frontier(self, pending: list[Trial], may_start: Callable[[], bool]) -> Frontier:
        def usable(key: str) -> bool:
            trial = self.by_key[key]
            folder = self.folder.trial(trial)
            return trial.spec is None or (folder.usable() and folder.has_weights())

        def may_begin() -> bool:
            if self.stored and self.stored.gone:
                self.say("the store has been out of reach for too long: no further trial begins")
                return False
            return may_start()

        if self.pool is None:
            return Frontier(pending, usable, may_begin)
        from sweep.schedule.search import SearchFrontier

        study = self.folder.path / "search" / "study.log"
        return SearchFrontier(self.pool, pending, usable, may_begin, study)

    def pending(self) -> list[Trial]:
        """What this start should run: asked for, not done, not failed too often."""
        retries = self.grid.resources.retries
        only = self.options.only
        spared = self.pool.spared() if self.pool else frozenset()
        return [
            trial
            for trial in self.planned
            if (only is None or trial.key in only)
            and not trial.waits
            and trial.key not in spared
            and self.state(trial) in ("planned", "failed")
            and not self.without_weights(trial)
            and (self.options.retry_failed or self.folder.trial(trial).failures() <= retries)
        ]

    def without_weights(self, trial: Trial) -> bool:
        """Whether a model was trained, lacks an evaluation, and was not kept."""
        folder = self.folder.trial(trial)
        marks = [want.fingerprint for want in self.wants[trial.stage]]
        gone = trial.spec is not None and folder.usable() and not folder.has_weights()
        return gone and not folder.done(marks)

    def give_up_without_weights(self) -> None:
        """Say which evaluations cannot be had, before anything runs; the others still are."""
        gone = [trial for trial in self.planned if self.without_weights(trial)]
        lacking = dict[str, list[str]]()
        for trial in gone:
            folder = self.folder.trial(trial)
            names = [
                w.benchmark for w in self.wants[trial.stage] if folder.missing([w.fingerprint])
            ]
            reason = f"its weights were not kept, so it cannot be scored on {', '.join(names)}"
            folder.log_attempt("failed", phase="start", reason=reason)
            for name in names:
                lacking.setdefault(name, []).append(f"{trial.readable} ({trial.key})")
        for name, cells in lacking.items():
            self.say(f"{name}: no weights are left of {', '.join(cells)}")
        if gone:
            self.say(
                "take these benchmarks out of the grid, or delete the folders of these trials, "
                "under trials/ of the run, to train them again"
            )

    def allowance(self, started: float) -> Callable[[], bool]:
        """Whether another trial may start under the grid's limits; counts those it lets start."""
        limits = self.grid.limits
        left = limits.max_trials if limits.max_trials is not None else len(self.planned)
        deadline = started + limits.max_hours * 3600 if limits.max_hours else float("inf")

        def may_start() -> bool:
            nonlocal left
            left -= 1
            return left >= 0 and time.monotonic() < deadline

        return may_start

    def start(self, at: Runner, frontier: Frontier, jobs: dict[str, Job]) -> dict[str, int]:
        """Run the frontier; returns how many trials of each stage fit at once."""
        if self.stored is None:
            return at.run(frontier, jobs, self)
        jobs = self.stored.with_inputs(jobs)
        at_once = at.run(frontier, jobs, self.stored.watch(self, jobs))
        self.stored.settle()
        return at_once

    def job(self, trial: Trial) -> Job:
        parent = self.by_key[trial.parent] if trial.parent else None
        evaluate = self.grid.evaluate
        if evaluate.data_dir is not None:
            absolute = str(Path(evaluate.data_dir).absolute())
            evaluate = evaluate.model_copy(update={"data_dir": absolute})
        hours = self.grid.limits.max_trial_hours
        resources = self.grid.trial_resources(trial.stage)
        job = Job(
            trial=trial,
            folder=str(self.folder.trial(trial).path),
            parent_folder=str(self.folder.trial(parent).path) if parent else None,
            data=str(self.folder.data),
            wanted=self.wants[trial.stage],
            evaluate=evaluate,
            threads=resources.threads,
            evaluation_threads=resources.evaluation_threads,
            ranks=resources.ranks,
            max_seconds=hours * 3600 if hours else None,
        )
        return pinned(job, self.commits)

    def started(self, key: str) -> None:
        self.events.started(self.by_key[key])

    def retried(self, key: str) -> None:
        trial = self.by_key[key]
        last = (self.folder.trial(trial).attempts() or [{}])[-1]
        self.events.retried(trial, last.get("reason", self.silence))

    def ended(self, ended: Outcome) -> None:
        ended = self.with_reason(ended)
        self.keeper.ended(ended.key)
        self.outcomes.append(ended)
        trial = self.by_key[ended.key]
        self.events.ended(trial, *ended[1:])
        terminal.outcome(self.console, self.done + len(self.outcomes), self.total, trial, ended)

    def with_reason(self, ended: Outcome) -> Outcome:
        """A process that died without a word gets its failure written here."""
        if ended.status != "failed" or ended.reason:
            return ended
        folder = self.folder.trial(self.by_key[ended.key])
        last = (folder.attempts() or [{}])[-1]
        if last.get("event") != "failed":
            phase = "evaluate" if folder.training() else "train"
            if self.stored and self.stored.away:
                phase = "store"  # none of the trial's own failures, which are counted
            folder.log_attempt("failed", phase=phase, reason=self.silence)
            last = {"reason": self.silence}
        return ended._replace(reason=last["reason"])

    def block(self, trial: Trial, parent: Trial) -> None:
        removed = self.folder.trial(parent).weights_removed()
        reason = f"its start {parent.readable} ({parent.key}) has no usable weights" + (
            f": they were removed ({removed}); delete its folder to train it again"
            if removed
            else ""
        )
        self.folder.trial(trial).log_attempt("failed", phase="start", reason=reason)
        self.ended(Outcome(trial.key, "failed", reason, 0.0, 0.0))

    def state(self, trial: Trial) -> str:
        if trial.waits:
            return "failed" if trial.stage in self.impossible else "planned"
        folder = self.folder.trial(trial)
        if folder.done([want.fingerprint for want in self.wants[trial.stage]]):
            return (folder.training() or {})["status"]
        return "failed" if folder.failed() else "planned"

    def finish(self) -> Counter[str]:
        from analysis.report import build

        page = build.write(self.folder.path)
        spared = self.pool.spared() if self.pool else frozenset()
        self.keeper.look_at_all(spared)
        states = Counter(
            "not asked for" if trial.key in spared else self.state(trial) for trial in self.planned
        )
        for waits in dict.fromkeys(trial.waits for trial in self.planned if trial.waits):
            self.say(f"{waits} is chosen when all of its models have their scores")
        self.say("  ".join(f"{count} {state}" for state, count in states.items()))
        if states["failed"] and not self.options.retry_failed:
            self.say("--retry-failed tries the failed ones again")
        self.say(f"report: {page}")
        self.events.finished(states)
        return states

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)
