"""Everything that a grid needs from the hub, fetched once into this machine's caches.

`fetch` runs this module as a process of its own, which alone is ever online: whoever calls it can
stay offline (`HF_HUB_OFFLINE=1`, read by the libraries on import) before, during and after. Waiting
and trying again on 429 and 5xx, by Retry-After where the hub sends one, is huggingface_hub's own.
"""

import json
import os
import re
import subprocess
import sys

from pydantic import Field

from trainers.data.rows import sources
from trainers.hub_errors import reason
from trainers.models import load
from trainers.specs.data import DataSpec, Model
from trainers.specs.evaluation import EvaluateAt, EvaluateSpec
from trainers.specs.fields import Strict
from trainers.tasks import benchmarks
from trainers.tasks.benchmarks import Benchmark

DATASET = re.compile(r"[\w.-]+/[\w.-]+")
"""An id on the hub, told from `json` and its like by its slash."""


class FetchFailed(Exception):
    """Something is not to be had here and now; the message names it and says why."""


class Needs(Strict):
    """What has to be fetched or converted; empty where all is local."""

    models: tuple[Model, ...]
    data: tuple[DataSpec, ...]
    evaluate: EvaluateSpec | None
    """The evaluation, if any of its benchmarks reads the hub."""
    offline: bool
    """Use only what was fetched earlier: the user's own HF_HUB_OFFLINE."""
    held: dict[str, str] = Field(default_factory=dict)
    """Commits to go on with, whatever the hub has now, as `Commits`."""

    @property
    def empty(self) -> bool:
        return not self.models and not self.data and self.evaluate is None


Commits = dict[str, str]
"""`model:<name>`, `data:<name>@<revision>` or `benchmark:<data set>` -> commit on the hub. And
`items:<data set>` where a benchmark is read at another one than the newest."""

ITEMS = "items:"


def needs(named: list[Model], data: list[DataSpec], evaluate: EvaluateSpec) -> Needs:
    """What a grid of these models needs here.

    Raises:
        ModelUnavailable: a model is in a package that is not installed.
    """
    on_hub = [d for d in dict.fromkeys(data) if _on_hub(d)]
    hub_benchmarks = any(hub_data(benchmark, evaluate) for benchmark in _benchmarks(evaluate))
    return Needs(
        models=tuple(
            model for model in named if load.on_hub(model.name) or _to_convert(model.name)
        ),
        data=tuple(on_hub),
        evaluate=evaluate if hub_benchmarks else None,
        offline=os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON"),
    )


def _to_convert(name: str) -> bool:
    file = load.gguf_file(name)
    if file is None:
        return False
    from trainers.models import gguf

    return not gguf.place(file).exists()


def _on_hub(data: DataSpec) -> bool:
    return data.name not in sources.WORLD and not sources.is_local(data.name)


def hub_data(benchmark: Benchmark, spec: EvaluateSpec) -> list[str]:
    """Hub data sets of a benchmark's tasks, read from their files without importing lm-eval."""
    if spec.data_dir is not None and (benchmark.local_files or benchmark.pairs):
        return []
    if benchmark.pairs is not None:
        return [benchmark.pairs.data]
    named = [str(keys.get("dataset_path")) for keys in benchmarks.task_configs(benchmark)]
    return list(dict.fromkeys(name for name in named if DATASET.fullmatch(name)))


def _benchmarks(evaluate: EvaluateSpec) -> list[Benchmark]:
    named = [name for name in evaluate.benchmarks if name not in benchmarks.OF_STAGES]
    return [benchmarks.find(name) for name in named]


def pinned_model(model: Model, commits: Commits) -> Model:
    return model.model_copy(update={"revision": commits.get(f"model:{model.name}", model.revision)})


def pinned_items(evaluate: EvaluateSpec, commits: Commits) -> EvaluateSpec:
    its = {name.removeprefix(ITEMS): at for name, at in commits.items() if name.startswith(ITEMS)}
    return EvaluateAt(**dict(evaluate), commits=its) if its else evaluate


def pinned(data: DataSpec, commits: Commits) -> DataSpec:
    """The same data at the commit that was fetched, which needs no look at the hub."""
    commit = commits.get(data.cache_key)
    return data.model_copy(update={"revision": commit}) if commit else data


def at(needed: Needs, commits: Commits) -> Needs:
    """The same needs at the commits that were fetched here, for the other nodes."""
    update = {
        "models": tuple(pinned_model(model, commits) for model in needed.models),
        "data": tuple(pinned(data, commits) for data in needed.data),
        "held": {name: commit for name, commit in commits.items() if name.startswith(ITEMS)},
    }
    return needed.model_copy(update=update)


def elsewhere(needed: Needs) -> Needs:
    """What of it a node can fetch that does not see this one's files."""
    there = tuple(model for model in needed.models if not os.path.exists(model.name))
    return needed.model_copy(update={"models": there})


def of_trials(needed: Needs) -> Needs:
    """What of it trials read, which find the training data prepared."""
    return needed.model_copy(update={"data": ()})


