"""A trial with all that is needed to run it in any process on any node, and what became of it."""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from sweep.plan.evaluations import Wanted
from sweep.plan.reference_passes import ReferencePass
from sweep.plan.trials import Trial
from sweep.resolve import pin
from sweep.resolve.resolve import ResolvedGrid
from sweep.schedule.progress import training_setting
from sweep.storage import manifest
from sweep.storage.run_folder import RunFolder
from trainers import hub
from trainers.hub import Commits, Needs
from trainers.specs.conditions import Sharding
from trainers.specs.data import DataSpec, Model
from trainers.specs.evaluation import EvaluateSpec
from trainers.specs.file_names import with_files
from trainers.specs.training import TrainingSpec

Named = TypeVar("Named", DataSpec, Model)


class Stored(NamedTuple):
    """Where a run lies whose nodes share no folder."""

    url: str
    """Of the run's folder in the store."""
    inputs: dict[str, str]
    """Files and folders that the grid names, as the job has them -> their names in the store."""


class Limits(NamedTuple):
    """When an attempt at a trial is ended."""

    stalled_seconds: float = math.inf
    """Without a sign of progress, at the latest: it is ended a little earlier."""
    max_seconds: float = math.inf
    """From the start of the attempt."""

    @property
    def silent_seconds(self) -> float:
        """Without a sign, after which the process ends itself; it knows best where it hangs."""
        return self.stalled_seconds - min(30.0, self.stalled_seconds / 4)

    @property
    def silent_seconds_outside(self) -> float:
        """Without a sign, after which the driver ends a process that has not."""
        return self.stalled_seconds - min(5.0, self.stalled_seconds / 10)

    def why_stalled(self, silent: float) -> str:
        minutes = self.stalled_seconds / 60
        return f"no sign of progress for {silent:.0f} s (resources.stalled_minutes: {minutes:g})"

    def of_lanes(self, lanes: int) -> "Limits":
        """Of one training of so many trials: it has the time of all of them."""
        return self._replace(max_seconds=lanes * self.max_seconds)

    @property
    def hard_seconds(self) -> float:
        """From the start of the attempt; one that looks at the time itself has ended by then."""
        return self.max_seconds + GRACE_SECONDS


GRACE_SECONDS = 60.0
"""After a time limit, for a step or a benchmark to end by itself."""


class Job(NamedTuple):
    """A trial with all that is needed to run it in any process on any node."""

    trial: Trial
    folder: str
    parent_folder: str | None
    """With the weights that it starts from; None where it starts from its model as it is."""
    data: str
    wanted: tuple[Wanted, ...]
    evaluate: EvaluateSpec
    threads: int
    """Of each process that trains."""
    evaluation_threads: int
    """Of the one that evaluates."""
    limits: Limits = Limits()
    code: str = ""
    """Hash of the code that the plan was made with; an attempt refuses to run another."""
    setting: str = ""
    """Hash of what its training could fail of (`progress.training_setting`)."""
    ranks: int = 1
    """Processes that train it together."""
    nodes: int = 1
    """On which these processes lie, as many on each."""
    sharding: Sharding = "none"
    """What these processes divide among them."""
    gpus: float = 0.0
    """Share of one GPU, or the number of GPUs, that it may use; with 0 it sees none."""
    cpus: float = 0.0
    """CPUs that it holds, for what it costs."""
    stored: Stored | None = None
    """None where all nodes see the folders above."""
    needed: Needs | None = None
    """What a node has to have of the hub before it runs there; None where it has."""


TRAINED, WAITS, ALONE = "trained", "waits", "alone"
"""What a pass over several trials (`worker/bundle.py`) leaves to be done: scores; all, perhaps in
another pass; all, by the trial alone."""


class Outcome(NamedTuple):
    """For progress lines; the records in the folder are what counts. Seconds are of this start
    alone; of one lane of several, its share of them."""

    key: str
    status: str
    reason: str
    train_seconds: float
    eval_seconds: float

    @property
    def is_final(self) -> bool:
        """Whether nothing is left to do in this start."""
        return self.status not in (TRAINED, WAITS, ALONE)


