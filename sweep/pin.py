"""What a grid names on the hub, at the commits that were fetched when the run was started.

A trial's key hashes the names as declared. What runs is pinned, so that no process looks at the hub
again and all trials read the same.
"""

from sweep.trial import Job
from sweep.wanted import Wanted
from trainers import fetch
from trainers.fetch import Commits
from trainers.spec import SftSpec


def pinned(job: Job, commits: Commits) -> Job:
    trial = job.trial
    commit = commits.get(f"model:{trial.model.name}", trial.model.revision)
    model = trial.model.model_copy(update={"revision": commit})
    update = {"model": model, "spec": trial.spec and _spec(trial.spec, commits)}
    wanted = tuple(_wanted(want, commits) for want in job.wanted)
    return job._replace(trial=trial.model_copy(update=update), wanted=wanted)


def _wanted(want: Wanted, commits: Commits) -> Wanted:
    if want.heldout is None:
        return want
    return want.model_copy(update={"heldout": _spec(want.heldout, commits)})


def _spec(spec: SftSpec, commits: Commits) -> SftSpec:
    return spec.model_copy(update={"data": fetch.pinned(spec.data, commits)})
