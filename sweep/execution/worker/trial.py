"""One trial: train from the parent's weights, evaluate, leave records. The core flow; knows no Ray.

A trial that is started again goes on from its records: what has been trained is not trained again,
and an evaluation that has its file is not run again.
"""

import errno
import gc
import math
import os
import shutil
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import psutil

from sweep.execution.job import Job, Outcome
from sweep.execution.worker import hub_files, scoring, training
from sweep.execution.worker.watchdog import Watchdog
from sweep.plan.disk import full
from sweep.plan.reference_passes import ReferencePass
from sweep.storage import trial_log
from sweep.storage.trial_folder import TrialFolder
from sweep.storage.trial_log import LOG
from trainers.hub import FetchFailed
from trainers.models import load
from trainers.processes import attempt, devices, process
from trainers.processes.attempt import Attempt, Stopped, Superseded
from trainers.processes.nodes import NodeLost
from trainers.specs.result import OutOfTime, StageResult
from trainers.steps.distributed import RankFailed

MACHINE_ERRORS = (
    errno.EIO, errno.ESTALE, errno.ENOLCK, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
)  # fmt: skip
"""Errors of the operating system that no trial brings about."""

NO_DEVICE = ("CUDA error", "No CUDA", "CUDA unknown error")
"""How errors of torch begin that no trial brings about."""


class TrialFailed(Exception):
    """Training or evaluation failed; the reason is in attempts.jsonl and may be tried again."""


def run(job: Job, node: str = "", *, shared: bool = True) -> Outcome:
    """Bring one trial to its end. `node` names the machine in the records of attempts; `shared`:
    this process is the driver's too.

    Raises:
        TrialFailed: something went wrong, and was written to attempts.jsonl.
    """
    folder = TrialFolder(Path(job.folder))
    with trial_log.records(folder.log):
        return _attempt(job, folder, node, shared)


