"""Trials that differ in the numbers of their optimizer alone, trained in one pass (trainers/lanes).

The pass comes before the trials themselves (`trial.run`): what it has trained they find trained,
and what it has not, for whatever reason, they train one by one, each from its own checkpoint. So a
pass that fails costs its time and nothing else; one that fails of its machine may be tried again.
Each trial has an attempt of its own in it, whose `started` says of how many `lanes` it is one.
"""

import shutil
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from sweep.execution.job import ALONE, TRAINED, WAITS, Job, Outcome
from sweep.execution.worker import hub_files, scoring, trial
from sweep.execution.worker.training import check_code, finish, keep, note_checkpoints
from sweep.execution.worker.watchdog import Watchdog
from sweep.storage import trial_log
from sweep.storage.trial_folder import TrialFolder
from sweep.storage.trial_log import LOG
from trainers.models import load
from trainers.processes import attempt, process
from trainers.processes.attempt import Stopped, Superseded
from trainers.specs.lanes import NotLaned, TooMany
from trainers.specs.result import OutOfTime, StageResult

FRUITLESS = 2
"""Passes whose process died before a trial had got any further, after which it trains alone."""


def train(jobs: Sequence[Job], node: str = "", *, shared: bool = True) -> list[Outcome]:
    """Train what of these can be trained in one pass; returns what became of each job, in order.

    Where its status is `trained`, `waits` or `alone` there is something left to do. `node` and
    `shared` as of `trial.run`.

    Raises:
        TrialFailed: the machine is to blame, and the pass may be tried again.
    """
    step, lanes, outcomes = _side_by_side(jobs)
    while len(lanes) > 1:
        try:
            outcomes |= _Pass(lanes, step, node, shared).run()
            break
        except TooMany as error:
            fits = error.fits if error.fits > 1 else 0
            left = WAITS if fits else ALONE
            outcomes |= {job.trial.key: _left(job, left, str(error)) for job in lanes[fits:]}
            lanes = lanes[:fits]
    return [outcomes[job.trial.key] for job in jobs]


def _left(job: Job, status: str, reason: str = "") -> Outcome:
    return Outcome(job.trial.key, status, reason, 0.0, 0.0)


def _side_by_side(jobs: Sequence[Job]) -> tuple[int, list[Job], dict[str, Outcome]]:
    """A step, the jobs that can go on from it, as many as possible, and what becomes of the
    others."""
    by_step: dict[int, list[Job]] = {}
    outcomes: dict[str, Outcome] = {}
    for job in jobs:
        folder = TrialFolder(Path(job.folder))
        if folder.trained():
            outcomes[job.trial.key] = _left(job, TRAINED)
        elif folder.fruitless_passes() >= FRUITLESS:
            reason = f"{FRUITLESS} passes beside others have brought it nowhere"
            outcomes[job.trial.key] = _left(job, ALONE, reason)
        else:
            steps = folder.checkpoint_steps()
            for step in steps[: 2 if folder.died_in_a_pass() else 1]:
                by_step.setdefault(step, []).append(job)
    step = max(by_step, key=lambda step: (len(by_step[step]), step), default=0)
    lanes = by_step.get(step, [])
    if len(lanes) < 2:
        lanes = []
    status, reason = (WAITS, "") if lanes else (ALONE, "no two of them go on from one step")
    for job in jobs:
        if job not in lanes:
            outcomes.setdefault(job.trial.key, _left(job, status, reason))
    return step, lanes, outcomes