def fetch(needed: Needs) -> Commits:
    """Fetch, in a process of its own; for every node that runs trials, before any of them.

    Raises:
        FetchFailed: something is not to be had.
    """
    if needed.empty:
        return {}
    quiet = {} if sys.stderr.isatty() else {"TQDM_DISABLE": "1"}  # no bars in a log
    environment = (
        os.environ
        | quiet
        | {
            "HF_HUB_OFFLINE": str(int(needed.offline)),
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
    )
    run = subprocess.run(
        [sys.executable, "-m", "trainers.hub"],
        input=needed.model_dump_json(),
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    if run.returncode:
        raise FetchFailed(run.stdout.strip() or "fetching ended without a word; see above")
    return json.loads(run.stdout.splitlines()[-1])


def access(name: str, kind: str) -> str:
    """Why a `model` or `dataset` cannot be fetched from the hub, asked in a process of its own; ""
    where it can."""
    code = (
        "import sys; from trainers import hub\n"
        "try: hub._look_up(sys.argv[1], sys.argv[2])\n"
        "except hub.FetchFailed as error: print(error); sys.exit(1)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run(
        [sys.executable, "-c", code, name, kind], env=environment, capture_output=True, text=True
    )
    return (run.stdout.strip() or "no answer") if run.returncode else ""


def _look_up(name: str, kind: str) -> None:
    """The hub names the commit of what is gated to everybody; who may fetch it is asked besides."""
    from huggingface_hub import HfApi, errors, set_client_factory

    from trainers import compat_hub

    set_client_factory(compat_hub.bounded_client)
    _commit(name, kind, None, kind)
    try:
        HfApi().auth_check(name, repo_type=kind)
    except errors.RepositoryNotFoundError as error:  # a gated one's is of this class
        raise FetchFailed(f"{kind}: {reason(error)}") from error
    except Exception as error:  # offline, or away: what was fetched before is used
        print(f"{kind}: {reason(error)}", file=sys.stderr)


def main() -> int:
    from huggingface_hub import set_client_factory

    from trainers import compat_hub

    needed = Needs.model_validate_json(sys.stdin.read())
    commits: Commits = {}
    set_client_factory(compat_hub.bounded_client)
    try:
        for model in needed.models:
            commits |= _fetch_model(model.name, model.revision, needed.held)
        for data in needed.data:
            commits |= _fetch_data(data, needed.held)
        if needed.evaluate is not None:
            for benchmark in _benchmarks(needed.evaluate):
                commits |= _fetch_benchmark(benchmark, needed.evaluate, needed.held)
    except FetchFailed as error:
        print(error)
        return 1
    print(json.dumps(commits))
    return 0


def _fetch_model(name: str, revision: str | None, held: Commits) -> Commits:
    what, mark = f"model {name!r}", f"model:{name}"
    commits: Commits = {}
    if load.on_hub(name):
        commits = {mark: _commit(name, "model", revision, what, held.get(mark))}
    try:
        load.local_folder(name, commits.get(mark))
    except Exception as error:  # hub client and file formats each raise their own
        raise FetchFailed(f"{what}: {reason(error, commits.get(mark))}") from error
    return commits


def _fetch_data(data: DataSpec, held: Commits) -> Commits:
    what, mark = f"data set {data.name!r}", data.cache_key
    commits = {mark: _commit(data.name, "dataset", data.revision, what, held.get(mark))}
    try:
        next(sources.rows(pinned(data, commits)))
    except StopIteration:
        raise FetchFailed(f"{what}: split {data.split!r} is empty") from None
    except Exception as error:
        raise FetchFailed(f"{what}: {reason(error, commits[mark])}") from error
    return commits


def _fetch_benchmark(benchmark: Benchmark, spec: EvaluateSpec, held: Commits) -> Commits:
    what = f"benchmark {benchmark.name!r}"
    commits: Commits = {}
    for name in hub_data(benchmark, spec):
        newest, mark = _newest(name, "dataset", None, what), f"benchmark:{name}"
        commit = _kept(newest, held.get(ITEMS + name) or held.get(mark), what, name)
        commits[mark] = commit
        if commit != newest or ITEMS + name in held:
            commits[ITEMS + name] = commit
    if commits and benchmark.pairs is not None:
        at = commits.get(ITEMS + benchmark.pairs.data)
        _fetch_data(
            DataSpec(name=benchmark.pairs.data, split=benchmark.pairs.split, revision=at), {}
        )
    elif commits:
        from trainers.tasks import tasks

        try:
            tasks.load(benchmark, pinned_items(spec, commits))
        except Exception as error:
            raise FetchFailed(f"{what}: {reason(error)}") from error
    return commits


def _commit(name: str, kind: str, revision: str | None, what: str, held: str | None = None) -> str:
    return _kept(_newest(name, kind, revision, what), held, what, name)


def _newest(name: str, kind: str, revision: str | None, what: str) -> str:
    from huggingface_hub import HfApi

    try:
        commit = HfApi().resolve_revision(name, repo_type=kind, revision=revision)
    except Exception as error:  # the hub client raises a dozen unrelated types
        raise FetchFailed(f"{what}: {reason(error, revision)}") from error
    return commit.resolved


def _kept(newest: str, held: str | None, what: str, name: str) -> str:
    """The commit to go on with."""
    commit = held or newest
    newer = "" if commit == newest else f", with which the run began; the hub has {newest[:12]} now"
    print(f"{what}: {name} at {commit[:12]}{newer}", file=sys.stderr)
    return commit


if __name__ == "__main__":
    sys.exit(main())
