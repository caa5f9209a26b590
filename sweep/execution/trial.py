"""One trial: train from the parent's weights, evaluate, leave records. The core flow; knows no Ray.

A trial that is started again goes on from its records: what has been trained is not trained again,
and an evaluation that has its file is not run again.
"""

import gc
import math
import os
import shutil
import socket
import time
import traceback
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from sweep.execution.job import Job, Outcome
from sweep.gridfile.schema import BASE
from sweep.plan.disk import full
from sweep.plan.evaluations import Wanted
from sweep.storage import trial_log
from sweep.storage.run_folder import TrialFolder
from sweep.storage.trial_log import LOG
from trainers import devices, files, process
from trainers.evaluate import benchmarks, scores
from trainers.evaluate.scores import Evaluation
from trainers.models import load
from trainers.specs.spec import OutOfTime, StageResult
from trainers.training import distributed as ranks


class TrialFailed(Exception):
    """Training or evaluation failed; the reason is in attempts.jsonl and may be tried again."""


class EvaluationFailed(Exception):
    """Some evaluations of a trained model failed; the others have their records."""


def run(job: Job) -> Outcome:
    """Bring one trial to its end.

    Raises:
        TrialFailed: something went wrong, and was written to attempts.jsonl.
    """
    folder = TrialFolder(Path(job.folder))
    with trial_log.records(folder.log):
        return _attempt(job, folder)


def _attempt(job: Job, folder: TrialFolder) -> Outcome:
    attempt = 1 + sum(event["event"] == "started" for event in folder.attempts())
    facts = {"memory_kills_here": _memory_kills_here(), "gpus": devices.visible()}
    folder.log_attempt("started", attempt=attempt, **facts)
    LOG.info("attempt %d, host %s, process %d", attempt, socket.gethostname(), os.getpid())
    started = time.monotonic()
    train_seconds = eval_seconds = 0.0
    phase = "train"
    try:
        deadline = started + (job.max_seconds or math.inf)
        if folder.training() is None:
            process.prepare(job.threads)
            train_seconds = _train(job, folder, deadline)
        phase = "evaluate"
        if folder.usable():
            process.prepare(job.evaluation_threads, job.gpus)
            eval_seconds = _evaluate(job, folder, deadline)
    except OutOfTime as error:
        reason = f"{phase}: {error}"
        folder.log_attempt("failed", attempt=attempt, phase=phase, reason=reason)
        LOG.error("failed: %s", reason)
        return Outcome(job.trial.key, "failed", reason, train_seconds, eval_seconds)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in a Rust library is no Exception
        reason = f"{phase}: {type(error).__name__}: {error}"
        if full(error):  # not the trial's fault: it does not count against its retries
            reason, phase = f"no room in {folder.path}: {reason}", "disk"
        folder.log_attempt(
            "failed",
            attempt=attempt,
            phase=phase,
            reason=reason,
            killed=getattr(error, "killed", False),
            traceback=traceback.format_exc(limit=-12),
        )
        LOG.exception("failed: %s", reason)
        raise TrialFailed(reason) from error
    finally:
        gc.collect()
    _keep_libraries()
    seconds = round(time.monotonic() - started, 3)
    folder.log_attempt("done", attempt=attempt, seconds=seconds)
    LOG.info("done in %.1f s", seconds)
    record = folder.training() or {}
    return Outcome(job.trial.key, record["status"], record["reason"], train_seconds, eval_seconds)


@cache
def _keep_libraries() -> None:
    """The first trial has imported them: the collector need not go through them again and again,
    which would take a second of each further trial."""
    gc.freeze()


def _open(job: Job) -> load.Loaded:
    """The weights that the trial starts from."""
    if job.parent_folder is None or job.trial.parent is None:
        return load.load(job.trial.model.name, job.trial.model.revision)
    parent = TrialFolder(Path(job.parent_folder))
    if not parent.model.exists():  # the stage `base` keeps no copy of the grid's model
        return load.load(job.trial.model.name, job.trial.model.revision)
    return load.load(str(parent.model))


def _train(job: Job, folder: TrialFolder, deadline: float) -> float:
    """Train and write model/ and then, last, train.json; returns the seconds of training."""
    from trainers.training import checkpoints

    folder.path.mkdir(parents=True, exist_ok=True)
    if job.trial.spec is None:
        result = StageResult("ok", "", _untrained(_open(job)))
    else:
        _note_checkpoints(folder)
        result = ranks.run(job.ranks, _fit, job, deadline)
        if result.status == "ok":
            folder.weights_written()
    record = {"status": result.status, "reason": result.reason, **result.figures}
    record["gpu"] = devices.name()
    files.write_json(folder.path / "train.json", record)
    checkpoints.clear(folder.checkpoints)
    LOG.info("training: %s %s, %d steps", result.status, result.reason, result.figures["steps"])
    return result.figures["train_seconds"]