class _Pass:
    """One training of several trials, from `step` on."""

    def __init__(self, jobs: Sequence[Job], step: int, node: str, shared: bool):
        self._jobs = jobs
        self._step = step
        self._folders = [TrialFolder(Path(job.folder)) for job in jobs]
        self._node = node
        self._shared = shared
        self._begun = time.monotonic()
        self._of_machine = False
        """Whether the pass has failed of its machine, before any of its trials was trained."""

    def run(self) -> dict[str, Outcome]:
        """
        Raises:
            TooMany: memory does not hold so many lanes; nothing was trained.
            TrialFailed: of the machine, as is written to each attempts.jsonl.
        """
        lanes = len(self._jobs)
        limits = self._jobs[0].limits.of_lanes(lanes)
        with ExitStack() as stack:
            for folder in self._folders:
                stack.enter_context(trial_log.records(folder.log))
            paths = [folder.path for folder in self._folders]
            this = stack.enter_context(attempt.begun_together(paths, node=self._node))
            for job, folder, part in zip(self._jobs, self._folders, this.parts, strict=True):
                facts = {"lanes": lanes, "progress": folder.progress()}
                trial.started(job, folder, part, self._node, **facts)
            LOG.info("%d trials in one pass: %s", lanes, ", ".join(path.name for path in paths))
            try:
                with Watchdog(this, limits, shared=self._shared):
                    hub_files.ensure(self._jobs[0].needed, self._node)
                    results = self._train(self._begun + limits.max_seconds)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # a panic in a Rust library is no Exception
                LOG.error("not trained in one pass: %s", error, exc_info=error)
                results = [error] * lanes
                fresh = not any(folder.trained() for folder in self._folders)
                self._of_machine = fresh and trial.is_of_machine(error)
                trial.let_go(error)
            finally:
                trial.release()
            process.leave_out_libraries()
            outcomes = [self._outcome(lane, result) for lane, result in enumerate(results)]
            if isinstance(results[0], TooMany):
                raise results[0]
            if self._of_machine:
                raise trial.TrialFailed(str(results[0]))
        return {outcome.key: outcome for outcome in outcomes}

    def _train(self, deadline: float) -> Sequence[StageResult | BaseException]:
        from trainers import dispatch

        first = self._jobs[0]
        check_code(first)
        process.prepare(first.threads, first.gpus)
        for folder in self._folders:
            with attempt.of(folder.path):
                self._go_back(folder)
            note_checkpoints(folder)
        return dispatch.train_lanes(
            specs=[job.trial.spec for job in self._jobs if job.trial.spec is not None],
            loaded=scoring.start_weights(first),
            cache=Path(first.data),
            start=scoring.start_name(first),
            folders=[folder.path for folder in self._folders],
            deadline=deadline,
            memory_kills=max(folder.memory_kills() for folder in self._folders),
            save=self._save,
        )

    def _go_back(self, folder: TrialFolder) -> None:
        """Let go of the checkpoint of a step that others have none of."""
        for step in folder.checkpoint_steps():
            if step > self._step:
                attempt.check()
                shutil.rmtree(folder.checkpoints / f"step-{step:08}")
                reason = f"others of the pass go on from step {self._step}"
                folder.log_attempt("refused", checkpoint=f"step-{step:08}: {reason}")

    def _save(self, lane: int, loaded: load.Loaded, result: StageResult) -> None:
        """A lane is over; its fence is the one that counts here."""
        if result.status == "ok":
            keep(loaded, self._jobs[lane], shared=True)
        finish(self._folders[lane], result._replace(model=None))

    def _outcome(self, lane: int, result: StageResult | BaseException) -> Outcome:
        """Record how the attempt at one trial ended."""
        job, folder = self._jobs[lane], self._folders[lane]
        seconds = round(time.monotonic() - self._begun, 3)
        record = folder.training()
        if record is not None:
            share = record["train_seconds"] / len(self._jobs)
            lacks = folder.missing([want.fingerprint for want in job.wanted])
            if record["status"] == "ok" and lacks:
                folder.log_attempt("trained", seconds=seconds)
                return Outcome(job.trial.key, TRAINED, "", share, 0.0)
            folder.log_attempt("done", seconds=seconds)
            return Outcome(job.trial.key, record["status"], record["reason"], share, 0.0)
        assert isinstance(result, BaseException), "a lane that was trained has its record"
        return _untrained(job, folder, result, self._of_machine)


def _untrained(job: Job, folder: TrialFolder, error: BaseException, of_machine: bool) -> Outcome:
    reason = str(error)
    match error:
        case Stopped():
            event, status, facts = "stopped", "stopped", {}
        case Superseded():
            event, status, facts = "superseded", "failed", {}
        case OutOfTime():
            event, status, reason = "failed", "failed", f"train: {error}"
            facts = {"phase": "train", "progress": folder.progress(), "out_of_time": True}
        case NotLaned():
            event, status, facts = "unbundled", ALONE, {}
        case _:
            event, status = ("failed", "failed") if of_machine else ("unbundled", ALONE)
            reason = f"{type(error).__name__}: {error}"
            facts = {"traceback": "".join(traceback.format_exception(error, limit=-12))}
            facts |= {"phase": "machine"} if of_machine else {}
    if folder.path.is_dir():  # or a run folder that was moved away would be made anew
        folder.log_attempt(event, reason=reason, **facts)
    return Outcome(job.trial.key, status, reason, 0.0, 0.0)
