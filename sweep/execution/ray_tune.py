"""Trials on Ray Tune, which schedules, places, retries and shows; the records in the run folder say
what happened."""

import os
import tempfile
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

from sweep.execution import remote_trial as scratch
from sweep.execution import trial
from sweep.execution.job import Job, Outcome, Watch
from sweep.gridfile.schema import Resources, TrialResources
from sweep.schedule.queue import Frontier
from sweep.storage import trial_log
from sweep.storage.run_folder import TrialFolder
from trainers import devices

# Tune sends AWS keys along with the trials, and Ray's agent writes what is sent to its log.
class_cache.ENV_VARS_TO_PROPAGATE.difference_update(
    [name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")]
)


def run(
    frontier: Frontier,
    jobs: dict[str, Job],
    resources: Resources,
    asked: dict[str, TrialResources],
    at_once: int,
    watch: Watch,
) -> None:
    """Run every trial of the frontier under Ray Tune, `at_once` of them; `asked` has what a trial
    of each stage gets.

    One `Tuner.fit` serves all stages, since workers are reused only within one: a searcher hands
    out each trial as soon as its parent is done.
    """
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_once)  # a waiting trial keeps a worker alive
    reuse = resources.reuse_workers
    on_gpu = any(one.gpus_per_trial for one in asked.values())

    def bundle(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        one = asked[config["stage"]]
        return tune.PlacementGroupFactory([{"CPU": one.cpus_per_trial, "GPU": one.gpus_per_trial}])

    with tempfile.TemporaryDirectory(prefix="sweep-tune-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(_run_job, jobs=[ray.put(jobs)]),
                bundle,
            ),
            tune_config=tune.TuneConfig(
                search_alg=_Ready(frontier, watch),
                scheduler=_Forgetting(),
                num_samples=len(jobs),
                max_concurrent_trials=at_once,
                reuse_actors=not on_gpu if reuse is None else reuse,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=scratch,
                verbose=0,
                callbacks=[_Told(watch)],
                failure_config=tune.FailureConfig(max_failures=resources.retries),
            ),
        )
        tuner.fit()


@cache
def _opened(jobs: ray.ObjectRef) -> dict[str, Job]:
    """Read once by each worker, not once for each of its trials."""
    return ray.get(jobs)


def _run_job(config: dict[str, Any], jobs: list[ray.ObjectRef]) -> None:
    job = _opened(jobs[0])[config["key"]]
    devices.restrict(job.gpus)
    with scratch.here(job) as mine, trial_log.output(TrialFolder(Path(mine.folder)).log):
        outcome = trial.run(mine)
    tune.report(outcome._asdict())


class _Told(TrialProgressCallback):
    """Passes on the beginning of each attempt; what Tune would pickle of it is nothing. In the
    place of Tune's own, which prints, and keeps every trial in mind to do so."""

    def __init__(self, watch: Watch):
        super().__init__()
        self._watch = watch

    def log_result(self, trial: Any, result: dict[str, Any], error: bool = False) -> None:
        pass

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        pass

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._watch.started(trial.config["key"])

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._watch.retried(trial.config["key"])

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Forgetting(FIFOScheduler):
    """First come, first served. Lets go of trials that have ended, whose records are in the run
    folder: Tune keeps each with its results (30 kB), and goes through all of them at every step.

    By Tune's own names, which may change: pyproject.toml holds Ray at 2.60."""

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Of those that ended before this one; Tune still needs this one, and one at the end."""
        ended = [*tune_controller._stopped_trials, *tune_controller._failed_trials]
        for one in ended:
            tune_controller._trial_metadata.pop(one.trial_id, None)
        tune_controller._trials_to_cache.difference_update(ended)
        tune_controller._stopped_trials.clear()
        tune_controller._failed_trials.clear()
        trials = tune_controller.get_trials()
        trials[:] = [one for one in trials if not one.is_finished()]


class _Ready(Searcher):
    """Hands Tune the frontier's trials; holds no state that Tune would have to restore."""

    def __init__(self, frontier: Frontier, watch: Watch):
        super().__init__()
        self._frontier = frontier
        self._watch = watch
        self._keys: dict[str, str] = {}

    def suggest(self, trial_id: str) -> Any:
        planned = self._frontier.next()
        if planned is not None:
            self._keys[trial_id] = planned.key
            shown = {"key": planned.key, "stage": planned.stage}
            if planned.spec is not None:
                shown |= planned.spec.model_dump(include={"learning_rate", "batch_size", "seed"})
            return shown
        return Searcher.FINISHED if self._frontier.exhausted else None

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        key = self._keys[trial_id]
        self._frontier.ended(key)
        if error or not result or "status" not in result:
            self._watch.ended(Outcome(key, "failed", "", 0.0, 0.0))
        else:
            self._watch.ended(Outcome(*(result[field] for field in Outcome._fields)))
        del self._keys[trial_id]

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass

    def __getstate__(self) -> dict[str, Any]:
        return {}
