"""What Tune is told while the records of a trial that has ended are not here."""

from types import SimpleNamespace
from typing import Any

from sweep.execution.handout import Handout
from sweep.execution.job import Outcome
from sweep.plan.trials import Trial
from sweep.schedule.queue import Pending, TrialQueue
from trainers.specs.data import Model


def test_tune_waits_for_the_records_of_a_trial_that_has_ended():
    from ray.tune.search import Searcher

    from sweep.execution.backends.ray_queue import Queue

    trial = Trial(key="a", parent=None, stage="s", arm="", model=Model(name="tiny"), spec=None)
    here: set[str] = set()
    ends: list[Outcome] = []
    told: Any = SimpleNamespace(seen=here.__contains__, ended=ends.append)
    retries: Any = SimpleNamespace(hopeless="", avoided=lambda key: [], ended=lambda key: None)
    pending = Pending([trial], lambda key: True)
    handout = Handout(TrialQueue(pending), retries, told, {"s": 1}, print)
    supervisor: Any = SimpleNamespace(is_over=False)
    asked: Any = {"s": None}
    queue = Queue(handout, retries, supervisor, asked)

    assert queue.suggest("1")["key"] == "a"
    outcome = Outcome("a", "ok", "", 1.0, 0.0)
    queue.on_trial_complete("1", result=outcome._asdict())
    assert queue.suggest("2") is None and ends == []
    here.add("a")
    assert queue.suggest("2") == Searcher.FINISHED and ends == [outcome]