def _attempt(job: Job, folder: TrialFolder, node: str, shared: bool) -> Outcome:
    with attempt.begun(folder.path, node=node) as this:
        number = started(job, folder, this, node)
        LOG.info("attempt %d, host %s, process %d", number, socket.gethostname(), os.getpid())
        watchdog = Watchdog(this, job.limits, shared=shared)
        try:
            with watchdog:
                hub_files.ensure(job.needed, node)
                outcome = _work(job, folder, number)
        except (TrialFailed, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic in a Rust library is no Exception
            _record_failure(folder, number, watchdog, error)
            raise TrialFailed(watchdog.reason or str(error)) from error
        finally:
            release()
        process.leave_out_libraries()
        return outcome


def release() -> None:
    """Give back the memory that an attempt no longer uses, for the next one in this process."""
    if "torch" not in sys.modules:  # it takes seconds to import where nothing was trained
        gc.collect()
        return
    from trainers.ops import memory

    memory.release()


def let_go(error: BaseException | None) -> None:
    """Let the frames of an error that is kept go of what they hold: models and optimizers."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def started(job: Job, folder: TrialFolder, this: Attempt, node: str, **facts: Any) -> int:
    """Record the beginning of an attempt; returns its number."""
    number = 1 + sum(event["event"] == "started" for event in folder.attempts())
    folder.log_attempt(
        "started",
        attempt=number,
        id=this.id,
        previous_sign=this.previous_sign,
        node=node,
        process_created=psutil.Process().create_time(),
        memory_kills_here=process.memory_kills(),
        gpus=devices.visible(),
        holds={"gpus": job.gpus, "cpus": job.cpus},
        setting=job.setting,
        missing=folder.missing([want.fingerprint for want in job.wanted]),
        stalled_seconds=_finite(job.limits.stalled_seconds),
        **facts,
    )
    return number


def _work(job: Job, folder: TrialFolder, number: int) -> Outcome:
    """Train and evaluate what has no record yet."""
    started = time.monotonic()
    deadline = started + job.limits.max_seconds
    train_seconds = eval_seconds = 0.0
    try:
        training.check_code(job)
        if isinstance(job.trial, ReferencePass):
            train_seconds = scoring.pass_over_pairs(job, folder, deadline)
        elif folder.training() is None:
            process.prepare(job.threads)
            train_seconds = _train(job, folder, deadline)
        else:
            shutil.rmtree(folder.checkpoints, ignore_errors=True)  # a killed attempt left them
        if folder.usable() and job.wanted:
            eval_seconds = scoring.evaluate(job, folder, deadline)
    except OutOfTime as error:
        phase = folder.phase
        reason = f"{phase}: {error}"
        seconds = _since(started)
        folder.log_attempt("failed", attempt=number, phase=phase, seconds=seconds, reason=reason)
        LOG.error("failed: %s", reason)
        return Outcome(job.trial.key, "failed", reason, train_seconds, eval_seconds)
    except Stopped as error:
        seconds = _since(started)
        folder.log_attempt("stopped", attempt=number, seconds=seconds, reason=str(error))
        LOG.info("stopped: %s", error)
        return Outcome(job.trial.key, "stopped", str(error), train_seconds, eval_seconds)
    seconds = _since(started)
    attempt.check()
    folder.log_attempt("done", attempt=number, seconds=seconds)
    LOG.info("done in %.1f s", seconds)
    record = folder.training() or {}
    return Outcome(job.trial.key, record["status"], record["reason"], train_seconds, eval_seconds)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)


def _record_failure(
    folder: TrialFolder, number: int, watchdog: Watchdog, error: BaseException
) -> None:
    """Write the failure to attempts.jsonl, unless it is another attempt's trial by now, or the
    watchdog has ended it and has said why."""
    if watchdog.reason:
        return
    try:
        attempt.check()
    except Superseded as superseded:
        error = superseded
    if isinstance(error, Superseded):
        watchdog.reason = str(error)
        LOG.error("%s", error)
        if folder.path.is_dir():  # or a run folder that was moved away would be made anew
            folder.log_attempt("superseded", attempt=number, reason=str(error))
        return
    phase = folder.phase
    reason = f"{phase}: {type(error).__name__}: {error}"
    if full(error):
        reason, phase = f"no room in {folder.path}: {reason}", "disk"
    elif isinstance(error, training.WrongCode):
        phase = "code"
    elif is_of_machine(error):
        phase = "machine"
    watchdog.reason = reason
    folder.log_attempt(
        "failed",
        attempt=number,
        phase=phase,
        reason=reason,
        killed=getattr(error, "killed", False),
        **_elsewhere(error),
        progress=folder.progress(),
        traceback=traceback.format_exc(limit=-12),
    )
    LOG.error("failed: %s", reason, exc_info=error)


def _elsewhere(error: BaseException) -> dict[str, Any]:
    """Where it happened, if on another of the trial's nodes."""
    chain = (error, error.__cause__)
    node = next((node for one in chain if (node := getattr(one, "node", ""))), "")
    facts = {"on_node": node, "of_memory": getattr(error, "of_memory", False)}
    return {name: fact for name, fact in facts.items() if fact}


def _finite(seconds: float) -> float | None:
    """JSON has no infinity."""
    return seconds if math.isfinite(seconds) else None


def is_of_machine(error: BaseException | None) -> bool:
    """Whether the machine is to blame and not the trial, so that it uses up no retry."""
    while error is not None:
        if isinstance(error, NodeLost | FetchFailed):
            return True
        if isinstance(error, RankFailed) and error.of_device:
            return True
        if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
            return True
        if isinstance(error, RuntimeError) and str(error).startswith(NO_DEVICE):
            return True
        error = error.__cause__ or error.__context__
    return False


def _train(job: Job, folder: TrialFolder, deadline: float) -> float:
    """Train and write model/ and then, last, train.json; returns the seconds of training."""
    folder.path.mkdir(parents=True, exist_ok=True)
    if job.trial.spec is None:
        result = StageResult("ok", "", _untrained(scoring.start_weights(job)))
    else:
        result = training.run(job, folder, deadline)
    training.finish(folder, result)
    return result.figures["train_seconds"]


def _untrained(loaded: load.Loaded) -> dict[str, Any]:
    counts = {"steps": 0, "examples": 0, "tokens": 0, "epochs": 0.0, "learning_rate_sum": 0.0}
    return counts | {"train_seconds": 0.0, "model_parameters": loaded.model.num_parameters()}
