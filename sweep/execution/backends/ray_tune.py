"""Trials on Ray Tune, which schedules, places, retries and shows; the records in the run folder say
what happened."""

import faulthandler
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

# isort: split

import ray
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from sweep.execution import preemption
from sweep.execution.backends import compat_ray, ray_cluster, ray_tasks
from sweep.execution.backends.ray_metrics import Metrics
from sweep.execution.job import Job, Outcome, TrialCallback
from sweep.execution.retries import Retries
from sweep.execution.supervisor import Supervisor
from sweep.execution.worker import remote_trial, trial
from sweep.gridfile.schema import Resources, TrialResources
from sweep.plan.trials import Trial
from sweep.schedule.queue import TrialQueue
from sweep.storage import trial_log
from sweep.storage.trial_folder import TrialFolder
from trainers import attempt, devices

NODE = "ray.io/node-id"
"""The label by which Ray names each node."""

MOST_ATTEMPTS = 10_000
"""Of a trial, where each goes further than the one before."""

PREEMPTED = "preempted (SIGTERM)"

UNPLACED_LOOK_SECONDS = 10.0

# Tune sends AWS keys along with the trials, and Ray's agent writes what is sent to its log.
class_cache.ENV_VARS_TO_PROPAGATE.difference_update(
    [name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")]
)


def run(
    frontier: TrialQueue,
    jobs: dict[str, Job],
    resources: Resources,
    asked: dict[str, TrialResources],
    at_once: int,
    callback: TrialCallback,
    retries: Retries,
    reached: Callable[[], str],
    scratch: Path,
    metrics: Metrics,
) -> None:
    """Run every trial of the frontier under Ray Tune, `at_once` of them, until `reached` says that
    a limit of the run is; `asked` has what a trial of each stage gets, `scratch` is for Tune's
    files.

    One `Tuner.fit` serves all stages, since workers are reused only within one: a searcher hands
    out each trial as soon as its parent is done, and again where it is to be retried. Tune itself
    retries nothing: it would not know whose fault a failure was, nor send the trial elsewhere.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are in the records
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_once)  # a waiting trial keeps a worker alive
    reuse = resources.reuse_workers
    if reuse is None:
        reuse = not any(resources.gpus_per_trial for resources in asked.values())
    supervisor = Supervisor(jobs, ray_tasks.end_attempt, reached)
    queue = _Queue(frontier, callback, retries, supervisor, metrics, asked)

    def bundle(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        mine = asked[config["stage"]]
        options = {}
        if nodes := config.get("not_on"):
            options["bundle_label_selector"] = [{NODE: f"!in({','.join(nodes)})"}]
        return tune.PlacementGroupFactory(
            [{"CPU": mine.cpus_per_trial, "GPU": mine.gpus_per_trial}], **options
        )

    trainable: Any = tune.with_resources(
        tune.with_parameters(SweepTrial, jobs=[ray.put(jobs)]), bundle
    )
    trainable.__qualname__ = SweepTrial.__name__  # as the dashboard shows it
    with preemption.heard(), compat_ray.named_trials(lambda config: config["title"], reuse):
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=queue,
                scheduler=_Forgetting(asked),
                num_samples=MOST_ATTEMPTS * len(jobs),
                max_concurrent_trials=at_once,
                reuse_actors=reuse,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(scratch),
                verbose=0,
                callbacks=[_Progress(callback, supervisor, metrics)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()


@cache
def _opened(jobs: ray.ObjectRef) -> dict[str, Job]:
    """Read once by each worker, not once for each of its trials."""
    return ray.get(jobs)


class SweepTrial(tune.Trainable):
    """One attempt at a trial, in the main thread of a worker, where signals arrive."""

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]  (Tune passes its parameters)
        self, config: dict[str, Any], jobs: list[ray.ObjectRef]
    ) -> None:
        self._jobs = jobs
        faulthandler.enable(file=2, all_threads=True)  # the trial's log, while one runs
        before = signal.getsignal(signal.SIGTERM)

        def preempted(number: int, frame: Any) -> None:
            if (this := attempt.current()) is not None:
                attempt.ask_to_stop(this.folder, PREEMPTED)
            elif callable(before):
                before(number, frame)

        signal.signal(signal.SIGTERM, preempted)

    def step(self) -> dict[str, Any]:
        job = _opened(self._jobs[0])[self.config["key"]]
        devices.restrict(job.gpus)
        node = ray.get_runtime_context().get_node_id()
        with (
            remote_trial.here(job) as here,
            trial_log.output(TrialFolder(Path(here.folder)).log),
        ):
            outcome = trial.run(here, node, shared=False)
        return outcome._asdict() | {"done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config
        return True


class _Progress(TrialProgressCallback):
    """Passes on the beginning of each attempt, and looks after those that run; pickles to nothing.
    In the place of Tune's own, which prints, and keeps every trial in mind to do so."""

    def __init__(self, callback: TrialCallback, supervisor: Supervisor, metrics: Metrics):
        super().__init__()
        self._metrics = metrics
        self._callback = callback
        self._supervisor = supervisor
        self._asked = False

    def log_result(self, trial: Any, result: dict[str, Any], error: bool = False) -> None:
        pass

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        pass

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._supervisor.started(trial.config["key"])
        self._callback.started(trial.config["key"])
        self._metrics.began(trial.config["key"])

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        self._supervisor.look()
        self._metrics.look()
        if preemption.noticed():
            if not self._asked:
                self._asked = True
                self._supervisor.ask_all_to_stop("SIGTERM")
            if preemption.is_due() or not self._supervisor.running:
                raise KeyboardInterrupt

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Forgetting(FIFOScheduler):
    """First come, first served. Lets go of trials that have ended, whose records are in the run
    folder."""

    def __init__(self, asked: dict[str, TrialResources]):
        super().__init__()
        self._asked = asked
        self._looked = 0.0

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """A trial that waits for other nodes than those it failed on comes back to the queue when
        they are gone: it would wait for ever."""
        now = time.monotonic()
        if now - self._looked > UNPLACED_LOOK_SECONDS:
            self._looked = now
            for one in list(tune_controller.get_trials()):
                nodes = one.config.get("not_on")
                if nodes and one.status == one.PENDING:
                    resources = self._asked[one.config["stage"]]
                    if not ray_cluster.fits_elsewhere(resources, nodes):
                        tune_controller.stop_trial(one)
        return super().choose_trial_to_run(tune_controller)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Of those that ended before this one; Tune still needs this one, and one at the end."""
        compat_ray.forget_ended_trials(tune_controller)


class _Queue(Searcher):
    """Hands Tune the trials that may run; holds no state that Tune would have to restore."""

    def __init__(
        self,
        frontier: TrialQueue,
        callback: TrialCallback,
        retries: Retries,
        supervisor: Supervisor,
        metrics: Metrics,
        asked: dict[str, TrialResources],
    ):
        super().__init__()
        self._metrics = metrics
        self._frontier = frontier
        self._callback = callback
        self._retries = retries
        self._supervisor = supervisor
        self._asked = asked
        self._open: dict[str, Trial] = {}
        """Trials that Tune has, by its id."""
        self._again: deque[Trial] = deque()

    def suggest(self, trial_id: str) -> Any:
        stops = self._retries.hopeless or preemption.noticed() or self._supervisor.is_over
        planned = None
        if not stops:
            planned = self._again.popleft() if self._again else self._frontier.next()
        if planned is None:
            waits = self._open or (not stops and (self._again or not self._frontier.exhausted))
            return None if waits else Searcher.FINISHED
        self._open[trial_id] = planned
        shown: dict[str, Any] = {"key": planned.key, "stage": planned.stage}
        shown |= {"title": planned.title}
        if planned.spec is not None:
            shown |= planned.spec.model_dump(include={"learning_rate", "batch_size", "seed"})
        nodes = self._retries.avoided(planned.key)
        if ray_cluster.fits_elsewhere(self._asked[planned.stage], nodes):
            shown["not_on"] = list(nodes)
        return shown

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        planned = self._open.pop(trial_id)
        key = planned.key
        self._supervisor.ended(key)
        if not error and not (result and "status" in result):  # it could not be placed
            self._again.append(planned)
            return
        if error:
            if self._retries.again(key):
                self._try_again(planned)
                return
            outcome = Outcome(key, "failed", "", 0.0, 0.0)
        else:
            outcome = Outcome(*(result[field] for field in Outcome._fields))
            if outcome.status == "stopped" and outcome.reason.startswith(PREEMPTED):
                self._try_again(planned)
                return
            if outcome.status in ("ok", "diverged"):
                self._retries.ended(key)
        self._frontier.ended(key)
        self._metrics.ended(key, outcome.status)
        self._callback.ended(outcome)

    def _try_again(self, planned: Trial) -> None:
        self._metrics.ended(planned.key, "waiting")
        self._callback.retried(planned.key)
        self._again.append(planned)

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass

    def __getstate__(self) -> dict[str, Any]:
        return {}
