"""Where trials run: in this process, or on Ray, joined once for all waves of a run."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from sweep.execution.backends import local
from sweep.execution.handout import Handout
from sweep.execution.job import Job, TrialCallback
from sweep.execution.retries import Retries
from sweep.gridfile.keys.schema import Grid
from sweep.options import Options
from sweep.resolve.resolve import CannotStart
from sweep.schedule.queue import TrialQueue
from trainers import hub
from trainers.hub import Needs
from trainers.processes import devices

if TYPE_CHECKING:
    from sweep.execution.backends import ray_cluster, ray_metrics

Say = Callable[[str], None]
Reached = Callable[[], str]
"""Which limit of the run has been reached, in words; "" while none is."""


class Runner(Protocol):
    def join(self) -> None:
        """Have ready what trials run on; done before, it takes no time.

        Raises:
            CannotStart: there is no such cluster.
        """
        ...

    def run(
        self, frontier: TrialQueue, jobs: dict[str, Job], callback: TrialCallback
    ) -> dict[str, int]:
        """Run the frontier; returns how many trials of each stage fit at once.

        Raises:
            CannotStart: there is no such cluster, or a trial of these fits on none of its nodes.
        """
        ...

    def leave(self) -> None:
        """Give it back, before the end of the block."""
        ...


@contextlib.contextmanager
def runner(
    grid: Grid, options: Options, needed: Needs, reached: Reached, say: Say
) -> Iterator[Runner]:
    """What `options` asks for, until the end of the block; `needed` is what every node fetches,
    `reached` says which limit running trials stop for."""
    if options.local:
        yield Here(grid, reached, say)
        return
    ray = OnRay(grid, options, needed, reached, say)
    try:
        yield ray
    finally:
        ray.leave()


class Here:
    def __init__(self, grid: Grid, reached: Reached, say: Say):
        self._retries = grid.resources.retries
        self._reached = reached
        self._say = say

    def join(self) -> None:
        pass

    def run(
        self, frontier: TrialQueue, jobs: dict[str, Job], callback: TrialCallback
    ) -> dict[str, int]:
        _check_local({job.gpus for job in jobs.values() if job.trial.spec is not None})
        retries = Retries(jobs, self._retries, callback, self._say)
        at_once = dict.fromkeys((job.trial.stage for job in jobs.values()), 1)
        handout = Handout(frontier, retries, callback, at_once, self._say)
        local.run(handout, jobs, retries, self._reached)
        return at_once

    def leave(self) -> None:
        pass


def _check_local(asked: set[float]) -> None:
    """
    Raises:
        CannotStart: one process cannot show its trials different numbers of GPUs.
    """
    counts = {min(devices.per_trial(gpus), len(devices.visible())) for gpus in asked}
    if len(counts) > 1 and max(counts) > 1:
        raise CannotStart(
            "--local: resources.gpus_per_trial differs between stages, and one process cannot show "
            "its trials different numbers of GPUs; leave --local out, or give one number"
        )


class OnRay:
    def __init__(self, grid: Grid, options: Options, needed: Needs, reached: Reached, say: Say):
        self._grid = grid
        self._options = options
        self._needed = hub.of_trials(needed if options.store is None else hub.elsewhere(needed))
        self._say = say
        self._reached = reached
        self._joined = contextlib.ExitStack()
        self._cluster: ray_cluster.Cluster | None = None
        self._metrics: ray_metrics.Metrics | None = None

    def join(self) -> None:
        from sweep.execution.backends import ray_cluster
        from sweep.execution.backends.ray_metrics import Metrics

        if self._cluster is not None:
            return
        with _cannot_start():
            self._cluster = self._joined.enter_context(
                ray_cluster.connected(
                    self._options.address, self._options.dashboard_host, self._grid.name
                )
            )
        self._metrics = Metrics(self._grid.name)
        self._joined.enter_context(devices.seeing(0))  # Ray has counted them; the driver needs none
        if warning := ray_cluster.exposed(self._cluster.dashboard):
            self._say(warning)

    def run(
        self, frontier: TrialQueue, jobs: dict[str, Job], callback: TrialCallback
    ) -> dict[str, int]:
        from sweep.execution.backends import ray_cluster, ray_tasks, ray_tune

        self.join()
        assert self._cluster is not None and self._metrics is not None
        resources, wait = self._grid.resources, self._options.wait_minutes
        stages = dict.fromkeys(job.trial.stage for job in jobs.values())
        asked = {stage: self._grid.trial_resources(stage) for stage in stages}
        with _cannot_start():
            ray_cluster.admit(asked.values(), wait)
            at_once = {
                stage: ray_cluster.concurrency(one, resources.max_concurrent, grows=wait > 0)
                for stage, one in asked.items()
            }
            if not self._needed.empty:
                ray_tasks.fetch_on_other_nodes(self._needed)
                jobs = {key: job._replace(needed=self._needed) for key, job in jobs.items()}
            most = max(at_once.values())
            self._say(f"Ray dashboard: {self._cluster.dashboard}   trials at once: {most}")
            retries = Retries(jobs, resources.retries, callback, self._say)
            self._metrics.follow(frontier, jobs)
            scratch = self._cluster.scratch
            ray_tune.run(
                frontier,
                jobs,
                resources,
                asked,
                at_once,
                callback,
                retries,
                self._reached,
                scratch,
                self._metrics,
                self._say,
            )
            if retries.hopeless:
                raise CannotStart(retries.hopeless)
        return at_once

    def leave(self) -> None:
        self._cluster = None
        self._joined.close()


@contextlib.contextmanager
def _cannot_start() -> Iterator[None]:
    from sweep.execution.backends import ray_cluster

    try:
        yield
    except ray_cluster.CannotRun as error:
        raise CannotStart(str(error)) from error
    except ray_cluster.RAY_ERRORS as error:
        raise CannotStart(
            f"Ray does not answer any more ({type(error).__name__}: "
            f"{ray_cluster.first_line(error)}); the same command goes on from here"
        ) from error