def _fit(job: Job, deadline: float) -> StageResult:
    """Train and write model/; in each of the trial's processes, of which the first writes."""
    from trainers import dispatch

    process.prepare(job.threads, job.gpus)
    assert job.trial.spec is not None
    folder, loaded = TrialFolder(Path(job.folder)), _open(job)
    result = dispatch.train(
        spec=job.trial.spec,
        loaded=loaded,
        cache=Path(job.data),
        start=job.trial.parent or BASE,
        folder=folder.path,
        deadline=deadline if ranks.is_first() else math.inf,
        memory_kills=folder.memory_kills(),
    )
    if result.status == "ok" and ranks.is_first():
        _save(loaded._replace(model=result.model or loaded.model), folder.model)
    return result._replace(model=None)  # it is on disk, and may have to go to another process


def _memory_kills_here() -> int | None:
    """Processes that this machine's kernel has killed for want of memory since it was started."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:  # not Linux
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def _note_checkpoints(folder: TrialFolder) -> None:
    """What training will go on from, and what it will not: a fresh start is never silent."""
    from trainers.training import checkpoints

    found = checkpoints.newest(folder.checkpoints)
    for reason in found.refused:
        folder.log_attempt("refused", checkpoint=reason)
        LOG.warning("refused: %s", reason)
    if found.checkpoint is not None:
        folder.log_attempt("resumed", step=found.checkpoint.step)
        LOG.info("going on from step %d", found.checkpoint.step)
    elif found.refused:
        folder.log_attempt("restarted", reason="no checkpoint is whole")


def _untrained(loaded: load.Loaded) -> dict[str, Any]:
    counts = {"steps": 0, "examples": 0, "tokens": 0, "epochs": 0.0, "learning_rate_sum": 0.0}
    return counts | {"train_seconds": 0.0, "model_parameters": loaded.model.num_parameters()}


def _save(loaded: load.Loaded, folder: Path) -> None:
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(aside, ignore_errors=True)
    loaded.model.save_pretrained(aside)
    loaded.tokenizer.save_pretrained(aside)
    for file in (*aside.iterdir(), aside):
        files.fsync(file)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def _evaluate(job: Job, folder: TrialFolder, deadline: float) -> float:
    """Run the evaluations that have no file yet, on the weights as they were kept.

    Returns the seconds. One that fails does not keep the others from running.

    Raises:
        EvaluationFailed: naming each that failed, or the weights were not kept.
    """
    missing = [want for want in job.wanted if not folder.scores(want.fingerprint).exists()]
    if not missing:
        return 0.0
    if folder.model.exists():
        judge = job.trial.spec is not None and job.trial.spec.LEAVES == "reward"
        loaded = (load.load_judge if judge else load.load)(str(folder.model))
    elif job.trial.spec is None:  # the stage `base` keeps no copy of the grid's model
        loaded = load.load(job.trial.model.name, job.trial.model.revision)
    else:
        names = ", ".join(want.benchmark for want in missing)
        raise EvaluationFailed(f"no weights are left in {folder.path} to score on {names}")
    score = _Scorer(job, loaded)
    started = time.monotonic()
    failures = {}
    for want in missing:
        begun = time.monotonic()
        if begun > deadline:
            raise OutOfTime(f"over the time limit before {want.benchmark}")
        try:
            found = score(want)
        except Exception as error:  # a user's task file can raise anything
            failures[want.benchmark] = error
        else:
            seconds = time.monotonic() - begun
            place = folder.scores(want.fingerprint)
            scores.write(place, want.benchmark, want.fingerprint, found, seconds)
            LOG.info("%s: %.1f s", want.benchmark, seconds)
    if failures:
        parts = [f"{name}: {type(error).__name__}: {error}" for name, error in failures.items()]
        raise EvaluationFailed("; ".join(parts)) from next(iter(failures.values()))
    return time.monotonic() - started


class _Scorer:
    """Runs evaluations of one model; lm-eval's view of it is made when the first one needs it."""

    def __init__(self, job: Job, loaded: load.Loaded):
        self._job = job
        self._loaded = loaded

    def __call__(self, want: Wanted) -> Evaluation:
        job, spec = self._job, self._job.trial.spec
        if want.heldout is not None:
            from trainers import dispatch

            own = spec if spec is not None else want.heldout
            return dispatch.score_heldout(
                spec=own,
                slice_of=want.heldout,
                loaded=self._loaded,
                cache=Path(job.data),
                start=job.trial.parent or BASE,
                open_start=lambda: _open(job),
                dtype=job.evaluate.dtype,
            )
        benchmark = benchmarks.find(want.task)
        if benchmark.pairs is not None:
            from trainers.evaluate import pair_accuracy

            return pair_accuracy.score(self._loaded, benchmark, job.evaluate)
        from trainers.evaluate import harness as evaluate

        return evaluate.score(self._lm, benchmark, job.evaluate)

    @cached_property
    def _lm(self) -> Any:
        from trainers.evaluate import harness as evaluate

        return evaluate.open_model(self._loaded, self._job.evaluate)