class TrialCallback(Protocol):
    """Told by a runner what becomes of its trials, in the driver's process."""

    def started(self, key: str, lanes: int = 1) -> None:
        """An attempt begins, at so many trials in one pass."""
        ...

    def sees(self) -> bool:
        """Whether signs of running trials come here now."""
        ...

    def seen(self, key: str) -> bool:
        """The attempt is over; returns whether its records are here. The other methods that follow
        an end are called only then, and this one again until then.

        Raises:
            Unreachable: when it is asked again, and they are not to be had.
        """
        ...

    def handed_back(self, key: str) -> None:
        """The attempt has ended well and left something for a further one."""
        ...

    def retried(self, key: str) -> None:
        """The attempt before this one has failed."""
        ...

    def died(self, key: str) -> None:
        """The attempt has failed; where no reason was recorded, one is to be recorded now."""
        ...

    def ended(self, ended: Outcome) -> None: ...


def make(trial: Trial, parent: Trial | None, resolved: ResolvedGrid, run: RunFolder) -> Job:
    """The job of a planned trial, with hub names at their commits and local names absolute."""
    grid = resolved.grid
    evaluate = grid.evaluate
    if evaluate.data_dir is not None:
        absolute = str(Path(evaluate.data_dir).absolute())
        evaluate = evaluate.model_copy(update={"data_dir": absolute})
    hours = grid.limits.max_trial_hours
    resources = grid.trial_resources(trial.stage)
    job = Job(
        trial=trial,
        folder=str(run.trial(trial).path),
        parent_folder=str(run.trial(parent).path) if parent and parent.spec else None,
        data=str(run.data),
        wanted=() if isinstance(trial, ReferencePass) else resolved.evaluations[trial.stage],
        evaluate=evaluate,
        threads=resources.threads,
        evaluation_threads=resources.evaluation_threads,
        ranks=resources.ranks,
        nodes=resources.nodes_per_trial,
        sharding=resources.sharding,
        gpus=resources.gpus_per_trial,
        cpus=resources.cpus_per_trial,
        limits=Limits(
            stalled_seconds=grid.resources.stalled_minutes * 60,
            max_seconds=hours * 3600 if hours else math.inf,
        ),
        code=_planned_code(),
        setting=training_setting(trial, resolved),
    )
    return pinned(job, resolved.commits)


@cache
def _planned_code() -> str:
    """Of this start of the command, whatever happens to the files while it runs."""
    return manifest.code_hash()


def pinned(job: Job, commits: Commits) -> Job:
    trial = job.trial
    update = {
        "model": pin.model(trial.model, commits),
        "spec": trial.spec and pin.spec(trial.spec, commits),
    }
    wanted = tuple(_wanted(want, commits) for want in job.wanted)
    evaluate = hub.pinned_items(job.evaluate, commits)
    return job._replace(trial=trial.model_copy(update=update), wanted=wanted, evaluate=evaluate)


def moved(job: Job, to: Callable[[str], str]) -> Job:
    """The job with each local name in it (data, models, items, task files) as `to` has it."""

    def named(data: Named) -> Named:
        return data.model_copy(update={"name": to(data.name)})

    def spec(declared: TrainingSpec) -> TrainingSpec:
        return with_files(declared.with_sources(named), to)

    trial, evaluate = job.trial, job.evaluate
    model = named(trial.model)
    wanted = tuple(
        want.model_copy(
            update={"task": to(want.task), "heldout": want.heldout and spec(want.heldout)}
        )
        for want in job.wanted
    )
    if evaluate.data_dir is not None:
        evaluate = evaluate.model_copy(update={"data_dir": to(evaluate.data_dir)})
    trial = trial.model_copy(update={"model": model, "spec": trial.spec and spec(trial.spec)})
    return job._replace(trial=trial, evaluate=evaluate, wanted=wanted)


def _wanted(want: Wanted, commits: Commits) -> Wanted:
    if want.heldout is None:
        return want
    return want.model_copy(update={"heldout": pin.spec(want.heldout, commits)})
