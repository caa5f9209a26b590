"""How many trials Ray's metrics count in each state, as a queue hands them out."""

from types import SimpleNamespace
from typing import Any

from sweep.execution.backends.ray_metrics import Metrics
from sweep.plan.reference_passes import ReferencePass
from sweep.plan.trials import Trial
from sweep.schedule.queue import Pending, TrialQueue
from tests.sweep.schedule.pools.deciding import DECIDE, Records
from trainers.specs.data import Model


def jobs(trials: list[Trial]) -> dict[str, Any]:
    return {trial.key: SimpleNamespace(trial=trial) for trial in trials}


def trial(key: str, kind: type[Trial] = Trial) -> Trial:
    return kind(key=key, parent=None, stage="s", arm="", model=Model(name="tiny"), spec=None)


def test_cells_that_will_not_be_chosen_do_not_wait(load, tmp_path):
    records = Records(load(DECIDE), tmp_path)
    pool = records.pool()
    queue = records.queue(pool)
    metrics = Metrics("decided")
    metrics.follow(queue, jobs(records.planned))
    most = pool.total(records.planned)
    assert metrics.counts()["waiting"] == most < len(records.planned)
    for begun in (1, 2):
        given = queue.next()
        assert given is not None
        metrics.began(given.key)
        assert metrics.counts()["waiting"] == most - begun
        records.end(given)
        queue.ended(given.key)
        metrics.ended(given.key, "ok")
    assert metrics.counts() == {"ok": 2, "waiting": most - 2}


def test_counts_are_those_of_all_waves_without_reference_passes():
    metrics = Metrics("waves")
    waves = [[trial("a"), trial("b")], [trial("p", ReferencePass), trial("c"), trial("d")]]
    queues = [TrialQueue(Pending(trials, lambda key: True)) for trials in waves]
    for queue, trials in zip(queues, waves, strict=True):
        metrics.follow(queue, jobs(trials))
        for _ in trials[:-1]:
            before = metrics.counts()["waiting"]
            given = queue.next()
            assert given is not None
            assert metrics.counts()["waiting"] == before, "handed out, and not begun"
            metrics.began(given.key)
            metrics.ended(given.key, "ok")
        assert metrics.counts()["waiting"] == 1
    assert metrics.counts() == {"ok": 2, "waiting": 1}
    queues[-1].stopped = True
    assert metrics.counts()["waiting"] == 0
