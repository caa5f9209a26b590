"""Trials on Ray Tune, which schedules, places, retries and shows; the records in the run folder say
what happened."""

import faulthandler
import logging
import os
import signal
import time
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

from sweep.execution import preemption
from sweep.execution.backends import compat_ray, ray_cluster, ray_tasks
from sweep.execution.backends.ray_metrics import Metrics
from sweep.execution.backends.ray_nodes import RayNodes
from sweep.execution.backends.ray_queue import BESIDE, PASS, Followed, Queue
from sweep.execution.handout import PREEMPTED, Handout
from sweep.execution.job import Job, TrialCallback
from sweep.execution.retries import Retries
from sweep.execution.supervisor import Supervisor
from sweep.execution.worker import bundle, other_nodes, remote_trial, trial
from sweep.gridfile.keys.resources import Resources, TrialResources
from sweep.schedule.queue import TrialQueue
from sweep.storage import trial_log
from sweep.storage.trial_folder import TrialFolder
from trainers.processes import attempt, devices

NODE = "ray.io/node-id"
"""The label by which Ray names each node."""

MOST_ATTEMPTS = 10_000
"""Of a trial, where each goes further than the one before."""

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
    at_once: dict[str, int],
    callback: TrialCallback,
    retries: Retries,
    reached: Callable[[], str],
    scratch: Path,
    metrics: Metrics,
    say: Callable[[str], None],
) -> None:
    """Run every trial of the frontier under Ray Tune, until `reached` says that a limit of the run
    is; `asked` has what a trial of each stage gets, `at_once` how many of it fit at once, `scratch`
    is for Tune's files.

    One `Tuner.fit` serves all stages, since workers are reused only within one: a searcher hands
    out each trial as soon as its parent is done, and again where it is to be retried. Tune itself
    retries nothing: it would not know whose fault a failure was, nor send the trial elsewhere.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are in the records
    most = max(at_once.values())
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(most)  # a waiting trial keeps a worker alive
    reuse = resources.reuse_workers
    if reuse is None:
        reuse = not any(resources.gpus_per_trial for resources in asked.values())
    supervisor = Supervisor(jobs, ray_tasks.end_attempt, reached, callback.sees)
    followed = Followed(callback, supervisor, metrics)
    handout = Handout(frontier, retries, followed, at_once, say)
    queue = Queue(handout, retries, supervisor, asked)

    def placement(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        mine = asked[config["stage"]]
        bundle = {"CPU": mine.cpus_per_node, "GPU": mine.gpus_per_node}
        options: dict[str, Any] = {}
        if mine.nodes_per_trial > 1:
            options["strategy"] = "STRICT_SPREAD"
        if nodes := config.get("not_on"):
            selector = {NODE: f"!in({','.join(nodes)})"}
            options["bundle_label_selector"] = [selector] * mine.nodes_per_trial
        return tune.PlacementGroupFactory([bundle] * mine.nodes_per_trial, **options)

    trainable: Any = tune.with_resources(
        tune.with_parameters(SweepTrial, jobs=[ray.put(jobs)]), placement
    )
    trainable.__qualname__ = SweepTrial.__name__  # as the dashboard shows it
    with preemption.heard(), compat_ray.named_trials(lambda config: config["title"], reuse):
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=queue,
                scheduler=_Forgetting(asked, say),
                num_samples=MOST_ATTEMPTS * len(jobs),
                max_concurrent_trials=most,
                reuse_actors=reuse,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(scratch),
                verbose=0,
                callbacks=[_Progress(queue, supervisor, metrics)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()


@cache
def _opened(jobs: ray.ObjectRef) -> dict[str, Job]:
    """Read once by each worker, not once for each of its trials."""
    return ray.get(jobs)


class SweepTrial(tune.Trainable):
    """One attempt at a trial, in the main thread of a worker, where signals arrive. Where others
    are trained in one pass with it, that comes first and has a result of its own."""

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]  (Tune passes its parameters)
        self, config: dict[str, Any], jobs: list[ray.ObjectRef]
    ) -> None:
        self._jobs = jobs
        self._passed = False
        faulthandler.enable(file=2, all_threads=True)  # the trial's log, while one runs
        before = signal.getsignal(signal.SIGTERM)

        def preempted(number: int, frame: Any) -> None:
            if (this := attempt.current()) is not None:
                for part in this.parts:
                    attempt.ask_to_stop(part.folder, PREEMPTED)
            elif callable(before):
                before(number, frame)

        signal.signal(signal.SIGTERM, preempted)

    def step(self) -> dict[str, Any]:
        jobs = _opened(self._jobs[0])
        job = jobs[self.config["key"]]
        devices.restrict(job.gpus / job.nodes)
        node = ray.get_runtime_context().get_node_id()
        beside = self.config.get(BESIDE)
        if beside and not self._passed:
            self._passed = True
            return self._pass([job, *(jobs[key] for key in beside)], node)
        with (
            remote_trial.here(job) as here,
            trial_log.output(TrialFolder(Path(here.folder)).log),
            other_nodes.reached(RayNodes(job) if job.nodes > 1 else None),
        ):
            outcome = trial.run(here, node, shared=False)
        return outcome._asdict() | {"done": True}

    def _pass(self, jobs: list[Job], node: str) -> dict[str, Any]:
        with (
            remote_trial.all_here(jobs) as here,
            trial_log.output(TrialFolder(Path(here[0].folder)).log),
        ):
            outcomes = bundle.train(here, node, shared=False)
        return {PASS: [list(one) for one in outcomes], "done": outcomes[0].is_final}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config
        self._passed = False
        return True


class _Progress(TrialProgressCallback):
    """Passes on the beginning of each attempt, and looks after those that run; pickles to nothing.
    In the place of Tune's own, which prints, and keeps every trial in mind to do so."""

    def __init__(self, queue: Queue, supervisor: Supervisor, metrics: Metrics):
        super().__init__()
        self._metrics = metrics
        self._queue = queue
        self._supervisor = supervisor
        self._asked = False

    def log_result(self, trial: Any, result: dict[str, Any], error: bool = False) -> None:
        pass

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        pass

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._queue.started(trial.trial_id)

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
    folder; pickles to nothing."""

    def __init__(self, asked: dict[str, TrialResources], say: Callable[[str], None]):
        super().__init__()
        self._asked = asked
        self._say = say
        self._said: set[str] = set()
        self._looked = 0.0

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """A trial that waits for other nodes than those it failed on comes back to the queue when
        they are gone: it would wait for ever."""
        now = time.monotonic()
        if now - self._looked > UNPLACED_LOOK_SECONDS:
            self._looked = now
            for one in list(tune_controller.get_trials()):
                if one.status == one.PENDING:
                    self._look_at(tune_controller, one)
        return super().choose_trial_to_run(tune_controller)

    def _look_at(self, tune_controller: Any, waiting: Any) -> None:
        stage, nodes = waiting.config["stage"], waiting.config.get("not_on")
        resources = self._asked[stage]
        if nodes and not ray_cluster.fits_elsewhere(resources, nodes):
            tune_controller.stop_trial(waiting)
        elif stage not in self._said and (why := ray_cluster.lacking(resources)):
            self._said.add(stage)
            self._say(f"{stage} waits for nodes to join: {why}")

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Of those that ended before this one; Tune still needs this one, and one at the end."""
        compat_ray.forget_ended_trials(tune_controller)
