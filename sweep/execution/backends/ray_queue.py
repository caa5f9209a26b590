"""What Tune asks for its next trial: a trial of the grid, or several to be trained in one pass.

Several are one trial of Tune's. What their pass leaves to be done (scores, or all of a trial that
was not trained in it) comes back as soon as the pass is over, and goes to whichever worker is free;
the first of them stays with its worker, which brings it to its end.
"""

from typing import Any

# isort: split

from ray.tune.search import Searcher

from sweep.execution import preemption
from sweep.execution.backends import ray_cluster
from sweep.execution.backends.ray_metrics import Metrics
from sweep.execution.handout import Handout
from sweep.execution.job import Outcome, TrialCallback
from sweep.execution.retries import Retries
from sweep.execution.supervisor import Supervisor
from sweep.gridfile.keys.resources import TrialResources
from sweep.plan.bundles import title
from sweep.plan.trials import Trial

BESIDE = "beside"
"""In the configuration of one of Tune's trials: keys of those that are trained in one pass with its
first."""

PASS = "pass"
"""In a result: the outcomes of a pass, one for each trial of it."""


class Queue(Searcher):
    """Hands Tune the trials that may run; holds no state that Tune would have to restore."""

    def __init__(
        self,
        handout: Handout,
        retries: Retries,
        supervisor: Supervisor,
        asked: dict[str, TrialResources],
    ):
        super().__init__()
        self._handout = handout
        self._retries = retries
        self._supervisor = supervisor
        self._asked = asked
        self._open: dict[str, list[Trial]] = {}
        """Trials that Tune has, by its id."""

    def suggest(self, trial_id: str) -> Any:
        told = self._handout.caught_up() or preemption.noticed()
        stops = self._retries.hopeless or preemption.noticed() or self._supervisor.is_over
        bundle = [] if stops else self._handout.next()
        if not bundle:
            waits = self._open or not told or (not stops and not self._handout.exhausted)
            return None if waits else Searcher.FINISHED
        self._open[trial_id] = bundle
        first = bundle[0]
        shown: dict[str, Any] = {"key": first.key, "stage": first.stage, "title": title(bundle)}
        if len(bundle) > 1:
            shown[BESIDE] = [trial.key for trial in bundle[1:]]
        if first.spec is not None:
            shown |= first.spec.model_dump(include={"learning_rate", "batch_size", "seed"})
        nodes = sorted({node for trial in bundle for node in self._retries.avoided(trial.key)})
        if ray_cluster.fits_elsewhere(self._asked[first.stage], nodes):
            shown["not_on"] = nodes
        return shown

    def started(self, trial_id: str) -> None:
        self._handout.started(self._open[trial_id])

    def on_trial_result(self, trial_id: str, result: Any) -> None:
        """A pass is over; its worker goes on with the first of its trials."""
        bundle = self._open[trial_id]
        self._open[trial_id] = bundle[:1]
        self._handout.goes_on(bundle, _outcomes(result))

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        bundle = self._open.pop(trial_id)
        if error:
            self._handout.failed(bundle)
        elif outcomes := _outcomes(result):
            self._handout.ended(bundle, outcomes)
        else:  # it could not be placed
            self._handout.back(bundle)

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _outcomes(result: Any) -> list[Outcome]:
    """Of the trials of a pass, or of a trial alone; empty where there is no result."""
    if not result:
        return []
    if PASS in result:
        return [Outcome(*outcome) for outcome in result[PASS]]
    return [Outcome(*(result[field] for field in Outcome._fields))] if "status" in result else []


class Followed:
    """Tells what becomes of trials to those who look after the running ones too."""

    def __init__(self, callback: TrialCallback, supervisor: Supervisor, metrics: Metrics):
        self._callback = callback
        self._supervisor = supervisor
        self._metrics = metrics

    def started(self, key: str, lanes: int = 1) -> None:
        self._supervisor.started(key, lanes)
        self._callback.started(key, lanes)
        self._metrics.began(key)

    def sees(self) -> bool:
        return self._callback.sees()

    def seen(self, key: str) -> bool:
        self._supervisor.ended(key)
        return self._callback.seen(key)

    def handed_back(self, key: str) -> None:
        self._metrics.ended(key, "waiting")
        self._callback.handed_back(key)

    def retried(self, key: str) -> None:
        self._metrics.ended(key, "waiting")
        self._callback.retried(key)

    def died(self, key: str) -> None:
        self._callback.died(key)

    def ended(self, ended: Outcome) -> None:
        self._metrics.ended(ended.key, ended.status)
        self._callback.ended(ended)
