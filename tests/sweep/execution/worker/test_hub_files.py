"""What a node that joins later has of the hub before a trial runs there."""

import threading
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweep.execution.backends.runner import OnRay
from sweep.execution.job import Job, make
from sweep.execution.worker import bundle, hub_files, trial
from sweep.options import Options
from sweep.plan import trials
from sweep.resolve.resolve import resolve
from sweep.schedule.queue import Pending, TrialQueue
from sweep.storage.run_folder import RunFolder
from sweep.storage.trial_folder import TrialFolder
from trainers import hub
from trainers.processes import attempt
from trainers.specs.data import DataSpec, Model

NEEDED = hub.Needs(models=(Model(name="maker/base"),), data=(), evaluate=None, offline=False)


@pytest.fixture
def fetched(monkeypatch, tmp_path) -> list[hub.Needs]:
    """What was fetched, for whatever node."""
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    fetched: list[hub.Needs] = []
    monkeypatch.setattr(hub, "fetch", fetched.append)
    return fetched


def test_node_fetches_once_and_another_for_itself_though_they_share_the_cache(fetched):
    for node in ("one", "one", "other", "other"):
        hub_files.ensure(NEEDED, node)
    assert len(fetched) == 2
    hub_files.ensure(NEEDED.model_copy(update={"models": (Model(name="maker/next"),)}), "one")
    assert len(fetched) == 3
    hub_files.ensure(None, "third")
    hub_files.note(NEEDED, "the driver's")
    hub_files.ensure(NEEDED, "the driver's")
    assert len(fetched) == 3


def test_trials_that_come_meanwhile_wait_and_show_that_they_do(fetched, monkeypatch, tmp_path):
    monkeypatch.setattr(hub_files, "SIGNS_EVERY", 0.01)
    monkeypatch.setattr(attempt, "SIGN_SECONDS", 0.0)
    may_end, signs = threading.Event(), set[bytes]()

    def slowly(needed: hub.Needs) -> None:
        assert may_end.wait(20)
        fetched.append(needed)

    monkeypatch.setattr(hub, "fetch", slowly)
    other = threading.Thread(target=hub_files.ensure, args=(NEEDED, "one"))
    other.start()

    def look() -> None:
        while len(signs) < 3:
            signs.add(attempt.last_sign(tmp_path))
        may_end.set()

    watching = threading.Thread(target=look)
    with attempt.begun(tmp_path):
        watching.start()
        hub_files.ensure(NEEDED, "one")
    other.join()
    watching.join()
    assert len(fetched) == 1


@pytest.fixture
def jobs(load, small, tmp_path) -> list[Job]:
    resolved, run = resolve(load(small)), RunFolder(tmp_path / "run")
    cells = [cell for cell in trials.trials(resolved.grid) if cell.spec is not None][:2]
    for cell in cells:
        run.trial(cell).path.mkdir(parents=True)
    return [make(cell, None, resolved, run)._replace(needed=NEEDED) for cell in cells]


def test_node_that_cannot_fetch_fails_a_trial_and_a_pass_as_a_fault_of_the_machine(
    jobs, fetched, monkeypatch
):
    def fails(needed: hub.Needs) -> None:
        raise hub.FetchFailed("model 'maker/base': the hub answers 503; try again later")

    monkeypatch.setattr(hub, "fetch", fails)
    with pytest.raises(trial.TrialFailed):
        trial.run(jobs[0], "joined later")
    with pytest.raises(trial.TrialFailed, match="the hub answers 503"):
        bundle.train(jobs, "joined later")
    for job, attempts in zip(jobs, (2, 1), strict=True):
        failures = [e for e in TrialFolder(Path(job.folder)).attempts() if e["event"] != "started"]
        assert [(e["event"], e["phase"]) for e in failures] == [("failed", "machine")] * attempts
        assert all("the hub answers 503" in failure["reason"] for failure in failures)


def test_first_node_of_a_trial_shows_that_it_waits_for_another_that_fetches(
    jobs, monkeypatch, tmp_path
):
    from sweep.execution.backends import ray_nodes

    monkeypatch.setattr(attempt, "SIGN_SECONDS", 0.0)
    signs: list[bytes] = []

    def wait(replies: list[str], timeout: float) -> tuple[list[str], list[str]]:
        signs.append(attempt.last_sign(tmp_path))
        return (replies, []) if len(signs) == 3 else ([], replies)

    def started(*_: object, **options: object) -> SimpleNamespace:
        def call(reply: object) -> SimpleNamespace:
            return SimpleNamespace(remote=lambda *_: reply)

        where = ("127.0.0.2", "other")
        actor = SimpleNamespace(where=call(where), begin=call(jobs[0]), end=call(None))
        return SimpleNamespace(remote=lambda job: actor)

    fake = SimpleNamespace(wait=wait, get=lambda reply, timeout=0: reply, kill=lambda actor: None)
    group = SimpleNamespace(bundle_specs=[{}, {}])
    fake.util = SimpleNamespace(
        get_node_ip_address=lambda: "127.0.0.1", get_current_placement_group=lambda: group
    )
    monkeypatch.setattr(ray_nodes, "ray", fake)
    monkeypatch.setattr(ray_nodes, "_TrialNode", SimpleNamespace(options=started))
    monkeypatch.setattr(ray_nodes, "PlacementGroupSchedulingStrategy", lambda *_: None)
    nodes = ray_nodes.RayNodes(jobs[0]._replace(nodes=2))
    with attempt.begun(tmp_path), nodes.opened("id", "train.json") as others:
        assert [other.job for other in others] == jobs[:1]
    assert len(set(signs)) == 3
    assert b"waiting for the other nodes" in signs[-1]


def test_trials_on_ray_know_what_their_nodes_need(jobs, load, small, monkeypatch, tmp_path):
    from sweep.execution.backends import ray_cluster, ray_tasks, ray_tune

    seen: dict[str, Job] = {}
    needed = NEEDED.model_copy(update={"data": (DataSpec(name="maker/rows"),)})
    ray = OnRay(load(small), Options(), needed, lambda: "", lambda line: None)
    monkeypatch.setattr(ray_cluster, "connected", lambda *_: nullcontext(
        SimpleNamespace(dashboard="none", scratch=tmp_path)
    ))  # fmt: skip
    monkeypatch.setattr(ray_cluster, "admit", lambda *_: None)
    monkeypatch.setattr(ray_cluster, "concurrency", lambda *_, **__: 1)
    monkeypatch.setattr(ray_tasks, "fetch_on_other_nodes", lambda needed: None)
    monkeypatch.setattr(ray_tune, "run", lambda frontier, jobs, *_: seen.update(jobs))
    plain = {job.trial.key: job._replace(needed=None) for job in jobs}
    try:
        ray.run(TrialQueue(Pending([], bool)), plain, None)
    finally:
        ray.leave()
    assert [job.needed for job in seen.values()] == [NEEDED] * len(seen), (
        "the data is prepared already"
    )
