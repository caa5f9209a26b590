"""The evaluations of one trial's weights that have no record yet."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from sweep.execution.job import Job
from sweep.execution.worker import other_nodes
from sweep.gridfile.keys.schema import BASE
from sweep.plan.evaluations import Wanted
from sweep.storage.trial_folder import PASS, TrialFolder
from sweep.storage.trial_log import LOG
from trainers import files
from trainers.evaluate import scores
from trainers.evaluate.scores import Evaluation
from trainers.models import load
from trainers.processes import attempt, devices, process, replicas
from trainers.processes.attempt import Stopped, Superseded
from trainers.specs.data import Model
from trainers.specs.result import OutOfTime
from trainers.tasks import benchmarks


class EvaluationFailed(Exception):
    """Some evaluations of a trained model failed; the others have their records."""


def start_name(job: Job) -> str:
    """Of the weights that the trial starts from, for what is kept of them."""
    key = job.trial.parent or BASE
    if job.parent_folder is None:
        return key
    return TrialFolder(Path(job.parent_folder)).weights_name(key)


def start_weights(job: Job, on_cpu: bool = False) -> load.Loaded:
    """The weights that the trial starts from, as its adapter is trained on them; `on_cpu` in the
    host's memory.

    Raises:
        FileNotFoundError: they are not there.
    """
    adapter = None if job.trial.spec is None else job.trial.spec.adapter
    opener = partial(load.load, on_cpu=on_cpu, adapter=adapter)
    if job.parent_folder is None:
        return _loaded(job.trial.model.name, job.trial.model.revision, opener=opener)
    parent = TrialFolder(Path(job.parent_folder))
    reason = parent.weights_removed()
    if reason or not parent.has_weights():
        why = f"were removed ({reason})" if reason else "are not there"
        raise FileNotFoundError(
            f"the weights that it started from, of {parent.path.name}, {why}; delete that folder, "
            "where the run lies, to train them again"
        )
    return _loaded(str(parent.model), base=job.trial.model, opener=opener)


def _loaded(
    name: str,
    revision: str | None = None,
    base: Model | None = None,
    opener: Callable[..., load.Loaded] = load.load,
) -> load.Loaded:
    """
    Raises:
        NoRoom: memory does not suffice, though caches were freed.
    """
    from trainers.ops import memory

    options = {} if base is None else {"base": base}
    return memory.with_room(f"loading {name}", lambda: opener(name, revision, **options))


def evaluate(job: Job, folder: TrialFolder, deadline: float) -> float:
    """Run the evaluations that have no file yet, on the weights as they were kept.

    Returns the seconds. One that fails does not keep the others from running.

    Raises:
        EvaluationFailed: naming each that failed, or the weights were not kept.
        OutOfTime, Stopped: before a benchmark; those before it have their records.
    """
    missing = [want for want in job.wanted if not folder.scores(want.fingerprint).exists()]
    if not missing:
        return 0.0
    if not folder.model.exists() and job.trial.spec is not None:
        names = ", ".join(want.benchmark for want in missing)
        raise EvaluationFailed(f"no weights are left in {folder.path} to score on {names}")
    started = time.monotonic()
    with _model(job, own_weights, "train.json") as loaded:
        _score(job, folder, missing, loaded, deadline)
    return time.monotonic() - started


def own_weights(job: Job) -> load.Loaded:
    """Those that the trial has left, or the model that it scores as it is. An adapter is merged;
    on a base in 4 bits it is not, for a GPU may not hold whole weights, unless for vLLM, which
    reads no others. A CPU would unpack the 4 bits in every pass."""
    where = TrialFolder(Path(job.folder)).model
    if not where.exists():  # the stage `base` keeps no copy of the grid's model
        loaded = _loaded(job.trial.model.name, job.trial.model.revision)
    elif job.trial.spec is not None and job.trial.spec.LEAVES == "reward":
        loaded = _loaded(str(where), opener=load.load_judge)
    else:
        merged = load.device().type == "cpu" or job.evaluate.backend == "vllm"
        opener = partial(load.load, merged=merged)
        loaded = _loaded(str(where), base=job.trial.model, opener=opener)
    loaded.model.register_forward_pre_hook(lambda *_: attempt.sign("evaluation"))
    return loaded


@contextmanager
def _model(job: Job, opener: Callable[[Job], load.Loaded], awaited: str) -> Iterator[load.Loaded]:
    """A model that is opened in as many processes as the trial trains with, on each of its nodes
    once the file `awaited` of its folder is there; vLLM takes a GPU for itself."""
    if job.evaluate.backend == "vllm":
        job = job._replace(ranks=1, nodes=1, threads=job.evaluation_threads)
    threads = job.evaluation_threads if job.ranks == 1 else job.threads
    setting = replicas.ReplicaSetting(job.ranks, threads, job.gpus, opener, (job,))
    process.prepare(threads, job.gpus)
    with other_nodes.at_work(job, awaited) as nodes:
        elsewhere = [
            replicas.RemoteReplicas(node, other_nodes.attempt_at(node), (node.job,))
            for node in nodes
        ]
        loaded = opener(job)
        with replicas.started(setting, loaded, elsewhere):
            yield loaded


def _score(
    job: Job, folder: TrialFolder, missing: list[Wanted], loaded: load.Loaded, deadline: float
) -> None:
    score = _Scorer(job, loaded)
    failures = {}
    for want in missing:
        begun = time.monotonic()
        attempt.sign(want.benchmark)
        if stop := attempt.asked_to_stop():
            raise Stopped(f"{stop}, before {want.benchmark}")
        if begun > deadline:
            raise OutOfTime(f"over the time limit before {want.benchmark}")
        try:
            result = score(want)
        except (Superseded, Stopped):
            raise
        except Exception as error:  # a user's task file can raise anything
            failures[want.benchmark] = error
        else:
            seconds = time.monotonic() - begun
            path = folder.scores(want.fingerprint)
            attempt.check()
            scores.write(path, want.benchmark, want.fingerprint, result, seconds)
            LOG.info("%s: %.1f s", want.benchmark, seconds)
    if failures:
        parts = [f"{name}: {type(error).__name__}: {error}" for name, error in failures.items()]
        raise EvaluationFailed("; ".join(parts)) from next(iter(failures.values()))


def pass_over_pairs(job: Job, folder: TrialFolder, deadline: float) -> float:
    """A reference pass: leave its values beside the prepared data, and then its record; returns the
    seconds.

    Raises:
        OutOfTime, Stopped: what is computed so far is kept.
    """
    from trainers import dispatch
    from trainers.steps import checkpoints

    assert job.trial.spec is not None and job.trial.parent is not None
    with _model(job, start_weights, PASS) as loaded:
        figures = dispatch.pass_over_pairs(
            spec=job.trial.spec,
            loaded=loaded,
            cache=Path(job.data),
            start=(start := start_name(job)),
            folder=folder.path,
            deadline=deadline,
        )
    attempt.check()
    record = {"status": "ok", "reason": "", "start": start, **figures, "gpu": devices.name()}
    files.write_json(folder.path / "train.json", record)
    checkpoints.clear(folder.checkpoints)
    seconds = figures["reference_seconds"]
    LOG.info("reference: %d pairs, %d now, %.1f s", *_counts(figures), seconds)
    return seconds


def _counts(figures: dict[str, Any]) -> tuple[int, int]:
    return figures["pairs"], figures["pairs_computed"]


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
                start=start_name(job),
                open_start=lambda: start_weights(job),
                dtype=job.evaluate.dtype,
            )
        benchmark = benchmarks.find(want.task)
        if benchmark.pairs is not None:
            from trainers.evaluate import pair_accuracy

            return pair_accuracy.score(self._loaded, benchmark, job.evaluate)
        from trainers.evaluate import harness

        return harness.score(self._lm, benchmark, job.evaluate)

    @cached_property
    def _lm(self) -> Any:
        from trainers.evaluate.open_model import open_model

        return open_model(self._loaded, self._job.evaluate)
