"""The training of one trial, in its processes, from the start's weights to its records."""

import math
import uuid
from pathlib import Path

import trainers
from sweep.execution.job import Job
from sweep.execution.worker import other_nodes, scoring
from sweep.storage import manifest
from sweep.storage.trial_folder import TrialFolder
from sweep.storage.trial_log import LOG
from trainers import files
from trainers.models import adapters, load
from trainers.processes import attempt, devices, process
from trainers.processes.attempt import Attempt
from trainers.specs.conditions import Conditions
from trainers.specs.result import BudgetTooLarge, StageResult
from trainers.steps import distributed, over_nodes


class WrongCode(Exception):
    """The code here is not what the plan was made with."""


def run(job: Job, folder: TrialFolder, deadline: float) -> StageResult:
    """Train in the trial's processes, which start again with half the token budget where one that
    the others wait for ran out of memory."""
    memory_kills = folder.memory_kills()
    while True:
        awaited = note_checkpoints(folder)
        try:
            if job.nodes == 1:
                return distributed.run(
                    job.ranks, _fit, job, deadline, attempt.current(), memory_kills
                )
            return _over_nodes(job, deadline, memory_kills, awaited)
        except BudgetTooLarge as error:
            memory_kills += 1
            folder.log_attempt("halved", reason=str(error))
            LOG.warning("%s; again with half of them", error)


def _over_nodes(job: Job, deadline: float, memory_kills: int, awaited: str) -> StageResult:
    this = attempt.current()
    with other_nodes.at_work(job, awaited) as others:
        LOG.info("also on %s", ", ".join(node.name for node in others))
        shares = [
            over_nodes.Share(node, (node.job, math.inf, other_nodes.attempt_at(node), memory_kills))
            for node in others
        ]
        given = (job, deadline, this, memory_kills)
        return over_nodes.run(job.ranks, _fit, given, other_nodes.address(), shares)


def _fit(job: Job, deadline: float, this: Attempt, memory_kills: int) -> StageResult:
    """Train and write model/; in each of the trial's processes, of which the first writes."""
    with attempt.joined(this):
        check_code(job)
        return _fit_here(job, deadline, memory_kills)


def _fit_here(job: Job, deadline: float, memory_kills: int) -> StageResult:
    from trainers import dispatch

    process.prepare(job.threads, job.gpus)
    assert job.trial.spec is not None
    folder = TrialFolder(Path(job.folder))
    loaded = scoring.start_weights(job, on_cpu=job.sharding != "none")
    result = dispatch.train(
        spec=job.trial.spec,
        loaded=loaded,
        cache=Path(job.data),
        start=scoring.start_name(job),
        folder=folder.path,
        conditions=Conditions(
            deadline=deadline if distributed.is_first() else math.inf,
            memory_kills=memory_kills,
            sharding=job.sharding,
        ),
    )
    if result.status == "ok" and distributed.is_first():
        keep(loaded._replace(model=result.model or loaded.model), job)
    return result._replace(model=None)  # it is on disk, and may have to go to another process


def note_checkpoints(folder: TrialFolder) -> str:
    """What training will go on from, and what it will not: a fresh start is never silent. Returns
    the file, by its name in the folder, that says so to all processes of the training."""
    from trainers.steps import checkpoints

    newest = checkpoints.newest(folder.checkpoints)
    for reason in newest.refused:
        folder.log_attempt("refused", checkpoint=reason)
        LOG.warning("refused: %s", reason)
    if newest.checkpoint is not None:
        folder.log_attempt("resumed", step=newest.checkpoint.step)
        LOG.info("going on from step %d", newest.checkpoint.step)
    elif newest.refused:
        folder.log_attempt("restarted", reason="no checkpoint is whole")
    if newest.checkpoint is None:
        return "trial.json"
    return (newest.checkpoint.path / checkpoints.CHECKSUMS).relative_to(folder.path).as_posix()


def keep(loaded: load.Loaded, job: Job, shared: bool = False) -> None:
    """Write model/ of a trained trial: an adapter alone where it belongs on the grid's model; on
    weights that may be removed, or under a head of its own, merged. `shared`: others still train on
    the weights below the adapter."""
    attempt.check()
    folder = TrialFolder(Path(job.folder)).model
    aside = folder.with_name(f".{folder.name}.{attempt.name()}.part")
    spec, base = job.trial.spec, job.trial.model
    if spec is not None and spec.LEAVES == "policy" and job.parent_folder is None:
        adapters.save(loaded.model, aside, base.name, base.revision)
    else:
        copied = shared and adapters.attached(loaded.model)
        model = adapters.copied_to_host(loaded.model) if copied else loaded.model
        adapters.merge(model)
        model.save_pretrained(aside)
    loaded.tokenizer.save_pretrained(aside)
    attempt.check()
    files.take_place(aside, folder)


def finish(folder: TrialFolder, result: StageResult) -> None:
    """Record that a training has ended, well or not; its weights are kept."""
    from trainers.steps import checkpoints

    record = {"status": result.status, "reason": result.reason, **result.figures}
    if result.status == "ok" and folder.has_weights():
        folder.weights_written()
        record["weights"] = uuid.uuid4().hex[:12]
    record["code"] = manifest.code_hash()
    record["gpu"] = devices.name()
    attempt.check()
    files.write_json(folder.path / "train.json", record)
    checkpoints.clear(folder.checkpoints)
    LOG.info("training: %s %s, %d steps", result.status, result.reason, result.figures["steps"])


def check_code(job: Job) -> None:
    """
    Raises:
        WrongCode: what would train and score here is not what the plan was made with.
    """
    if job.code and (here := manifest.code_hash()) != job.code:
        raise WrongCode(
            f"{Path(trainers.__file__).parent} is not the code that the plan was made with "
            f"({here}, not {job.code}): it was changed while the command ran; put it back, or "
            "start the command again with --changed-code"
        )
